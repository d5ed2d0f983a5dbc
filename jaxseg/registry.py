"""Which models exist: ``@register`` on a function that builds one, ``list_models``, ``create_model``.

Discovery is lazy: the files under ``jaxseg/models`` are imported the first time that somebody asks.
"""

import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from jaxseg.errors import BadInput, suggest
from jaxseg.types import Rules


@dataclass(frozen=True)
class Entry:
    """What the catalogue knows of a model: its builder, task, paper, the parameter count that the paper gives, exactly
    or rounded, and by the name of each public implementation the rules that bring its weights in."""

    name: str
    build: Callable[..., Any]
    task: str
    paper: str
    params: int | None
    rounded: str | None
    names: Mapping[str, Rules]

    @property
    def published(self) -> str:
        """The count that the paper gives, as text; empty where it gives none."""
        return f"{self.params:,}" if self.params is not None else self.rounded or ""

    @property
    def fields(self) -> dict[str, Any]:
        """The builder's options with their defaults."""
        return {k: p.default for k, p in inspect.signature(self.build).parameters.items()}

    @property
    def summary(self) -> str:
        """First line of the builder's docstring."""
        return (inspect.getdoc(self.build) or "").split("\n", 1)[0]


_entries: dict[str, Entry] = {}
_discovered = False


Builder = TypeVar("Builder", bound=Callable[..., Any])


def register(
    *,
    task: str,
    paper: str,
    params: int | None = None,
    rounded: str | None = None,
    names: Mapping[str, Rules] | None = None,
) -> Callable[[Builder], Builder]:
    """Enter a builder into the registry under its own name.

    Args:
      task: "semantic", "instance", "panoptic", "geometry", "multitask" or "color".
      paper: where the network is described, ``"arXiv:1411.4038"`` or a venue.
      params: the parameter count at the builder's defaults, as the paper or the reference states it; a test holds us
        to it. None where no source gives one.
      rounded: the same where sources give millions only, ``"37.9 M"``; held to as many digits.
      names: rules of the importer by the implementation that they are for, ``{"torchvision": TORCHVISION_NAMES}``.

    Raises:
      ValueError: another file has registered the name.
    """

    def enter(build: Builder) -> Builder:
        name = build.__name__
        known = _entries.get(name)
        if known is not None and known.build.__module__ != build.__module__:
            raise ValueError(f"model {name!r} is registered twice: {known.build.__module__} and {build.__module__}")
        _entries[name] = Entry(name, build, task, paper, params, rounded, dict(names or {}))
        return build

    return enter


def entries() -> dict[str, Entry]:
    """Every registered model by name, after importing all of ``jaxseg.models``."""
    global _discovered
    if not _discovered:
        import jaxseg.models

        for module in pkgutil.walk_packages(jaxseg.models.__path__, "jaxseg.models."):
            importlib.import_module(module.name)
        _discovered = True
    return dict(sorted(_entries.items()))


def list_models(pattern: str = "*", task: str | None = None) -> list[str]:
    """Names that match a shell pattern, optionally of one task only, sorted."""
    return [
        name
        for name, entry in entries().items()
        if fnmatch.fnmatchcase(name, pattern) and (task is None or entry.task == task)
    ]


def find(name: str) -> Entry:
    """The entry of that name.

    Raises:
      BadInput: there is none; the nearest names are offered.
    """
    known = entries()
    if name not in known:
        raise BadInput(f"no model is called {name!r}{suggest(name, known)}")
    return known[name]


def create_model(name: str, **fields: Any) -> Any:
    """Build a registered model: ``create_model("fcn8s_vgg16", num_classes=11)``.

    Raises:
      BadInput: unknown name or field; the nearest are offered.
    """
    entry = find(name)
    for field in fields:
        if field not in entry.fields:
            raise BadInput(f"model {name!r} has no field {field!r}{suggest(field, entry.fields)}")
    return entry.build(**fields)
