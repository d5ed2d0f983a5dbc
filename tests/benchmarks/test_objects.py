"""The columns of the benchmark of detection operations compute the same thing."""

import importlib
import sys

import pytest

from tests.laws.tree import ROOT
from tests.torchvision_cpu import torchvision_or_skip


@pytest.fixture
def objects(monkeypatch):
    pytest.importorskip("torch", reason="the other side is PyTorch (extra 'parity')")
    torchvision_or_skip()
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("objects")
    for name in ("measure", "objects"):
        sys.modules.pop(name, None)


def compiled_operators_load(objects):
    torch = objects.torch
    try:
        objects.theirs.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, NotImplementedError):
        return False
    return True


ROWS = {
    "match": lambda objects: objects.match_row(64, 96, 5),
    "top k": lambda objects: objects.top_k_row(300, 10, rows=2),
    "paste": lambda objects: objects.paste_row(3, 48, 64),
}
COMPILED = {
    "nms": lambda objects: objects.nms_row("clustered", 100),
    "nms of chains": lambda objects: objects.nms_row("chain", 40, count=10),
    "nms of classes": lambda objects: objects.class_nms_row(100, 5),
    "detections": lambda objects: objects.detections_row(50, 6, 0.05),
    "RoIAlign": lambda objects: objects.roi_align_row(20, 7, image=(64, 96), channels=3),
    "RoIAlign's gradient": lambda objects: objects.roi_align_row(
        20, 7, ratio=0, gradient=True, image=(64, 96), channels=3
    ),
}


@pytest.mark.parametrize("name", [*ROWS, *COMPILED])
def test_columns_agree(objects, name):
    if name in COMPILED and not compiled_operators_load(objects):
        pytest.skip("torchvision's compiled operators do not load here")
    row = (ROWS | COMPILED)[name](objects)
    assert row.same(row.ours(), row.theirs())
