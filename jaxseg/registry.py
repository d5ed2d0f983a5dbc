"""Registry of models: ``@register`` on a builder, ``list_models``, ``create_model`` and ``create_small``.

Discovery is lazy: the files under ``jaxseg/models`` are imported when the registry is first used.
"""

import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from jaxseg.errors import BadInput, suggest
from jaxseg.types import Rules

TASKS = (
    "semantic",
    "detection",
    "instance",
    "panoptic",
    "keypoints",
    "depth",
    "relative_depth",
    "normals",
    "colorization",
    "boundary",
    "saliency",
    "multitask",
)
"""What a model may be registered for."""

WITHOUT_CLASSES = ("depth", "relative_depth", "normals", "colorization", "boundary", "saliency")
"""Those whose models have no classes: they give every pixel numbers."""


@dataclass(frozen=True)
class Overfit:
    """How the small variant of a model is trained on four images until it knows them by heart: a check of gradients.

    >>> Overfit(steps=100).learning_rate > 0
    True

    Attributes:
      steps: updates of Adam.
      learning_rate: constant.
      size: rows and columns of the images.
      gain: variance of the initial kernels times their fan-in: 2 suits ReLUs; without normalisation a sum of many
        blocks would grow with it.
      quick: run with the default tests; otherwise with the slow ones.
      fields: what differs from the small variant, spelled as that is.
    """

    steps: int = 60
    learning_rate: float = 1e-2
    size: tuple[int, int] = (48, 64)
    gain: float = 2.0
    quick: bool = False
    fields: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Entry:
    """A registered model.

    >>> find("enet").published
    '363,791'

    Attributes:
      name: of the model.
      build: builder.
      summary: first line of the builder's docstring.
      task: one of :data:`TASKS`.
      paper: where the network is described.
      params: the parameter count that the paper or the reference states, None where it states none.
      rounded: the same in millions, as text.
      names: rules of the importer by the implementation that they are for.
      small: fields of the small variant, None where there is none.
      overfit: how the small variant is seen to learn, None where a sibling stands for it.
      module: where the builder is.
    """

    name: str
    build: Callable[..., Any]
    summary: str
    task: str
    paper: str
    params: int | None
    rounded: str | None
    names: Mapping[str, Rules]
    small: Mapping[str, Any] | None
    overfit: Overfit | None
    module: str

    @property
    def published(self) -> str:
        """The published parameter count as text; empty where there is none."""
        return f"{self.params:,}" if self.params is not None else self.rounded or ""

    @property
    def fields(self) -> dict[str, Any]:
        """The builder's options with their defaults."""
        return {k: p.default for k, p in inspect.signature(self.build).parameters.items()}


_entries: dict[str, Entry] = {}
_combined: dict[str, Entry] = {}
_discovered = False


Builder = TypeVar("Builder", bound=Callable[..., Any])


def register(
    *,
    task: str,
    paper: str,
    name: str | None = None,
    summary: str | None = None,
    params: int | None = None,
    rounded: str | None = None,
    names: Mapping[str, Rules] | None = None,
    small: Mapping[str, Any] | None = None,
    overfit: Overfit | None = None,
    combined: bool = False,
) -> Callable[[Builder], Builder]:
    """Register a builder under its own name; variants of one builder by ``functools.partial`` under names given here.

    >>> @register(task="semantic", paper="arXiv:1411.4038", summary="One layer.", params=3)
    ... def one_layer(num_classes=2): ...
    >>> find("one_layer").published, find("one_layer").fields
    ('3', {'num_classes': 2})
    >>> del _entries["one_layer"]  # it was an example only

    Args:
      task: one of :data:`TASKS`; outside of jaxseg also one of your own.
      paper: where the network is described, ``"arXiv:1411.4038"`` or a venue.
      name: the builder's by default.
      summary: one sentence; the first line of the builder's docstring by default.
      params: the parameter count at the builder's defaults, as the paper or the reference states it; a test holds us
        to it. None where no source gives one.
      rounded: the same where sources give millions only, ``"37.9 M"``; held to as many digits.
      names: rules of the importer by the implementation that they are for, ``{"torchvision": TORCHVISION_NAMES}``.
      small: what makes a variant of few channels and blocks that compiles in seconds: fields of the builder, and of the
        built model by their dotted paths, ``{"features": 8, "backbone.depths": (1, 1, 1, 1)}``. The contract tests run
        it, :func:`create_small` gives it to anybody.
      overfit: how the small variant is seen to learn; one model of each file has it.
      combined: one of many that follow from two lists, a decoder on an encoder: see :func:`combinations`. A name that
        is registered on its own keeps its meaning.

    Raises:
      ValueError: another file has registered the name, or there is no such task.
    """

    def enter(build: Builder) -> Builder:
        given: Any = build
        function = given.func if isinstance(given, partial) else given
        known_as, module = name or function.__name__, function.__module__
        if task not in TASKS and module.startswith("jaxseg."):
            raise ValueError(f"models are registered for no task {task!r}{suggest(task, TASKS)}")
        table = _combined if combined else _entries
        known = table.get(known_as)
        if known is not None and known.module != module:
            raise ValueError(f"model {known_as!r} is registered twice: {known.module} and {module}")
        text = summary or (inspect.getdoc(function) or "").split("\n", 1)[0]
        rules = names or {}
        table[known_as] = Entry(known_as, build, text, task, paper, params, rounded, rules, small, overfit, module)
        return build

    return enter


def entries() -> dict[str, Entry]:
    """Return every model that is registered on its own by name, after importing all of ``jaxseg.models``.

    >>> entries()["enet"].paper
    'arXiv:1606.02147'
    """
    _discover()
    return dict(sorted(_entries.items()))


def combinations() -> dict[str, Entry]:
    """Return the models that are a decoder on an encoder by name, ``DECODER_ENCODER``: hundreds, each as good as
    another, so that what walks the zoo leaves them out.

    >>> combinations()["unet_efficientnet_b0"].task
    'semantic'
    """
    _discover()
    return {name: entry for name, entry in sorted(_combined.items()) if name not in _entries}


def _discover() -> None:
    """Import all of ``jaxseg.models``, once."""
    global _discovered
    if not _discovered:
        import jaxseg.models

        for module in pkgutil.walk_packages(jaxseg.models.__path__, "jaxseg.models."):
            importlib.import_module(module.name)
        _discovered = True


def list_models(pattern: str = "*", task: str | None = None, *, combined: bool = False) -> list[str]:
    """Return the sorted names that match a shell pattern, optionally of one task only.

    >>> list_models("enet*")
    ['enet', 'enet_port']
    >>> list_models("unet_resnet*", combined=True)
    ['unet_resnet101', 'unet_resnet152', 'unet_resnet18', 'unet_resnet34', 'unet_resnet50']

    Args:
      pattern: with ``*`` and ``?``.
      task: one of :data:`TASKS`.
      combined: those of :func:`combinations` as well.
    """
    known = {**entries(), **combinations()} if combined else entries()
    return [
        name
        for name, entry in sorted(known.items())
        if fnmatch.fnmatchcase(name, pattern) and (task is None or entry.task == task)
    ]


def find(name: str) -> Entry:
    """Return the entry of that name.

    >>> find("enet").task
    'semantic'

    Raises:
      BadInput: there is none; the nearest names are offered.
    """
    known = {**combinations(), **entries()}
    if name not in known:
        raise BadInput(f"no model is called {name!r}{suggest(name, known)}")
    return known[name]


def create_model(name: str, **fields: Any) -> Any:
    """Build a registered model.

    >>> create_model("unet", num_classes=11, in_channels=4).num_classes
    11

    Raises:
      BadInput: unknown name or field; the nearest are offered.
    """
    entry = find(name)
    for field in fields:
        if field not in entry.fields:
            raise BadInput(f"model {name!r} has no field {field!r}{suggest(field, entry.fields)}")
    return entry.build(**fields)


def create_small(name: str, **fields: Any) -> Any:
    """Build the small variant of a registered model: the same layers with few channels and blocks, and three classes.

    It compiles in seconds, for tests and dry runs.

    >>> create_small("segformer_b0", num_classes=11).backbone.depths
    (1, 1, 1, 1)

    Args:
      name: of the model.
      fields: of the builder, or of the built model by dotted paths; they replace those of the small variant.

    Raises:
      BadInput: unknown name or field, or a model without a small variant.
    """
    entry = find(name)
    if entry.small is None:
        known = [other for other, found in entries().items() if found.small is not None]
        raise BadInput(f"model {name!r} has no small variant{suggest(name, known)}")
    return _varied(entry, {**entry.small, **fields})


def create_overfit(name: str) -> Any:
    """Build the variant that is trained as :class:`Overfit` describes: the small one with the fields that it names.

    >>> create_overfit("enet").num_classes
    3

    Raises:
      BadInput: unknown name, or a model without :class:`Overfit`.
    """
    entry = find(name)
    if entry.overfit is None:
        raise BadInput(f"model {name!r} is registered without overfit=Overfit(...)")
    return _varied(entry, {**(entry.small or {}), **(entry.overfit.fields or {})})


def _varied(entry: Entry, fields: Mapping[str, Any]) -> Any:
    """Three classes unless fields say otherwise; fields that the builder has not are paths in what it builds."""
    from jaxseg.override import override  # brings Flax in, which data workers do without

    classes = {"num_classes": 3} if "num_classes" in entry.fields else {}
    fields = {**classes, **fields}
    model = entry.build(**{field: value for field, value in fields.items() if field in entry.fields})
    for path, value in fields.items():
        if path not in entry.fields:
            model = override(model, path, value)
    return model
