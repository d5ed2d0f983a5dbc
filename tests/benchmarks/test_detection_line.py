"""What the line's benchmark counts is what the papers say: regions that share nothing cost a network each."""

import argparse
import importlib
import sys

import pytest

from tests.laws.tree import ROOT


@pytest.fixture
def line(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("detection_line")
    for name in ("measure", "detection_line"):
        sys.modules.pop(name, None)


def test_what_is_shared_is_counted_once(line):
    options = argparse.Namespace(size=(160, 224), width=4, proposals=64, count=True)
    found = {row["system"]: row["GFLOP an image"] for row in line.shared(options)}
    one_crop = 30.9 / 256  # VGG16's convolutions at 224x224, of a sixteenth of the channels
    assert found["R-CNN"] == pytest.approx(64 * one_crop, rel=0.15)
    assert found["R-CNN"] > 20 * found["Fast R-CNN"]


def test_every_recipe_of_the_line_is_there(line):
    from jaxseg.recipe_files import shipped

    assert set(line.LINE) <= set(shipped())


def test_a_system_is_trained_for_the_minutes_once_and_its_row_stands_in_the_page(line, tmp_path, monkeypatch):
    def trained(name, minutes, data_dir):
        calls.append(name)
        figures = {"box_ap50": 50.0, "box_ap": 25.0, "images a second": 4.0, "search_s": None}
        return {"asked": minutes, "updates": 7, **figures}

    calls, keep = [], tmp_path / "line.json"
    monkeypatch.setattr(line, "trained", trained)
    for minutes in (3.0, 3.0, 4.0):
        line.train_line(argparse.Namespace(system="ssd_scenes", minutes=minutes, data_dir=None, keep=keep))
    line.add(keep, {"count": {"title": "One image", "rows": [{"system": "R-CNN", "GFLOP an image": 9.0}]}})
    assert calls == ["ssd_scenes"] * 2
    text = keep.with_suffix(".md").read_text()
    assert "trained for 4 minutes" in text
    assert (
        "| SSD | everything: one stage, a box for every cell of several maps | 7 | 50.0 | 25.0 |  |  | 4.0 |  |" in text
    )
    assert "| R-CNN | 9.0 |" in text
