"""What the command line may put into a recipe: Python literals, and pieces by name such as ``OneCycle(0.1)``."""

import ast
import dataclasses
import importlib
from typing import Any

from jaxseg.errors import BadInput, suggest

CONSTRUCTORS = ("jaxseg.data.transforms", "jaxseg.losses", "jaxseg.train.optim")
"""The modules whose frozen dataclasses may be built by name."""


def parse_literal(text: str) -> Any:
    """The value that a Python literal spells, in which pieces may stand: ``(Resize(180, 240), RandomFlip())``.

    Nothing is run but the constructors of the dataclasses that the modules of :data:`CONSTRUCTORS` offer, with
    literals and pieces for arguments.

    Raises:
      ValueError, SyntaxError: the text is no such expression; it may still stand for itself.
      BadInput: it names a piece that does not exist or takes other arguments.
    """
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple | ast.List):
        items = [_value(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _piece(node, node.func.id)
    return ast.literal_eval(node)


def _piece(node: ast.Call, name: str) -> Any:
    known = _known()
    if name not in known:
        raise BadInput(f"there is no piece {name}(...) to build{suggest(name, known)}")
    if any(isinstance(argument, ast.Starred) for argument in node.args) or any(k.arg is None for k in node.keywords):
        raise BadInput(f"{name}(...) takes values, without stars")
    arguments = [_value(argument) for argument in node.args]
    named = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    try:
        return known[name](*arguments, **named)
    except TypeError as error:
        parts = ", ".join(field.name for field in dataclasses.fields(known[name]) if field.init)
        raise BadInput(f"{name}({parts}): {' '.join(str(error).split())}") from error


def _known() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module_name in CONSTRUCTORS:
        for name, value in vars(importlib.import_module(module_name)).items():
            if isinstance(value, type) and dataclasses.is_dataclass(value) and not name.startswith("_"):
                found.setdefault(name, value)
    return found
