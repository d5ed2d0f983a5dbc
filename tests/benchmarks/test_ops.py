"""The columns of the operations' benchmark compute the same thing, and its GPU form asks for a GPU."""

import importlib
import sys

import numpy as np
import pytest

from tests.laws.tree import ROOT

FILES = ("measure", "ops", "networks", "gpu")


@pytest.fixture
def load(monkeypatch):
    pytest.importorskip("torch", reason="the other side is PyTorch (extra 'parity')")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in FILES:
        sys.modules.pop(name, None)


ROWS = {
    "convolution": lambda ops: ops.conv_row("", (2, 9, 8, 4), (3, 3, 4, 6), stride=2, padding=1),
    "depthwise": lambda ops: ops.conv_row("", (1, 6, 7, 4), (3, 3, 1, 4), groups=4, padding=1),
    "transposed": lambda ops: ops.transposed_row("", (1, 5, 4, 3), (4, 4, 3, 2), stride=2, padding=1),
    "pool": lambda ops: ops.pool_row("", (1, 8, 6, 3), 3, 2, 1),
    "unpool": lambda ops: ops.unpool_row("", (2, 4, 3, 5), 2),
    "resize": lambda ops: ops.resize_row("", (1, 4, 5, 3), (8, 10)),
}


@pytest.mark.parametrize("name", ROWS)
def test_columns_agree(load, name):
    ops = load("ops")
    row = ROWS[name](ops)
    calls = ops.calls_of(row, plain=True)
    assert set(calls.forward) >= {"jaxseg", "torch nhwc", "torch nchw"}
    ours, *others = [np.asarray(call()) for column, call in calls.forward.items()]
    for other in others:
        moved = other if other.shape == ours.shape else other.transpose(0, 2, 3, 1)
        np.testing.assert_allclose(moved, ours, rtol=1e-4, atol=1e-5)
    gradients = {column: [np.asarray(g) for g in call()] for column, call in calls.gradient.items()}
    order = (2, 3, 0, 1) if row.transposed else (2, 3, 1, 0)
    for column in ("torch nhwc", "torch nchw"):
        for at, (mine, theirs) in enumerate(zip(gradients["jaxseg"], gradients[column], strict=True)):
            moved = theirs.transpose(order if at else (0, 2, 3, 1))
            np.testing.assert_allclose(moved, mine, rtol=1e-4, atol=1e-4)


def test_without_a_gpu_it_says_so(load, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="a GPU is wanted"):
        load("gpu").main()
