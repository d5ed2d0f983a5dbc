"""The catalogue, the map and the pages of the papers say what is there, and nothing else."""

import re
import runpy
import sys

import pytest

from jaxseg.registry import entries
from tests.laws.tree import ROOT, modules, name_of, tracked


@pytest.fixture(scope="module")
def catalogue():
    """docs/catalogue.py as a module's names."""
    sys.modules.pop("catalogue", None)
    return runpy.run_path(str(ROOT / "docs" / "catalogue.py"), run_name="catalogue")


@pytest.fixture(scope="module")
def rows(catalogue):
    return catalogue["rows"]()


def test_every_registered_network_is_in_the_catalogue(catalogue, rows):
    page = catalogue["page"](rows)
    for name, entry in entries().items():
        assert f"| `{name}` |" in page
        assert entry.paper in page


def test_the_readme_table_is_up_to_date(catalogue, rows):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == catalogue["updated"](readme, catalogue["zoo"](rows)), "say: make catalogue"


def test_the_generated_parts_are_up_to_date(catalogue, rows):
    """The tables of networks on the papers' pages, the list of papers, the README's table."""
    generated = catalogue["generated"](rows)
    assert len(generated) > 20
    stale = [name_of(path) for path, text in generated.items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "say: make catalogue"


def test_a_paper_without_a_page_is_given_one(catalogue, rows):
    """It names the paper, so that it is found, and has a place for the networks."""
    row = next(row for row in rows if row.name == "pan_resnet50")
    page = catalogue["paper_page"](row)
    assert page.startswith("# PAN")
    assert row.paper in page
    assert "| `pan_resnet50` |" in catalogue["updated"](page, catalogue["networks"]([row]), "networks")


def test_every_paper_has_a_page(rows):
    missing = {row.paper for row in rows if row.page is None}
    assert not missing, f"no page in docs/papers names {missing}"


def test_parameter_counts_are_the_papers(catalogue, rows):
    """To as many digits as the source gives, by the snapshots, which a contract holds to the networks."""
    agrees = catalogue["agrees"]
    wrong = {r.name: (r.ours, r.published) for r in rows if r.published and not agrees(r.ours, r.published)}
    assert not wrong, f"name: (ours, the paper's): {wrong}"


PLACE = re.compile(r"`((?:jaxseg|tests|docs|experiments|benchmarks)/[\w./-]+)`")


def test_places_named_in_the_documentation_exist():
    faults = []
    for path in tracked():
        # their files are the reader's own
        example = path.name in ("add-a-model.md", "add-a-task.md", "add-a-dataset.md")
        if path.suffix == ".md" and not example:
            places = PLACE.findall(path.read_text(encoding="utf-8"))
            faults += [f"{name_of(path)} names {place}" for place in places if not (ROOT / place).exists()]
    assert not faults, "\n".join(faults)


FOUND_BY_NAME = ("jaxseg/models/", "jaxseg/data/sets/", "jaxseg/cli/", "jaxseg/viz/painters/")
"""Rooms of one file per thing that has a name: a new network, data set, verb or painter needs no line of the map."""


def test_the_map_knows_every_file():
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    files = [name_of(path) for path in modules("jaxseg") if not path.name.startswith("_")]
    missing = [name for name in files if f"`{name}`" not in text and not name.startswith(FOUND_BY_NAME)]
    assert files
    assert not missing, f"docs/map.md does not say where these belong: {missing}"


def test_the_map_leads_to_the_names():
    faults = []
    for line in (ROOT / "docs" / "map.md").read_text(encoding="utf-8").splitlines():
        cells = [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and len(cells[1]) == 1 and cells[1][0].endswith(".py"):
            code = (ROOT / cells[1][0]).read_text(encoding="utf-8")
            defined = set(re.findall(r"^(?:def|class) (\w+)|^(\w+)(?:: [^=]+)? =", code, re.MULTILINE))
            names = {name for pair in defined for name in pair}
            faults += [f"{name} is not in {cells[1][0]}" for name in cells[2] if name not in names]
    assert not faults, "\n".join(faults)


def test_local_links_lead_somewhere():
    faults = []
    for path in (p for p in tracked() if p.suffix == ".md"):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text(encoding="utf-8")):
            generated = "_generated/" in target or "docs/_generated" in str(path)
            if not generated and not (path.parent / target).exists():
                faults.append(f"{name_of(path)} links to {target}")
    assert not faults, "\n".join(faults)


def test_every_module_has_a_page_of_the_reference():
    """Which the build of the docs would say, minutes later."""
    pages = runpy.run_path(str(ROOT / "docs" / "reference.py"))["api_pages"]()
    assert "jaxseg.files.cache_dir" in pages["vocabulary"]
