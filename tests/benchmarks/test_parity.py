"""The parity table's bookkeeping: every set of rules has a network to compare with, and old rows stay."""

import sys

import pytest

from jaxseg.registry import create_model
from tests.laws.tree import ROOT


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import parity

    yield parity
    for name in [n for n in sys.modules if n.split("_")[0] == "parity"]:
        del sys.modules[name]


def test_every_set_of_rules_has_a_public_network(parity):
    missing = [pair for pair in parity.pairs() if pair[0] not in parity.references_of(pair[1]).REFERENCES]
    assert ("fcn_resnet50", "torchvision") in set(parity.pairs())
    assert not missing, f"a line in benchmarks/parity_LIBRARY.py for each of {missing}"


def test_every_public_network_has_rules(parity):
    known = set(parity.pairs())
    for implementation in parity.LIBRARIES:
        assert {(name, implementation) for name in parity.references_of(implementation).REFERENCES} <= known


def test_the_page_holds_every_network(parity):
    page = (ROOT / "docs" / "benchmarks" / "parity.md").read_text()
    missing = [pair for pair in parity.pairs() if f"| `{pair[0]}` | {pair[1]} |" not in page]
    assert not missing, f"python benchmarks/parity.py --missing --out docs/benchmarks/parity.md, for {missing}"


def test_rows_replace_those_of_the_same_network(parity):
    row = parity.Row("b", "smp", 7, {(64, 96): 1e-6, (67, 45): 2e-6})
    old = f"{parity.HEAD}\n| `c` | smp | 1 | | |\n| `b` | timm | 2 | | |\n| `b` | smp | 3 | | |\n"
    lines = [line for line in parity.merged(old, [str(row)]).splitlines()[2:] if line.startswith("|")]
    assert lines == [str(row), "| `b` | timm | 2 | | |", "| `c` | smp | 1 | | |"]
    assert row.worst == 2e-6


def test_missing_rows_alone_are_made(parity, monkeypatch, tmp_path):
    def row(*pair):
        return parity.Row(*pair, 7, {(64, 96): 1e-6})

    first, *others = parity.pairs("resnext*")
    page, compared = tmp_path / "parity.md", []
    page.write_text(parity.merged("", [str(row(*first))]))
    monkeypatch.setattr(parity, "compare", lambda *pair: compared.append(pair) or row(*pair))
    monkeypatch.setattr(sys, "argv", ["parity.py", "--only", "resnext*", "--missing", "--out", str(page)])
    assert parity.main() == 0
    assert compared == others
    assert all(str(row(*pair)) in page.read_text() for pair in (first, *others))


def test_statistics_of_the_input_are_found(parity):
    assert parity.standardization(create_model("unet")).channels == 3
    assert parity.standardization(create_model("fcn_resnet50")).channels == 3
    with pytest.raises(ValueError, match="no field of type Standardize"):
        parity.standardization(parity.Row("a", "b", 1, {}))
