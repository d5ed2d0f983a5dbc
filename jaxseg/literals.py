"""Parse what the command line may put into a recipe: Python literals, and objects by name such as ``OneCycle(0.1)``."""

import ast
import dataclasses
from typing import Any

from jaxseg.constructors import constructors
from jaxseg.errors import BadInput, suggest


def parse_literal(text: str) -> Any:
    """Return the value of a Python literal that may contain constructors: ``(Resize(180, 240), RandomFlip())``.

    Only the constructors of :mod:`jaxseg.constructors` are called, with literals and constructors as arguments.

    Raises:
      ValueError, SyntaxError: the text is no such expression; it may still stand for itself.
      BadInput: it names a class that does not exist or takes other arguments.

    >>> parse_literal("(1, StepDecay(0.1, 30))")
    (1, StepDecay(value=0.1, every=30, factor=0.1))
    """
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Tuple | ast.List):
        items = [_value(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _construct(node, node.func.id)
    return ast.literal_eval(node)


def _construct(node: ast.Call, name: str) -> Any:
    known = constructors()
    if name not in known:
        raise BadInput(f"there is no {name}(...) to build{suggest(name, known)}")
    if any(isinstance(argument, ast.Starred) for argument in node.args) or any(k.arg is None for k in node.keywords):
        raise BadInput(f"{name}(...) takes values, without stars")
    arguments = [_value(argument) for argument in node.args]
    named = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    try:
        return known[name](*arguments, **named)
    except TypeError as error:
        parts = ", ".join(field.name for field in dataclasses.fields(known[name]) if field.init)
        raise BadInput(f"{name}({parts}): {' '.join(str(error).split())}") from error
