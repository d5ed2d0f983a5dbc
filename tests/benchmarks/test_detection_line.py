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
    found = {row.name: row.extra["GFLOP an image"] for row in line.shared(options)}
    one_crop = 30.9 / 256  # VGG16's convolutions at 224x224, of a sixteenth of the channels
    assert found["R-CNN"] == pytest.approx(64 * one_crop, rel=0.15)
    assert found["R-CNN"] > 20 * found["Fast R-CNN"]


def test_every_recipe_of_the_line_that_is_there_is_of_the_scenes(line):
    from jaxseg.recipe_files import shipped

    known = [name for name in line.LINE if name in shipped()]
    assert {"rcnn_scenes", "fast_rcnn_scenes", "faster_rcnn_end_to_end_scenes"} <= set(known)
