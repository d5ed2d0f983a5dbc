"""The examples in docstrings run, module by module, under what the whole suite runs under: warnings are errors.

An example sees the names of its module, and ``jax``, ``jnp`` and ``np``. Examples are found in the source, so that
those of compiled functions (``jax.jit``, ``jax.custom_vjp``) and of private ones run too.
"""

import ast
import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.laws.tree import ROOT, modules, name_of, parse

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path):
    """(name, line, text) of every docstring that has an example."""
    for node in ast.walk(parse(path)):
        if isinstance(node, DOCUMENTED):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                yield getattr(node, "name", "the module"), node.body[0].lineno, text


FILES = [path for path in modules("jaxseg") if any(docstrings(path))]


def failures(path, namespace):
    """What doctest prints of a file's examples that fail; '' where all hold."""
    found = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for name, line, text in docstrings(path):
        test = doctest.DocTestParser().get_doctest(text, dict(namespace), name, str(path), line - 1)
        runner.run(test, out=found.append)
    return "".join(found)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_examples_of_docstrings_hold(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    namespace = {"jax": jax, "jnp": jnp, "np": np, **vars(importlib.import_module(dotted))}
    if said := failures(path, namespace):
        pytest.fail(said, pytrace=False)


def test_a_wrong_example_is_found(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text('def double(x):\n    """Return 2 x.\n\n    >>> double(2)\n    5\n    """\n    return 2 * x\n')
    assert "Expected:\n    5\nGot:\n    4" in failures(wrong, {"double": lambda x: 2 * x})
