"""The table of results says what work directories say, and the committed table is the one that its file gives."""

import json
import re
import sys

import pytest

from jaxseg.errors import BadInput
from jaxseg.recipe import dump, find_file, load_file, override_text, shipped
from tests.laws.tree import ROOT

SET = (
    "stages.0.steps=20",
    "stages.0.batch_size=4",
    "stages.0.log_every=5",
    "stages.0.data.train.transforms=(Resize(180, 240),)",
)


@pytest.fixture(scope="module")
def results():
    """docs/results.py, as a module."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import results

        yield results
    finally:
        sys.path.remove(str(ROOT / "docs"))
        for name in ("results", "catalogue"):
            sys.modules.pop(name, None)


@pytest.fixture
def workdir(tmp_path, results, monkeypatch):
    """A run of segnet_basic_camvid that was interrupted behind its evaluation at step 10 of 20."""
    value = load_file(find_file("segnet_basic_camvid"))
    for change in SET:
        value = override_text(value, change)
    (tmp_path / "recipe.json").write_text(json.dumps(dump(value)))
    place = {"stage": "0-main"}
    rows = [
        {"kind": "train", **place, "step": 5, "loss": 2.0, "seconds": 3.0},
        {"kind": "train", **place, "step": 10, "loss": 1.5, "seconds": 1.0},
        {"kind": "eval", **place, "step": 10, "split": "val", "miou": 0.25, "mean_accuracy": 0.5,
         "pixel_accuracy": 0.75, "miou_void_counted": 0.125, "boundary_f1": 0.375, "iou/sky": 1.0},
        {"kind": "train", **place, "step": 15, "loss": 1.0, "seconds": 9.0},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    machine = {"stage": "0-main", "step": 0, "began": "2026-01-02T03:04:05+00:00", "hardware": "1 core of ACME"}
    (tmp_path / "machines.jsonl").write_text(json.dumps(machine) + "\n")
    seen = {"data_set": "camvid", "images": 101, "trained_at": [180, 240], "evaluated_at": [360, 480]}
    monkeypatch.setattr(results, "seen", lambda data, data_dir: seen)
    return tmp_path


def test_a_work_directory_says_how_far_it_came(results, workdir):
    found = results.measured(workdir)
    assert (found["updates"], found["planned"], found["batch"], found["split"]) == (10, 20, 4, "val")
    assert found["epochs"] == pytest.approx(10 * 4 / 367, abs=0.005)
    assert found["seconds"] == 5 * 3 + 5 * 1
    assert found["hardware"] == ["1 core of ACME"]
    assert found["figures"] == {
        "miou": 0.25, "miou_void_counted": 0.125, "mean_accuracy": 0.5, "pixel_accuracy": 0.75, "boundary_f1": 0.375
    }  # fmt: skip
    assert found["changes"] == {
        "stages.0.steps": ["1000", "20"],
        "stages.0.batch_size": ["12", "4"],
        "stages.0.data.train.transforms": ["()", "(Resize(height=180, width=240),)"],
    }
    assert json.loads(json.dumps(found)) == found


def test_a_run_stands_beside_the_published_figures(results, workdir):
    run = results.measured(workdir)
    table = results.render({"a": run, "b": {**run, "recipe": "fcn_basic_camvid"}})
    other, ours, note = [line for line in table.splitlines() if "camvid`" in line or line.startswith("a: ")]
    assert "47.7, 62.0, 82.7 (233 test images)" in ours
    assert "25.0, 50.0, 75.0 | 12.5 | 37.5" in ours
    assert "10 of 4 (of 20 planned), 0.1 epochs" in ours
    assert "101 of camvid val at 360x480, trained at 180x240" in ours
    assert "1 core of ACME, 20 s" in ours
    assert "47.3, 62.4, 81.7" in other
    assert ours.endswith("| a |")
    assert other.endswith("| a |")
    assert "`stages.0.batch_size` 4 for 12" in note


def test_two_beginnings_make_a_pair(results, workdir):
    run = results.measured(workdir)
    base = {**run, "recipe": "camvid_transfer_mobilenet_v1"}
    late = {"stages.0.init": ["mobilenet.npz", "None"]}
    random = {**base, "changes": {**run["changes"], **late}, "figures": {**run["figures"], "miou": 0.1}}
    assert list(results.paired({"p": base, "r": random, "x": run})) == [("p", "r")]
    assert not list(results.paired({"p": {**base, "changes": {}}, "r": random}))
    table = results.render({"p": base, "r": random})
    (line,) = [line for line in table.splitlines() if "transfer" in line]
    assert "| 25.0, 50.0, 75.0 | 10.0, 50.0, 75.0 | +15.0 |" in line


def test_a_run_of_another_kind_has_its_own_figures_and_units(results, workdir):
    run = results.measured(workdir)
    miou = next(figure for figure in run["described"] if figure["name"] == "miou")
    assert (miou["title"], miou["unit"], miou["higher_is_better"]) == ("mean IoU, void ignored", "%", True)
    error = {"name": "rmse", "title": "error", "unit": "m", "higher_is_better": False}
    share = {"name": "near", "title": "within 25 %", "unit": "%", "higher_is_better": True}
    other = {**run, "figures": {"rmse": 0.51234, "near": 0.875}, "described": [error, share]}
    table = results.render({"a": run, "b": other})
    (line,) = [line for line in table.splitlines() if "error 0.5123 m, within 25 % 87.50 %" in line]
    assert "1 core of ACME, 20 s" in line
    assert "25.0, 50.0, 75.0 | 12.5 | 37.5" in table


def test_what_was_not_evaluated_is_refused(results, workdir):
    (workdir / "metrics.jsonl").write_text("")
    with pytest.raises(BadInput, match="nothing was evaluated"):
        results.measured(workdir)


def test_the_committed_table_is_up_to_date(results):
    kept = json.loads(results.KEPT.read_text(encoding="utf-8"))
    assert results.TABLE.read_text(encoding="utf-8") == results.render(kept), "say: python docs/results.py"
    names = set(shipped())
    assert {run["recipe"] for run in kept.values()} <= names


def test_published_figures_are_read_from_the_recipes(results):
    read = {recipe.name: results.theirs(recipe.fields["Published"]) for recipe in results.catalogue.recipes()}
    assert read["enet_camvid"] == "51.3 (233 test images)"
    for name in ("segnet_basic_camvid", "encoder_addition_camvid", "fcn_basic_noaddition_camvid"):
        assert re.fullmatch(r"\d\d\.\d, \d\d\.\d, \d\d\.\d \(233 test images\)", read[name]), name
