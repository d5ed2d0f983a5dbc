"""Public names of the classes that recipes are made of: ``SGD``, ``UNet``, ``Semantic``, ``RandomFlip``.

Recipes, cards and checkpoints are saved with these names, and ``--set`` takes them. They do not say in which module a
class lives, so that a class can move without breaking what was saved. The table is built from the packages.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType

from jaxseg.errors import BadInput, suggest

PACKAGES = (
    "jaxseg.recipe",
    "jaxseg.tasks",
    "jaxseg.losses",
    "jaxseg.metrics",
    "jaxseg.data",
    "jaxseg.train.optim",
    "jaxseg.train.asynchronous",
    "jaxseg.weights",
    "jaxseg.conversion.initial",
    "jaxseg.conversion.region_svms",
    "jaxseg.ops.crf",
    "jaxseg.ops.mask_voting",
    "jaxseg.layers",
    "jaxseg.backbones",
    "jaxseg.models",
)
"""Packages and modules whose public dataclasses and linen modules have a name."""


def constructors() -> Mapping[str, type]:
    """Return every class that has a public name, by that name, after importing all :data:`PACKAGES`.

    A name that two classes share belongs to neither.

    >>> constructors()["SGD"].__module__
    'jaxseg.train.optim'
    """
    return MappingProxyType({name: kinds[0] for name, kinds in _by_name().items() if len(kinds) == 1})


def find_constructor(name: str) -> type:
    """Return the class of a public name.

    Raises:
      BadInput: there is none, or two share it.

    >>> find_constructor("Poly")(0.1)
    Poly(value=0.1, power=0.9, end=0.0)
    """
    kinds = _by_name().get(name, ())
    if len(kinds) > 1:
        raise BadInput(f"{name!r} is ambiguous: {', '.join(f'{k.__module__}:{name}' for k in kinds)}")
    if not kinds:
        raise BadInput(f"{name!r} does not exist{suggest(name, constructors())}")
    return kinds[0]


def public_name(kind: type) -> str | None:
    """Return the public name of a class; None if it has none, as a user's own.

    >>> from jaxseg.train.optim import SGD
    >>> public_name(SGD)
    'SGD'
    """
    return kind.__name__ if constructors().get(kind.__name__) is kind else None


@functools.cache
def _by_name() -> dict[str, tuple[type, ...]]:
    found: dict[str, tuple[type, ...]] = {}
    for package in PACKAGES:
        for module in _modules(package):
            for name, value in vars(module).items():
                # what a module merely imports belongs to the module that defines it
                if isinstance(value, type) and value.__module__ == module.__name__ and value.__qualname__ == name:
                    own: type = value
                    if dataclasses.is_dataclass(value) and not name.startswith("_"):
                        found[name] = (*found.get(name, ()), own)
    return found


def _modules(name: str) -> Iterator[ModuleType]:
    """Import and yield a module and, where it is a package, all modules below it.

    A module whose library is not installed is left out: an environment for export alone has none to read data.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "jaxseg":
            raise
        return
    yield module
    for below in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        yield from _modules(below.name)
