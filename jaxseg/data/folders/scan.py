"""Find out what a folder holds: which reader knows it, its splits, and what its images are like."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import origin, problems
from jaxseg.data.facts import Facts
from jaxseg.data.folders import coco, cvat, depth, label_studio, labelme, pairs, parquet, plain, yolo
from jaxseg.data.folders.bands import stored_bands
from jaxseg.data.folders.item import OPTIONS, Found, Item, Options
from jaxseg.data.folders.splits import divided, grouped
from jaxseg.errors import BadInput, suggest

PREFIX = "folder:"

SAMPLE = 64
"""Images whose headers are looked at."""

Reader = tuple[Callable[[Path], bool], Callable[[Path, Options], Found]]

READERS: tuple[Reader, ...] = (
    (coco.recognises, coco.read),
    (cvat.recognises, cvat.read),
    (label_studio.recognises, label_studio.read),
    (labelme.recognises, labelme.read),
    (yolo.recognises, yolo.read),
    (parquet.recognises, parquet.read),
    (depth.recognises, depth.read),
    (pairs.recognises, pairs.read),
)
"""``recognises`` and ``read`` of each layout; the first that recognises a folder reads it."""


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder as a data set.

    Attributes:
      found: what the reader found.
      splits: the images of each split.
      facts: classes, splits, bands.
      dtype: of the images: uint8, uint16 or float32.
      state: of the files when they were found.

    >>> [name for name in Folder.__annotations__]
    ['found', 'splits', 'facts', 'dtype', 'state']
    """

    found: Found
    splits: Mapping[str, tuple[Item, ...]]
    facts: Facts
    dtype: str
    state: origin.Origin

    @property
    def channels(self) -> int:
        """Number of bands of the images."""
        return len(self.facts.bands)


def scan(path: str | os.PathLike[str], options: Sequence[tuple[str, Any]] = ()) -> Folder:
    """Find out what a folder holds. While no file changes, it is not read again.

    Args:
      path: the folder; relative ones start at the current directory.
      options: pairs of :data:`~jaxseg.data.folders.item.OPTIONS`.

    Raises:
      BadInput: there is no such folder or option, or what is in it cannot be trained on; the line names file and fix.

    >>> scan("nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: there is no folder ...nowhere
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise BadInput(f"there is no folder {root.absolute()}")
    for name, _ in options:
        if name not in OPTIONS:
            raise BadInput(f"folders have no option {name!r}{suggest(name, OPTIONS)}")
    plain = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options)
    return _scan(root.absolute(), plain, origin.look(root))


@functools.lru_cache(maxsize=8)
def _scan(root: Path, options: tuple[tuple[str, Any], ...], state: origin.Origin) -> Folder:
    given = {**OPTIONS, **dict(options)}
    masks = given["masks"] is not None and (root / given["masks"]).is_dir()
    read = pairs.read if masks else next((read for recognises, read in READERS if recognises(root)), pairs.read)
    if given["masks"] == plain.NONE and not masks:
        read = plain.read
    found = read(root, given)
    splits, notes = divided(grouped(found.items, given["group"]), given["split"])
    channels, dtype = _bands(found.items, given["channels"])
    if len(set(found.classes)) < len(found.classes):
        raise BadInput(f"{root}: two classes have one name among {', '.join(found.classes)}")
    facts = Facts(
        name=f"{PREFIX}{root}",
        summary=f"{len(found.items)} images of your own ({'; '.join([found.kind, *found.notes, *notes])})",
        classes=found.classes,
        palette=found.palette,
        splits={split: len(items) for split, items in splits.items()},
        keys=_keys(found),
        bands=_band_names(channels),
        things=found.things,
        thing_palette=tuple(
            found.palette[found.classes.index(thing)]
            for thing in found.things
            if found.palette and thing in found.classes
        ),
        options=OPTIONS,
    )
    return Folder(found, splits, facts, dtype, state)


def forget() -> None:
    """Read folders anew from now on.

    >>> forget()
    """
    _scan.cache_clear()


def _keys(found: Found) -> tuple[str, ...]:
    """Return the keys of the records, by some of the items: objects may have masks or not."""
    keys = ["image", *(["label"] if found.classes else []), *found.maps]
    with_objects = [item for item in found.items if item.objects is not None]
    several = (
        [with_objects[int(i)].objects for i in {*np.linspace(0, len(with_objects) - 1, 8)}] if with_objects else []
    )
    made = [objects() for objects in several if objects is not None]
    shown = [record for record in made if len(record["boxes"])] or made
    if shown:
        keys += [key for key in shown[0] if all(key in record for record in shown)]
    return (*keys, "panoptic") if {"label", "instance_ids"} <= set(keys) else tuple(keys)


def _bands(items: Sequence[Item], wanted: int | None) -> tuple[int, str]:
    """Return bands and dtype of the images, by the headers of some of them; where some are in colour, all are RGB."""
    places = sorted({int(place) for place in np.linspace(0, len(items) - 1, SAMPLE)})
    seen: dict[tuple[int, str], str] = {}
    for place in places:
        with problems.each():
            seen.setdefault(stored_bands(items[place].image, items[place].name), items[place].name)
    if not seen:
        raise BadInput(f"none of the images, such as {items[0].name}, can be read")
    counts = {channels for channels, _ in seen}
    if not seen:  # none could be read, and that was reported
        return wanted or 3, "uint8"
    if wanted == 3 or (wanted is None and counts <= {1, 3} and counts != {1}):
        return 3, "uint8"
    if wanted is None and len(counts) > 1:
        one, other = (f"{name} has {channels}" for (channels, _), name in list(seen.items())[:2])
        raise BadInput(
            f"images have different numbers of bands: {one}, {other}; say which is meant: --option channels=N"
        )
    channels = wanted if wanted is not None else counts.pop()
    fitting = [(dtype, name) for (count, dtype), name in seen.items() if count == channels or channels == 1]
    if not fitting:
        raise BadInput(f"option channels is {wanted!r}, but images have {', '.join(map(str, sorted(counts)))} bands")
    if len({dtype for dtype, _ in fitting}) > 1:
        (one, first), (other, second) = fitting[:2]
        raise BadInput(f"image {first} holds {one}, {second} {other}; save all of one type, or say --option channels=3")
    return channels, fitting[0][0]


def _band_names(channels: int) -> tuple[str, ...]:
    if channels in (1, 3):
        return ("grey",) if channels == 1 else ("red", "green", "blue")
    return tuple(f"band_{number}" for number in range(1, channels + 1))
