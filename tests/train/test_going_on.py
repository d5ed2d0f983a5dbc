"""Runs that go on under a changed recipe, runs that are forked, and runs that stop early."""

import contextlib
import io
import json
import shutil

import jax
import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.errors import BadInput
from jaxseg.recipe import dump, load_file
from jaxseg.train import checkpoint
from jaxseg.train.changes import refusals
from jaxseg.train.fork import fork
from jaxseg.train.log import Console, MetricsFile, read_rows
from jaxseg.train.loop import fit
from jaxseg.train.optim import SGD, AdamW, Milestones, Poly
from jaxseg.train.patience import best_and_waited
from jaxseg.types import Figure
from tests.data.folder_trees import pair
from tests.train.toys import Net, recipe

PLAIN = SGD(0.05, momentum=0.9)


def plain(**changes):
    return recipe(**{"optimizer": PLAIN, "pictures": 0, "steps": 6, "save_every": 3, "eval_every": 3, **changes})


def run(value, workdir):
    return fit(value, workdir, log=Console(quiet=True))


def state_of(workdir):
    return checkpoint.read(workdir / "stages" / "0-main" / "checkpoints")


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Six steps at a constant rate."""
    workdir = tmp_path_factory.mktemp("short")
    run(plain(), workdir)
    return workdir


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Nine of the same."""
    workdir = tmp_path_factory.mktemp("long")
    run(plain(steps=9), workdir)
    return workdir


def copied(workdir, place):
    shutil.copytree(workdir, place, dirs_exist_ok=True)
    return place


def test_more_steps_at_a_constant_rate_end_where_one_run_would_have(short, long, tmp_path):
    workdir = copied(short, tmp_path / "again")
    run(plain(steps=9, log_every=1, keep_last=5), workdir)
    jax.tree.map(np.testing.assert_array_equal, state_of(workdir).state, state_of(long).state)
    assert json.loads((workdir / "recipe.json").read_text())["fields"]["stages"][0]["fields"]["steps"] == 9


def test_a_fork_with_more_steps_ends_where_one_run_would_have(short, long, tmp_path):
    assert fork(short, tmp_path / "fork", plain(steps=9)) == 6
    run(plain(steps=9), tmp_path / "fork")
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path / "fork").state, state_of(long).state)
    steps = [row["step"] for row in read_rows(tmp_path / "fork" / "metrics.jsonl") if row["kind"] == "eval"]
    assert steps == [3, 6, 9]
    note = json.loads((tmp_path / "fork" / "forked_from.json").read_text())
    assert (note["step"], note["changed"]) == (6, ["stages.0.steps: 6 -> 9"])
    assert fork(short, tmp_path / "fork", plain(steps=9)) == 6, "the same command resumes"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"batch_size": 8}, "batch_size is 4 there and 8 here: from step 6 on an update would be of 8 images"),
        ({"optimizer": SGD(0.5, momentum=0.9)}, r"learning rate at step 6 would be 0\.5 instead of 0\.05"),
        ({"optimizer": AdamW(0.05)}, "the updates so far are another optimizer's"),
        ({"steps": 4}, "6 updates are made already"),
        ({"ema": None}, r"ema is 0\.9 there and null here"),
    ],
)
def test_what_would_be_another_run_is_refused_with_what_it_means(short, changes, fault):
    with pytest.raises(BadInput, match=fault + r".*choose another work directory, or give a new --workdir and --fork"):
        run(plain(**changes), short)


def test_more_steps_under_a_schedule_that_spans_them_say_where_the_rate_would_jump():
    old, new = (dump(plain(optimizer=SGD(Poly(0.1)), steps=steps)) for steps in (6, 12))
    (line,) = refusals(old, new, [6])
    assert "followed another schedule, and the learning rate at step 6 would be 0.0536 instead of 0.0199" in line


def test_a_schedule_that_is_the_same_so_far_goes_on():
    old = dump(plain())
    restated = SGD(Milestones(0.05, at=(6,), factor=0.1), momentum=0.9)
    assert refusals(old, dump(plain(optimizer=restated, steps=12)), [6]) == []
    assert refusals(old, dump(plain(optimizer=restated, steps=12)), [7]) != []


def test_a_fork_takes_another_optimizer_rate_batch_and_average(short, tmp_path):
    out = io.StringIO()
    value = plain(optimizer=AdamW(1e-3), batch_size=4, ema=None, steps=8)
    fork(short, tmp_path / "fork", value, Console(out))
    assert "they start afresh" in out.getvalue()
    before, now = state_of(short).state, state_of(tmp_path / "fork").state
    jax.tree.map(np.testing.assert_array_equal, before["params"], now["params"])
    assert np.isfinite(run(value, tmp_path / "fork")["miou"])
    assert state_of(tmp_path / "fork").step == 8


def test_a_fork_into_another_run_or_from_none_is_refused(short, long, tmp_path):
    with pytest.raises(BadInput, match="holds a run already that is no fork of"):
        fork(short, long, plain())
    with pytest.raises(BadInput, match="holds no run to fork"):
        fork(tmp_path, tmp_path / "new", plain())
    with pytest.raises(BadInput, match=r"steps is 4, but .* has made 6 updates already"):
        fork(short, tmp_path / "new", plain(steps=4))


def test_at_another_batch_size_the_stream_goes_on_after_the_examples_that_were_seen(tmp_path):
    tiny = (("size", 8), ("train", 5), ("val", 2))
    data = Data(Source("scenes", "train", (), tiny), Source("scenes", "val", (), tiny))
    of_two, of_three = (data.train_batches(batch_size=n, seed=0, data_dir=tmp_path) for n in (2, 3))
    with contextlib.closing(of_two), contextlib.closing(of_three):
        pairs = [next(of_two)["image"] for _ in range(6)]
        of_three.set_state({"rows": 6})
        np.testing.assert_array_equal(next(of_three)["image"], np.concatenate(pairs)[6:9])


def test_a_stage_without_improvement_stops_and_stays_finished(tmp_path, monkeypatch):
    """At a rate of 0 nothing improves on the first evaluation."""
    value = plain(optimizer=SGD(0.0), ema=None, steps=40, eval_every=2, save_every=5, patience=2, model=Net(norm=False))
    out = io.StringIO()
    metrics = fit(value, tmp_path, log=Console(out))
    assert state_of(tmp_path).step == 6
    assert "stopped at step 6: miou has not improved on" in out.getvalue()
    monkeypatch.setattr("jaxseg.train.stage.StageTrainer.update", None)
    assert run(value, tmp_path) == metrics, "the same call trains no more"


def test_patience_counts_evaluations_since_the_best_whichever_way_is_better():
    def rows(*values):
        return [{"kind": "eval", "stage": "0-a", "step": i, "x": v} for i, v in enumerate(values)]

    up, down = Figure("x", "x"), Figure("x", "x", higher_is_better=False)
    assert best_and_waited(rows(0.1, 0.3, 0.2, 0.3), "0-a", "x", up) == (1, 0.3, 2)
    assert best_and_waited(rows(0.1, 0.3, 0.2, 0.3), "0-a", "x", down) == (0, 0.1, 3)
    assert best_and_waited([], "0-a", "x", up) is None


def test_patience_for_a_figure_that_is_never_measured_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxseg.train.stage.StageTrainer.update", None)
    with pytest.raises(BadInput, match=r"keep_best='mIou', but no metric is called so; did you mean 'miou'"):
        run(plain(patience=2, keep_best="mIou"), tmp_path)
    with pytest.raises(BadInput, match="needs keep_best"):
        plain(patience=2, keep_best=None)


def test_a_run_on_a_relative_folder_is_found_from_any_directory(tmp_path, monkeypatch):
    for seed in range(2):
        pair(tmp_path / "cells", f"images/{seed}.png", f"masks/{seed}.png", seed)
    source = Source("folder:cells", "train", options=(("split", 0),))
    value, work = plain(data=Data(train=source, val=source), steps=1), tmp_path / "run"
    with contextlib.closing(checkpoint.Checkpoints(work / "stages" / "0-main" / "checkpoints", keep=1)) as kept:
        kept.save(1, {"step": np.int32(1)}, notes={})  # a finished run
    with contextlib.closing(MetricsFile(work, {"0-main": 0}, at=("0-main", 1))) as rows:
        rows.write("eval", "0-main", 1, {"miou": 0.5}, split="val")
    monkeypatch.chdir(tmp_path)
    assert run(value, work) == run(value, work) == {"miou": 0.5}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_file(work / "recipe.json").stages[0].data.facts().splits == {"train": 2}
    with pytest.raises(BadInput, match=r"holds a run of another recipe: .*elsewhere/cells. here;"):
        run(value, work)
    with pytest.raises(BadInput, match=r"there is no folder .*elsewhere/cells$"):
        run(value, tmp_path / "other")
