"""The documentation's examples: ``python`` blocks run, page by page, in the order of reading; commands are parsed,
and those about weights run in ``test_commands.py``.

The blocks of a page share their names, as a reader's session would; functions called ``test_*`` are then called too.
A block behind the line ``<!-- not run: why -->`` is left alone.
"""

import re
import shlex
import sys
import types
from pathlib import Path

import click
import pytest

import jaxseg.registry
import jaxseg.viz
from jaxseg.cli.main import app
from jaxseg.cli.train import DEFAULT_RECIPE
from jaxseg.recipe import find_file, load_file, override_text
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
    painters = sys.modules["jaxseg.viz.painter"]
    painters.registered_painters()
    monkeypatch.setattr(painters, "_painters", dict(painters._painters))


WRITTEN = {"add-a-model.md"}
"""Pages whose blocks are files of their own, which other tests write and run."""


TRAINED = {"train-on-your-own-images.md"}
"""Pages that train networks: they run with the slow tests."""


def marked(path):
    """The page as a parameter, slow where it trains."""
    return pytest.param(path, marks=pytest.mark.slow if path.name in TRAINED else (), id=name_of(path))


@pytest.mark.parametrize("path", [marked(path) for path in PAGES if blocks(path) and path.name not in WRITTEN])
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


def commands_of(path: Path) -> list[list[str]]:
    """The words of every ``jaxseg ...`` line in the shell blocks, without ``.venv/bin/`` and comments."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        lines = re.findall(r"(?:^|/)(jaxseg .*)$", block, re.MULTILINE)
        found += [shlex.split(line, comments=True)[1:] for line in lines]
    return found


WRITTEN_BY_NEW = {"cells.py", "street.py"}
"""Recipes that commands of the pages write."""


@pytest.mark.parametrize("words", [words for path in PAGES for words in commands_of(path)], ids=" ".join)
def test_the_commands_are_understood(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    command, arguments = app, list(words)
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), arguments.pop(0))
    assert command is not None
    parameters = command.make_context("jaxseg", arguments, help_option_names=["-h", "--help"]).params
    if words[0] == "train" and parameters["data"] is None and parameters["recipe"] not in WRITTEN_BY_NEW:
        recipe = load_file(find_file(parameters["recipe"] or DEFAULT_RECIPE))
        for change in parameters["changes"]:
            recipe = override_text(recipe, change)
