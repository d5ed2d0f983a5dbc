"""``docs/add-a-model.md``, followed in a copy of the repository: three new files, ``make catalogue``, green laws."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.laws.tree import ROOT, tracked

PAGE = ROOT / "docs" / "add-a-model.md"
NAME = "context_net"

CHECKS = (
    "tests/models/test_context_net.py",
    "tests/laws/test_catalogue.py",
    "tests/laws/test_imports.py",
    "tests/laws/test_public.py",
    "tests/laws/test_files.py",
    "tests/learn/test_networks.py::test_every_family_learns",
    "tests/benchmarks/test_networks.py::test_every_semantic_family_has_a_row_or_a_reason",
    "tests/benchmarks/test_parity.py::test_every_set_of_rules_has_a_public_network",
)
"""Whatever might ask for another file; of the contracts and the recipes' laws those of the new names run as well."""


def parts():
    """(path or None, code) of every block: the first behind a heading that names a file is that file."""
    heading, found = None, []
    for line in re.split(r"(?m)^(?=## |```python\n)", PAGE.read_text(encoding="utf-8")):
        if line.startswith("## "):
            named = re.search(r"`([\w/]+\.py)`", line.split("\n", 1)[0])
            heading = named[1] if named else None
        elif line.startswith("```python\n"):
            found.append((heading, line.removeprefix("```python\n").split("\n```", 1)[0] + "\n"))
            heading = None
    return found


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository, without its history, with the page's files in it and the catalogue made."""
    folder = tmp_path_factory.mktemp("repository")
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name, code in parts():
        if name is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            assert not (folder / name).exists()
            (folder / name).write_text(code, encoding="utf-8")
    run(folder, "docs/catalogue.py")
    return folder


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_the_page_has_three_files():
    assert [name for name, _ in parts() if name] == [
        "jaxseg/models/semantic/context_net.py",
        "experiments/context_net_scenes.py",
        "tests/models/test_context_net.py",
    ]


def test_the_catalogue_writes_all_the_rest(copy):
    changed = [p for p in tracked() if (copy / p.relative_to(ROOT)).read_bytes() != p.read_bytes()]
    assert {path.name for path in changed} == {"README.md", "dilated.md", "index.md"}
    assert "params/conv1/kernel 3x3x3x21" in (copy / "tests" / "contracts" / "snapshots" / f"{NAME}.txt").read_text()
    assert f"| `{NAME}` |" in (copy / "docs" / "papers" / "dilated.md").read_text()


def test_the_blocks_of_the_page_run(copy):
    run(copy, "-c", "\n".join(code for name, code in parts() if name is None))


def test_the_laws_and_contracts_are_green(copy):
    pytest_of = ("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider")
    assert "failed" not in run(copy, *pytest_of, *CHECKS)
    said = run(copy, *pytest_of, "tests/contracts", "tests/laws/test_recipes.py", "-k", NAME)
    assert int(re.search(r"(\d+) passed", said)[1]) >= 12
