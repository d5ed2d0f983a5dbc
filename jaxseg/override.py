"""Rebuild a frozen value with one leaf changed, by a dotted path that is checked at each step.

The value is any tree of frozen dataclasses, linen modules and tuples: a recipe, a model, a task.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxseg.errors import BadInput, suggest
from jaxseg.literals import parse_literal

DTYPES = ("float32", "bfloat16", "float16", "float64")
"""The names that a field for a dtype takes."""


def override(recipe: Any, path: str, value: Any) -> Any:
    """Rebuild ``recipe`` with another value at a dotted path of field names and tuple indices.

    ``override(recipe, "stages.0.optimizer.learning_rate.value", 0.1)``. Works on any frozen dataclass or linen module.
    An int is accepted (and converted) where a float is due, a list where a tuple is due.

    >>> from jaxseg.losses import Focal
    >>> override(Focal(), "gamma", 1).gamma
    1.0

    Raises:
      BadInput: no such path (the nearest field is offered), or the value's type is not the field's.
    """
    return _replace(recipe, path.split("."), path, lambda kind, present: _conform(value, kind, present, path))


def override_text(recipe: Any, assignment: str) -> Any:
    """Return ``override`` from the command line's ``path=value``, the value written as a Python literal.

    Transforms, losses, optimizers and schedules may stand in it by name: ``OneCycle(0.1)``, ``(Resize(180, 240),)``. A
    text field takes the value as it stands, quoted or not, and a field for a dtype its name: ``bfloat16``.

    >>> from jaxseg.losses import Focal
    >>> override_text(Focal(), "gamma=1.5").gamma
    1.5

    Raises:
      BadInput: as ``override``, or there is no ``=``.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise BadInput(f"--set {assignment!r} is not of the form path=value, such as stages.0.steps=100")
    path, text = path.strip(), text.strip()
    return _replace(recipe, path.split("."), path, lambda kind, present: _parse(text, kind, present, path))


def parse_argument(text: str, build: Callable[..., Any], name: str) -> Any:
    """Return the value that ``text`` spells for an argument of a function, by its annotation and default.

    Raises:
      BadInput: it spells none of that kind.

    >>> def build(width: int = 8, rates: tuple[int, ...] = ()): ...
    >>> parse_argument("(1, 2)", build, "rates")
    (1, 2)
    """
    return _parse(text.strip(), *_argument(build, name), name)


def conform_argument(build: Callable[..., Any], name: str, value: Any) -> Any:
    """Return ``value`` as an argument of a function is annotated: 1 as 1.0, a list as a tuple, "unit" as statistics.

    Raises:
      BadInput: it is of another kind.

    >>> def build(rate: float = 0.5): ...
    >>> conform_argument(build, "rate", 1)
    1.0
    """
    parameters = inspect.signature(build).parameters
    if name not in parameters:
        raise BadInput(f"{getattr(build, '__name__', 'it')} has no field {name!r}{suggest(name, parameters)}")
    return _conform(value, *_argument(build, name), name)


def _argument(build: Callable[..., Any], name: str) -> tuple[Any, Any]:
    """Annotation and default of an argument."""
    default = inspect.signature(build).parameters[name].default
    return _hints(build).get(name, Any), None if default is inspect.Parameter.empty else default


def fields(value: Any) -> list[dataclasses.Field]:
    """Return the fields of a dataclass, without a linen module's ``parent`` and ``name``.

    >>> [field.name for field in fields(nn.Dense(3))][:2]
    ['features', 'use_bias']
    """
    found = [f for f in dataclasses.fields(value) if f.init]
    if isinstance(value, nn.Module) or (isinstance(value, type) and issubclass(value, nn.Module)):
        found = [f for f in found if f.name not in ("parent", "name")]
    return found


def _replace(node: Any, steps: list[str], path: str, choose: Callable[[Any, Any], Any]) -> Any:
    """Return ``node`` with the leaf at ``steps`` replaced by ``choose(annotation, present value)``."""
    done = ".".join(path.split(".")[: -len(steps)])
    where = done or type(node).__name__
    step, rest = steps[0], steps[1:]
    if isinstance(node, tuple):
        index = _index(node, step, where)
        kind = Any if not rest else None
        new = choose(kind, node[index]) if not rest else _replace(node[index], rest, path, choose)
        return (*node[:index], new, *node[index + 1 :])
    if not dataclasses.is_dataclass(node):
        raise BadInput(f"{where} is {brief(node)} and has nothing inside, so {path!r} leads nowhere")
    names = [f.name for f in fields(node)]
    if step not in names:
        raise BadInput(f"{where} ({type(node).__name__}) has no field {step!r}{suggest(step, names)}")
    present = getattr(node, step)
    new = choose(_hints(type(node)).get(step, Any), present) if not rest else _replace(present, rest, path, choose)
    try:
        return _rebuild(node, {step: new})
    except BadInput as error:
        raise error if rest and path in str(error) else BadInput(f"{path}: {error}") from error
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: {one_line(error)}") from error


def _rebuild(node: Any, changes: dict[str, Any]) -> Any:
    if isinstance(node, nn.Module):
        return node.clone(**changes)
    return dataclasses.replace(node, **changes)


def _index(node: tuple, step: str, where: str) -> int:
    if not re.fullmatch(r"-?\d+", step):
        raise BadInput(f"{where} is a tuple of {len(node)}: write a number from 0 to {len(node) - 1}, not {step!r}")
    if not -len(node) <= int(step) < len(node):
        raise BadInput(f"{where} holds {len(node)} item{'s' * (len(node) != 1)}, so there is no {where}.{step}")
    return int(step) % len(node)


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError):  # an annotation that only a type checker can read
        return {}


def _parse(text: str, kind: Any, present: Any, path: str) -> Any:
    """Return the value that ``text`` spells, or ``text`` itself where a string is due."""
    fault = None
    try:
        value = parse_literal(text)
    except BadInput as error:
        value, fault = text, error
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    try:
        return _conform(value, kind, present, path)
    except BadInput:
        if fault is not None:
            raise BadInput(f"{path}: {fault}") from fault
        if isinstance(value, str):
            raise
        try:
            return _conform(text, kind, present, path)
        except BadInput:
            pass
        raise


_MISFIT = object()


@runtime_checkable
class Spelled(Protocol):
    """A class whose values users may spell more briefly than by its constructor."""

    @classmethod
    def parse(cls, value: Any) -> Any:
        """Return the value that a name or a tuple stands for."""
        ...


def _is_spelled(kind: type) -> typing.TypeGuard[type[Spelled]]:
    return isinstance(kind, Spelled)


def _conform(value: Any, kind: Any, present: Any, path: str) -> Any:
    """Return ``value`` as the annotation wants it, or BadInput naming path, value and expected type."""
    if kind in (Any, None, object):  # no annotation to hold on to: stay with the type of what is there
        kind = Any if present is None or _of_one_module(value, present) else _kind_of(present)
    spelled = [option for option in (kind, *typing.get_args(kind)) if isinstance(option, type) and _is_spelled(option)]
    if spelled and isinstance(value, str | tuple | list):
        try:
            return spelled[0].parse(value)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
    if isinstance(value, str) and np.dtype in typing.get_args(kind):
        if value not in DTYPES:
            raise BadInput(f"{path} is {value!r}, but must be {' or '.join(DTYPES)}")
        return getattr(jnp, value)
    new = _fit(value, kind)
    if new is _MISFIT:
        raise BadInput(f"{path} is {brief(value)} ({type(value).__name__}), but must be {_spell(kind)}")
    return new


def _of_one_module(value: Any, present: Any) -> bool:
    """Return True if both classes are of one module: optimizers, say, replace each other."""
    return dataclasses.is_dataclass(value) and type(value).__module__ == type(present).__module__ != "builtins"


def _kind_of(present: Any) -> Any:
    if isinstance(present, tuple):
        kinds = {type(item) for item in present}
        return tuple[kinds.pop(), ...] if len(kinds) == 1 else tuple
    return type(present)


def _fit(value: Any, kind: Any) -> Any:
    """Return ``value`` converted to ``kind`` where that loses nothing, else ``_MISFIT``."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return tuple(value) if isinstance(value, list) else value
    if kind is None or kind is type(None):
        return None if value is None else _MISFIT
    if origin in (typing.Union, types.UnionType):
        exact = [option for option in inside if isinstance(option, type) and type(value) is option]
        for option in (*exact, *inside):
            new = _fit(value, option)
            if new is not _MISFIT:
                return new
        return _MISFIT
    if origin is typing.Literal:
        return value if any(value == item and type(value) is type(item) for item in inside) else _MISFIT
    if origin is typing.Annotated:
        return _fit(value, inside[0])
    if origin is tuple or kind is tuple:
        return _fit_tuple(value, inside)
    return _fit_class(value, origin or kind)


def _fit_tuple(value: Any, inside: tuple) -> Any:
    if not isinstance(value, tuple | list):
        return _MISFIT
    if not inside:
        return tuple(value)
    kinds = [inside[0]] * len(value) if len(inside) == 2 and inside[1] is Ellipsis else list(inside)
    if len(kinds) != len(value):
        return _MISFIT
    items = tuple(_fit(item, kind) for item, kind in zip(value, kinds, strict=True))
    return _MISFIT if any(item is _MISFIT for item in items) else items


def _fit_class(value: Any, kind: Any) -> Any:
    if not isinstance(kind, type):
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind in (int, float) and isinstance(value, bool):
        return _MISFIT
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return value if dataclasses.is_dataclass(value) else _MISFIT
    if dataclasses.is_dataclass(kind) and isinstance(value, nn.Module) and issubclass(kind, nn.Module):
        return value
    try:
        return value if isinstance(value, kind) else _MISFIT
    except TypeError:
        return value


def _spell(kind: Any) -> str:
    if kind is type(None):
        return "None"
    if kind is bool:
        return "True or False"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(_spell(option) for option in typing.get_args(kind))
    if typing.get_origin(kind) is typing.Literal:
        return " or ".join(repr(item) for item in typing.get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")


def brief(value: Any) -> str:
    """Return the value as Python writes it, cut to 60 characters.

    >>> brief((1, "a"))
    "(1, 'a')"
    """
    text = repr(value).replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


def one_line(error: BaseException) -> str:
    """Return the error's message without line breaks.

    >>> one_line(ValueError("a\\n b"))
    'a b'
    """
    return " ".join(str(error).split()) or type(error).__name__
