"""Draw, compare and describe whatever a task predicts: painters are registered by the keys that they need.

A new kind of prediction needs a painter and no change to the code that draws: ``predict``, the pictures of a training
and ``evaluate`` call :func:`draw`, :func:`compare`, :func:`describe` and :func:`summarize`, which know no key.

Predictions called ``task/key`` (:class:`jaxseg.tasks.multitask.MultiTask`) are drawn by the painter of ``key``, and
their pictures are called ``task/picture``.
"""

import abc
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from jaxseg.files import atomic
from jaxseg.types import bare_key, beside
from jaxseg.viz.panels import sheet
from jaxseg.viz.png import encode
from jaxseg.viz.visible import visible

Arrays = Mapping[str, np.ndarray]

Pictures = dict[str, np.ndarray | bytes]
"""Pictures by name: uint8 ``[h w 3]``, or the bytes of a PNG where its pixels are numbers to be read back."""


class Painter(abc.ABC):
    """How one kind of prediction becomes pictures, words and numbers; registered by :func:`painter`.

    Each method sees only keys of one task, without its prefix: those of ``needs``, and those of ``uses`` that there
    are. ``image`` is uint8 RGB ``[h w 3]``, arrays have no axis ``b``, and ``facts`` is a
    :class:`jaxseg.data.facts.Facts` or anything with its ``classes`` and ``palette`` (where ``Facts.tables`` has the
    task, its own). See :func:`painter`.

    >>> sorted(registered_painters()["boxes"].uses)
    ['classes', 'scores', 'valid']
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    uses: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        """Return the picture to look at, uint8 RGB ``[h w 3]``."""

    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        """Return every picture to keep, by name; by default the one of :meth:`paint` under the painter's name."""
        return {self.name: self.paint(image, predictions, facts)}

    def truth(self, batch: Arrays) -> Arrays | None:
        """Return what ought to have been predicted, as predictions ``[b ...]``; None where the batch does not say.

        By default the batch's arrays under the painter's own keys.
        """
        if not all(key in batch for key in self.needs):
            return None
        return {key: batch[key] for key in (*self.needs, *self.uses) if key in batch}

    def compare(self, batch: Arrays, predictions: Arrays, facts: Any) -> np.ndarray | None:
        """Return a sheet with a row per example: image, truth where it is known, prediction. None for no sheet.

        Args:
          batch: ``image`` and the truth, every row real, arrays ``[b ...]``.
          predictions: arrays ``[b ...]``.
          facts: of the data set.
        """
        truth = self.truth(batch)
        rows = []
        for i, pixels in enumerate(batch["image"]):
            image = visible(pixels)
            pictures = [image, self.paint(image, {key: value[i] for key, value in predictions.items()}, facts)]
            if truth is not None:
                pictures.insert(1, self.paint(image, {key: value[i] for key, value in truth.items()}, facts))
            rows.append(pictures)
        return sheet(rows, ("image", "truth", self.name) if truth is not None else ("image", self.name))

    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        """Return what can be said in numbers, ready for JSON; by default nothing."""
        return {}

    def summarize(self, predictions: Arrays, facts: Any) -> str:
        """Return a few words for one line about the image; by default none."""
        return ""


P = TypeVar("P", bound=Painter)

_painters: dict[str, Painter] = {}


def painter(*needs: str, uses: tuple[str, ...] = (), name: str = "") -> Callable[[type[P]], type[P]]:
    """Register a :class:`Painter` for predictions that hold all the keys it needs.

    Files of one's own register theirs when they are imported; those in ``jaxseg/viz/painters`` are found by themselves.

    Args:
      needs: keys without which it cannot draw.
      uses: keys that it takes into account where they are predicted too.
      name: of its picture; the first key it needs by default.

    Raises:
      ValueError: another class has the name, or a name is no word.

    >>> @painter("redness")
    ... class Redness(Painter):
    ...     def paint(self, image, predictions, facts):
    ...         return np.repeat(predictions["redness"][..., None].astype(np.uint8), 3, axis=-1)
    >>> list(draw(np.zeros((2, 2, 3), np.uint8), {"redness": np.ones((2, 2))}, None))
    ['redness']
    """
    if not needs:
        raise ValueError("a painter is registered by at least one key: @painter('depth')")
    title = name or needs[0]
    for word in (*needs, *uses, title):
        if not re.fullmatch(r"\w+", word):
            raise ValueError(f"{word!r} cannot be a key or a picture: letters, digits and _ only")

    def enter(kind: type[P]) -> type[P]:
        known = _painters.get(title)
        if known is not None and _address(type(known)) != _address(kind):
            raise ValueError(f"painter {title!r} is registered twice: {_address(type(known))} and {_address(kind)}")
        kind.name, kind.needs, kind.uses = title, needs, uses
        _painters[title] = kind()
        return kind

    return enter


def registered_painters() -> dict[str, Painter]:
    """Return all painters by name, after importing those of ``jaxseg.viz.painters``.

    >>> "depth" in registered_painters()
    True
    """
    _import_all()
    return dict(_painters)


THRESHOLD = 0.5
"""Least score of an object that is drawn, and counted in a line about the image."""


def draw(image: Any, predictions: Mapping[str, Any], facts: Any, *, threshold: float = THRESHOLD) -> Pictures:
    """Draw what is predicted of one image, with every painter whose keys are there.

    Args:
      image: ``[h w c]``; bands other than RGB bytes are made visible by :func:`jaxseg.viz.visible.visible`.
      predictions: of this image, arrays without axis ``b``.
      facts: of the data set: classes, palette.
      threshold: objects of a lower score are left out.

    Returns:
      Pictures by name, ``{"label": PNG bytes, "overlay": uint8 [h w 3]}`` say; ``task/name`` for predictions of one
      task among several.

    Raises:
      ValueError: two painters give a picture the same name.

    >>> sorted(draw(np.zeros((2, 2, 3), np.uint8), {"depth": np.ones((2, 2))}, None))
    ['depth', 'depth_mm']
    """
    pixels = visible(image)
    found: Pictures = {}
    for part in _parts(confident(predictions, threshold), facts):
        pictures = part.painter.draw(pixels, part.values, part.facts)
        _add(found, {part.prefix + name: picture for name, picture in pictures.items()}, part.painter)
    return found


def compare(
    batch: Mapping[str, Any], predictions: Mapping[str, Any], facts: Any, *, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Draw sheets with a row per real example: image, truth and prediction side by side.

    Args:
      batch: ``image``, and the truth where it is known; rows with ``real`` or ``task/present`` false are left out.
      predictions: of the whole batch.
      facts: of the data set: classes, palette.
      threshold: predicted objects of a lower score are left out.

    Returns:
      Sheets uint8 ``[h w 3]`` by the painters' names, ``task/name`` for predictions of one task among several.

    >>> batch = {"image": np.zeros((1, 9, 9, 3), np.uint8), "saliency": np.ones((1, 9, 9), bool)}
    >>> list(compare(batch, {"saliency": np.ones((1, 9, 9))}, None))
    ['saliency']
    """
    found: dict[str, np.ndarray] = {}
    for part in _parts(confident(predictions, threshold), facts):
        truth = _of_task(part.prefix, batch)
        rows = np.asarray(truth.get("real", np.ones(len(truth["image"]), bool)), bool)
        chosen = {key: np.asarray(value)[rows] for key, value in truth.items()}
        if rows.any():
            values = {key: value[rows] for key, value in part.values.items()}
            drawn = part.painter.compare(chosen, values, part.facts)
            _add(found, {} if drawn is None else {part.prefix + part.painter.name: drawn}, part.painter)
    return found


def paint(
    image: Any, predictions: Mapping[str, Any], facts: Any, *, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Paint what is predicted of one image: of each painter whose keys are there, the one picture to look at.

    Args:
      image: and everything else as in :func:`draw`.
      predictions: likewise.
      facts: likewise.
      threshold: likewise.

    Returns:
      Pictures uint8 ``[h w 3]`` by the painters' names, ``task/name`` for predictions of one task among several.

    >>> list(paint(np.zeros((2, 2, 3), np.uint8), {"depth": np.ones((2, 2)), "ab": np.zeros((2, 2, 2))}, None))
    ['colorized', 'depth']
    """
    pixels = visible(image)
    return {
        part.prefix + part.painter.name: part.painter.paint(pixels, part.values, part.facts)
        for part in _parts(confident(predictions, threshold), facts)
    }


def describe(predictions: Mapping[str, Any], facts: Any) -> dict[str, Any]:
    """Return what can be said in numbers of the predictions for one image, ready for JSON: every object too.

    >>> import types
    >>> facts = types.SimpleNamespace(classes=("sky", "road"), palette=((0, 0, 255), (90, 90, 90)))
    >>> describe({"label": np.asarray([[0, 0, 0, 1]])}, facts)["classes"][1]
    {'class': 1, 'name': 'road', 'pixels': 1, 'fraction': 0.25}
    """
    found: dict[str, Any] = {}
    for part in _parts(predictions, facts):
        inner = found.setdefault(part.prefix[:-1], {}) if part.prefix else found
        _add(inner, part.painter.describe(part.values, part.facts), part.painter)
    return found


def summarize(predictions: Mapping[str, Any], facts: Any, *, threshold: float = THRESHOLD) -> str:
    """Return the predictions for one image in a few words, for one line of a terminal.

    Objects of a lower score than ``threshold`` are left out.

    >>> summarize({"depth": np.asarray([[1.0, 2.5]])}, None)
    '1.00 to 2.50 m'
    """
    parts = _parts(confident(predictions, threshold), facts)
    words = [(part.prefix[:-1], part.painter.summarize(part.values, part.facts)) for part in parts]
    return "; ".join(f"{task}: {text}" if task else text for task, text in words if text)


def confident(predictions: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """Return the predictions with ``valid`` false for objects of a lower score, of each task that has ``scores``.

    >>> confident({"scores": np.asarray([0.9, 0.2])}, 0.5)["valid"].tolist()
    [True, False]
    """
    found = dict(predictions)
    for name, scores in predictions.items():
        if bare_key(name) == "scores":
            valid = beside(name, "valid")
            found[valid] = np.logical_and(predictions.get(valid, True), np.asarray(scores) >= threshold)
    return found


def unpainted(predictions: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the predicted keys that no painter draws or describes, so that the caller can name them.

    >>> unpainted({"label": np.zeros((2, 2), int), "warmth": np.zeros((2, 2))})
    ('warmth',)
    """
    drawn = {
        part.prefix + key for part in _parts(predictions, None) for key in (*part.painter.needs, *part.painter.uses)
    }
    return tuple(key for key in predictions if key not in drawn)


@dataclass(frozen=True)
class _Part:
    """A painter and what it paints: the values of one task, whose prefix is ``task/`` or nothing."""

    painter: Painter
    prefix: str
    values: dict[str, np.ndarray]
    facts: Any


@dataclass(frozen=True)
class _OwnFacts:
    """Facts of a task that has classes of its own, which label maps and objects index."""

    classes: tuple[str, ...]
    joints: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()

    @property
    def things(self) -> tuple[str, ...]:
        return self.classes


def _parts(predictions: Mapping[str, Any], facts: Any) -> list[_Part]:
    """Return every painter that has what it needs, task by task in the order of the predictions."""
    tasks: dict[str, dict[str, np.ndarray]] = {}
    for name, value in predictions.items():
        task, slash, key = name.rpartition("/")
        tasks.setdefault(task + slash, {})[key] = np.asarray(value)
    found = []
    for prefix, values in tasks.items():
        known = (
            _OwnFacts(facts.tables[prefix[:-1]], facts.joints, facts.skeleton) if _has_table(facts, prefix) else facts
        )
        for each in registered_painters().values():
            if all(key in values for key in each.needs):
                keys = (*each.needs, *(key for key in each.uses if key in values))
                found.append(_Part(each, prefix, {key: values[key] for key in keys}, known))
    return found


def _has_table(facts: Any, prefix: str) -> bool:
    """True if the data set gives the task classes of its own; without, its keys are those that all tasks share."""
    return bool(prefix) and facts is not None and prefix[:-1] in facts.tables


def _of_task(prefix: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the batch as the task sees it: ``task/key`` as ``key``, and what belongs to every task.

    A prediction without prefix is that of the only task that makes it: where just one task's truth has the key, it
    stands for it.
    """
    seen = {key: value for key, value in batch.items() if "/" not in key}
    own: dict[str, list[Any]] = {}
    for name, value in batch.items():
        task, slash, key = name.rpartition("/")
        if slash and (prefix == task + slash or (not prefix and key != "present")):
            own.setdefault(key, []).append(value)
    for key, values in own.items():
        if len(values) == 1 and (prefix or key not in seen):
            seen[key] = values[0]
    present = seen.pop("present", None)
    if present is not None:
        seen["real"] = np.logical_and(seen.get("real", True), present)
    return seen


def write(pictures: Mapping[str, np.ndarray | bytes], folder: Path, stem: str) -> list[Path]:
    """Write what :func:`draw` returned, each file in one go: ``STEM_NAME.png``, or ``STEM_TASK-NAME.png`` for a task's.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in write({"parts/depth": np.zeros((1, 1, 3), np.uint8)}, Path(folder), "photo")]
    ['photo_parts-depth.png']
    """
    paths = []
    for name, picture in pictures.items():
        paths.append(folder / f"{stem}_{name.replace('/', '-')}.png")
        with atomic(paths[-1]) as part:
            part.write_bytes(picture if isinstance(picture, bytes) else encode(picture))
    return paths


def _add(found: dict[str, Any], more: Mapping[str, Any], by: Painter) -> None:
    for name in more:
        if name in found:
            raise ValueError(f"painter {by.name!r} calls something {name!r}, as another painter does: rename one")
    found.update(more)


@functools.cache
def _import_all() -> None:
    package = importlib.import_module("jaxseg.viz.painters")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"jaxseg.viz.painters.{module.name}")


def _address(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
