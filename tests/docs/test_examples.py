"""Every ``python`` block of the README and of the documentation runs, page by page, in the order of reading.

The blocks of a page share their names, as a reader's session would; functions called ``test_*`` are then called too.
A block behind the line ``<!-- not run: why -->`` is left alone.
"""

import re
import sys
import types
from pathlib import Path

import pytest

import jaxseg.registry
from tests.laws.tree import ROOT, name_of, tracked

FENCE = re.compile(r"(<!-- not run: [^\n]*-->\n+)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [path for path in tracked() if path.suffix == ".md" and (path.parent == ROOT or ROOT / "docs" in path.parents)]


def blocks(path: Path) -> list[tuple[int, str]]:
    """Line number and code of every block that runs."""
    text = path.read_text(encoding="utf-8")
    found = [(text.count("\n", 0, m.start(2)), m[2]) for m in FENCE.finditer(text) if not m[1]]
    return found


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader's machine: an empty folder, its own data sets, and a registry that forgets the examples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSEG_DATA_DIR", str(tmp_path / "data"))
    jaxseg.registry.entries()
    monkeypatch.setattr(jaxseg.registry, "_entries", dict(jaxseg.registry._entries))


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path)], ids=name_of)
def test_the_examples_run(path, reader, monkeypatch):
    module = types.ModuleType("example")  # a real one, so that classes defined in it can be named in recipes
    monkeypatch.setitem(sys.modules, "example", module)
    for line, code in blocks(path):
        exec(compile("\n" * line + code, str(path), "exec"), vars(module))
    for name, function in list(vars(module).items()):
        if name.startswith("test_"):
            function()


def test_the_readme_has_an_example():
    assert blocks(ROOT / "README.md")
