"""The rows of whole networks: every family has one or a reason, and both sides of a row are the same network."""

import importlib
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxseg.registry import entries
from tests.laws.tree import ROOT

FILES = ("measure", "networks", "torch_families", "torch_networks", "torch_public")


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("networks")
    for name in FILES:
        sys.modules.pop(name, None)


def family(name):
    """The file of a semantic network."""
    return entries()[name].module.rpartition(".")[2]


def test_every_semantic_family_has_a_row_or_a_reason(networks):
    families = {family(name) for name, entry in entries().items() if entry.task == "semantic"}
    with_row = {family(row.model) for row in networks.ROWS}
    assert "fcn" in with_row
    assert families == with_row | set(networks.without())
    assert set(networks.WITHOUT) <= set(networks.without())
    assert not with_row & set(networks.WITHOUT)


def test_both_sides_have_the_same_parameters(networks):
    torch = pytest.importorskip("torch", reason="the other side is PyTorch (extra 'parity')")
    rows = [row for row in networks.ROWS if row.torch.startswith("torch_")]
    assert len(rows) >= 10
    for row in rows:
        entry = entries()[row.model]
        with torch.device("meta"):
            network = networks.torch_network(replace(row, classes=entry.fields["num_classes"]))
        ours = counted(entry) if entry.params is None else entry.params
        assert sum(p.numel() for p in network.parameters()) == ours, row.model


def counted(entry):
    """The parameters of a network of which no source gives the number."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    shapes = jax.eval_shape(entry.build().init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_rows_that_cannot_run_are_named(networks):
    row = networks.Row("unet", "torch_networks.UNet", needs=("json", "no_such_library"))
    assert row.missing == ["no_such_library"]
