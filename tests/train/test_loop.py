"""Whole runs: what they leave behind, how they go on, and what they refuse."""

import dataclasses
import io
import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.errors import BadInput, FailedRun
from jaxseg.metrics import Warping
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import checkpoint
from jaxseg.train.checkpoint import Checkpoints
from jaxseg.train.log import MEASURED, Console, read_rows
from jaxseg.train.loop import evaluate, fit
from jaxseg.train.optim import SGD
from jaxseg.train.placement import replicated, sharded
from tests.train.toys import CLASSES, Net, Toy, recipe, stage


class Stop(Exception):
    """What stands for a power cut."""


def run(value, workdir, **options):
    return fit(value, workdir, log=Console(quiet=True), **options)


def rows(workdir):
    """metrics.jsonl without what differs from run to run."""
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in read_rows(workdir / "metrics.jsonl")]


def events(workdir):
    """Every scalar of the TensorBoard events, as (tag, step, value)."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event

    assert EventsWriter is not None
    found = []
    for path in sorted((workdir / "tensorboard").glob("events.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return sorted(x for x in found if x[0].split("/")[1] not in MEASURED)


def last(workdir, label="0-main"):
    return checkpoint.read(workdir / "stages" / label / "checkpoints")


def assert_same_end(a, b):
    """The same checkpoint to the bit, the same log, the same pictures."""
    one, two = last(a), last(b)
    assert one.step == two.step
    jax.tree.map(np.testing.assert_array_equal, one.state, two.state)
    assert one.notes == two.notes
    assert rows(a) == rows(b)
    assert events(a) == events(b)
    names = [sorted(p.name for p in (x / "samples").iterdir()) for x in (a, b)]
    assert names[0] == names[1] != []
    for name in names[0]:
        assert (a / "samples" / name).read_bytes() == (b / "samples" / name).read_bytes()
    bests = [checkpoint.read(x / "stages" / "0-main" / "best") for x in (a, b)]
    assert bests[0].step == bests[1].step
    jax.tree.map(np.testing.assert_array_equal, bests[0].state, bests[1].state)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run and its result."""
    workdir = tmp_path_factory.mktemp("straight")
    return workdir, run(recipe(), workdir)


def test_a_run_leaves_all_that_is_promised(straight):
    workdir, metrics = straight
    assert load_file(workdir / "recipe.json") == recipe()
    told = rows(workdir)
    assert [(r["kind"], r["step"]) for r in told] == [
        ("train", 5), ("eval", 6), ("train", 10), ("train", 12), ("eval", 12)
    ]  # fmt: skip
    assert {"loss", "loss/cross_entropy", "grad_norm", "learning_rate"} <= told[0].keys()
    assert metrics == {k: v for k, v in told[-1].items() if k not in ("kind", "stage", "step", "split")}
    assert 0 < metrics["miou"] < 1
    assert sorted(p.name for p in (workdir / "stages/0-main/checkpoints").iterdir()) == ["12", "8"]
    best = checkpoint.read(workdir / "stages/0-main/best")
    assert best.notes["metrics"]["miou"] == max(r["miou"] for r in told if r["kind"] == "eval")
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == ["step_00000006.png", "step_00000012.png"]
    for picture in ("curves.png", "samples/step_00000012.png"):
        assert np.asarray(Image.open(workdir / picture)).std() > 1
    tags = {tag for tag, _, _ in events(workdir)}
    assert {"train/loss", "val/miou"} <= tags
    assert ("val/miou", 12, np.float32(metrics["miou"])) in events(workdir)


def test_it_says_what_it_ran_on(straight, tmp_path, monkeypatch):
    (told,) = read_rows(straight[0] / "machines.jsonl")
    assert (told["stage"], told["step"], told["jax"]) == ("0-main", 0, jax.__version__)
    assert told["hardware"].split(" of ")[0].split()[0] == str(len(os.sched_getaffinity(0)))
    interrupted(monkeypatch, tmp_path, recipe(), at=9)
    run(recipe(), tmp_path)
    run(recipe(), tmp_path)  # finished: nothing is trained any more
    assert [row["step"] for row in read_rows(tmp_path / "machines.jsonl")] == [0, 8]


def test_the_metrics_are_those_of_the_averaged_variables(straight):
    workdir, metrics = straight
    value = recipe().stages[0]
    again = evaluate(value.model, last(workdir).variables, value.task, value.data.eval_batches(batch_size=3))
    assert again == metrics
    own = {"params": last(workdir).state["params"], **last(workdir).state["model_state"]}
    assert evaluate(value.model, own, value.task, value.data.eval_batches(batch_size=3)) != metrics


def test_training_rows_are_means_over_their_steps(straight):
    """Five steps logged one by one have the mean that is logged for all five."""
    workdir, _ = straight
    from jaxseg.train import state as states
    from jaxseg.train.placement import single

    value = recipe().stages[0]
    place, tx = single(), value.optimizer.build(value.steps)
    batches = value.data.train_batches(batch_size=4, seed=0)
    first = [next(batches) for _ in range(5)]
    key = jax.random.fold_in(jax.random.key(0), 0)
    state = states.create(key, value.model, value.task, tx, first[0], ema=True)
    step = place.train_step(value.model, value.task, tx, ema=value.ema, rate=value.optimizer.schedule(value.steps))
    losses = []
    for batch in first:
        state, seen = step(state, batch)
        losses.append(float(seen["loss"]))
    assert rows(workdir)[0]["loss"] == np.mean(losses)
    assert rows(workdir)[0]["learning_rate"] == float(seen["learning_rate"])


def interrupted(monkeypatch, workdir, value, *, at, where="update"):
    """Run until the method ``where`` is called at step ``at``, and stop there."""
    from jaxseg.train.stage import StageTrainer

    plain = getattr(StageTrainer, where)

    def dying(self, *args):
        if self.step == at:
            raise Stop
        return plain(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, where, dying)
        with pytest.raises(Stop):
            run(value, workdir)


@pytest.mark.parametrize(
    ("where", "at"),
    [("update", 2), ("update", 7), ("evaluate", 6), ("_draw", 12), ("save", 12), ("log", 10)],
)
def test_an_interrupted_run_ends_like_the_uninterrupted(straight, tmp_path, monkeypatch, where, at):
    interrupted(monkeypatch, tmp_path, recipe(), at=at, where=where)
    assert run(recipe(), tmp_path) == straight[1]
    assert_same_end(tmp_path, straight[0])


def test_a_torn_last_line_is_cut(straight, tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, recipe(), at=11)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "stage": "0-ma')
    run(recipe(), tmp_path)
    assert_same_end(tmp_path, straight[0])


def test_a_finished_run_is_not_trained_again(straight, monkeypatch):
    workdir, metrics = straight
    from jaxseg.train.stage import StageTrainer

    monkeypatch.setattr(StageTrainer, "update", None)
    assert run(recipe(), workdir) == metrics


@pytest.mark.parametrize("place", [sharded, replicated])
def test_a_run_goes_on_under_another_placement(straight, tmp_path, monkeypatch, place):
    interrupted(monkeypatch, tmp_path, recipe(), at=5)
    run(recipe(), tmp_path, placement=place())
    ours, theirs = last(tmp_path).state, last(straight[0]).state
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)
    assert [r["step"] for r in rows(tmp_path)] == [r["step"] for r in rows(straight[0])]


def test_stages_follow_one_another_and_carry_weights_over(tmp_path, monkeypatch):
    still = SGD(0.0, momentum=0.0)
    first = stage(steps=4, name="wide", save_every=4, eval_every=4, pictures=1)
    second = stage(
        steps=3, name="still", optimizer=still, init="previous", ema=None, model=Net(dropout=0.0), pictures=1
    )
    value = Recipe(stages=(first, second), seed=2)
    metrics = run(value, tmp_path)
    before, after = last(tmp_path, "0-wide"), last(tmp_path, "1-still")
    jax.tree.map(np.testing.assert_array_equal, after.variables["params"], before.variables["params"])
    assert [(r["stage"], r["step"]) for r in rows(tmp_path)] == [
        ("0-wide", 4), ("0-wide", 4), ("1-still", 3), ("1-still", 3)
    ]  # fmt: skip
    assert {step for _, step, _ in events(tmp_path)} == {4, 7}
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step_00000004.png", "step_00000007.png"]
    other = tmp_path / "other"
    interrupted(monkeypatch, other, value, at=3, where="save")
    assert run(value, other) == metrics
    assert rows(other) == rows(tmp_path)
    assert events(other) == events(tmp_path)


def test_a_stage_that_shares_nothing_with_the_one_before_is_refused(tmp_path):
    import flax.linen as nn

    class Other(nn.Module):
        @nn.compact
        def __call__(self, image, *, train=False):
            return {"logits": nn.Conv(3, (1, 1), name="elsewhere")(image.astype("float32"))}

    Other.__qualname__ = "Other"
    globals()["Other"] = Other
    value = Recipe(stages=(stage(steps=1, pictures=0), stage(steps=1, init="previous", model=Other())))
    with pytest.raises(BadInput, match="no variable of the stage before has the same path and shape"):
        run(value, tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"steps": 13}, r"stages\.0\.steps is 12 there and 13 here: .*another schedule.*"),
        ({"optimizer": SGD(0.5)}, r"stages\.0\.optimizer\.learning_rate is Poly there and 0\.5 here.*"),
        ({"model": Net(width=5)}, r"stages\.0\.model\.width is 4 there and 5 here"),
    ],
)
def test_another_recipes_directory_is_refused(straight, change, fault):
    with pytest.raises(BadInput, match=fault + "; choose another work directory"):
        run(recipe(**change), straight[0])


def test_a_directory_from_before_a_field_came_into_being_is_the_same_recipes(straight, tmp_path, monkeypatch):
    interrupted(monkeypatch, tmp_path, recipe(), at=5)
    form = json.loads((tmp_path / "recipe.json").read_text())
    del form["fields"]["stages"][0]["fields"]["keep_last"]
    (tmp_path / "recipe.json").write_text(json.dumps(form))
    assert run(recipe(), tmp_path) == straight[1]
    with pytest.raises(BadInput, match=r"accumulate is 1 there and 2 here"):
        run(recipe(accumulate=2), tmp_path)


def test_a_checkpoint_of_another_model_is_refused(straight, tmp_path):
    """Where recipe.json was lost, the shapes still tell."""
    run(recipe(steps=4, pictures=0), tmp_path)
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(BadInput, match=r"is of another model: .*first/kernel"):
        run(recipe(steps=8, pictures=0, model=Net(width=5)), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    value = recipe(data=Toy(poison=7), save_every=2)
    with pytest.raises(FailedRun, match=r"became nan at step 7; the checkpoint of step 6 is kept") as told:
        run(value, tmp_path)
    assert "\n" not in str(told.value)
    assert last(tmp_path).step == 6
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(last(tmp_path).state))
    assert all(np.isfinite(v) for r in rows(tmp_path) for v in r.values() if isinstance(v, float))


@pytest.mark.parametrize(
    ("size", "accumulate", "fault"), [(6, 1, "4 devices; 4 or 8"), (4, 2, "4 devices times 2 .*; 8")]
)
def test_a_batch_that_the_devices_cannot_share_is_refused_before_anything_is_made(tmp_path, size, accumulate, fault):
    value = recipe(batch_size=size, accumulate=accumulate)
    with pytest.raises(BadInput, match=rf"batch_size {size} does not divide among {fault}"):
        run(value, tmp_path, placement=sharded())
    assert not (tmp_path / "stages").exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(self, step, state, notes):
        if step == 8:
            raise OSError(28, "No space left on device")
        return plain(self, step, state, notes)

    plain = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full)
        with pytest.raises(FailedRun, match=r"no space left on the device of .* give the same command again"):
            run(recipe(pictures=0), tmp_path)
    assert last(tmp_path).step == 4


def test_a_best_metric_that_does_not_exist_is_told_once_and_costs_nothing(tmp_path):
    said = io.StringIO()
    fit(recipe(keep_best="mIoU", steps=2, pictures=0), tmp_path, log=Console(said))
    assert "no metric is called 'mIoU'; there are" in said.getvalue()
    assert last(tmp_path).step == 2


def test_plain_lines_tell_loss_rate_and_time_left(tmp_path):
    said = io.StringIO()
    fit(recipe(pictures=0), tmp_path, log=Console(said))
    lines = said.getvalue().splitlines()
    assert "step 10/12  loss " in lines[2]
    assert "examples/s" in lines[2]
    assert "left" in lines[2]
    assert lines[1].startswith("0-main  step 6/12  validation: miou 0.")
    assert "\x1b" not in said.getvalue()


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    said = Terminal()
    fit(recipe(pictures=0), tmp_path, log=Console(said))
    assert "12/12" in said.getvalue()
    assert "0:00:" in said.getvalue()
    assert "step 10/12" not in said.getvalue()


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BadInput, match="cannot be a work directory"):
        run(recipe(), tmp_path / "taken")


def test_the_best_checkpoint_is_the_lowest_where_lower_is_better(tmp_path):
    task = Semantic(CLASSES, extra_metrics=(Warping(thresholds=(0.4,)),))
    options = {"steps": 6, "eval_every": 1, "save_every": 6, "pictures": 0, "ema": None}
    run(recipe(task=task, keep_best="warping_error", **options), tmp_path)
    errors = {row["step"]: row["warping_error"] for row in rows(tmp_path) if row["kind"] == "eval"}
    best = checkpoint.read(tmp_path / "stages/0-main/best")
    assert errors[best.step] == min(errors.values()) < max(errors.values())
    assert best.step == min(errors, key=lambda step: (errors[step], step))
    known = json.loads((tmp_path / "figures.json").read_text())
    assert [row["name"] for row in known if not row["higher_is_better"]] == ["warping_error", "pixel_error"]


def test_a_recipe_without_averages_or_pictures_or_best(tmp_path):
    value = recipe(steps=2, ema=None, pictures=0, keep_best=None)
    metrics = run(value, tmp_path)
    assert metrics["miou"] > 0
    assert not (tmp_path / "samples").exists()
    assert not (tmp_path / "stages" / "0-main" / "best").exists()
    assert json.loads((tmp_path / "recipe.json").read_text())["type"] == "Recipe"
    assert dataclasses.replace(value.stages[0]) == value.stages[0]
