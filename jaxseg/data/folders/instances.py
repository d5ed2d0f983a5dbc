"""Masks of one file for each object: ``NAME/images/x.png`` with ``NAME/masks/*.png``, or ``masks/NAME/*.png``.

The first is the layout of the Data Science Bowl 2018, the second has the images in ``images/NAME.png``. Every mask is 0
and one other number. The objects are of one class, that of the option ``classes`` or else ``object``; of two that
overlap the smaller is in front. An image without objects has one mask of zeros.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data.folders.item import Found, Item, uniquely_named
from jaxseg.data.folders.layout import Place
from jaxseg.data.folders.lookup import split_in
from jaxseg.data.folders.mask_files import read_part, size_of
from jaxseg.data.folders.shapes import BACKGROUNDS
from jaxseg.data.folders.tables import Table
from jaxseg.data.masks import id_maps
from jaxseg.data.notes import note
from jaxseg.data.records import Record
from jaxseg.data.slots import text_of
from jaxseg.errors import BadInput
from jaxseg.ops import rle

_NUMBERED = re.compile(r"(?!class)(.*[a-z_\-. ])?\d+|[0-9a-f]{8,}", re.IGNORECASE)
"""Names of masks that number objects, or are hashes: ``3``, ``cell_3``, ``mask-03``, ``00ae65c1c6631ae6``."""


def owners(images: Sequence[Place], masks: Sequence[Place]) -> list[tuple[Place, tuple[Place, ...]]]:
    """Return every image with the masks in the folder that is its own; nothing if no image has several there.

    Args:
      images: the images.
      masks: the masks.

    >>> from jaxseg.data.folders.layout import place_of
    >>> masks = [place_of("a/masks/1.png"), place_of("a/masks/2.png")]
    >>> [(_, found)] = owners([place_of("a/images/a.png")], masks)
    >>> len(found), owners([place_of("images/a.png")], [place_of("masks/a.png")])
    (2, [])
    """
    folders: dict[tuple[str | None, str], list[Place]] = {}
    for mask in masks:
        folder = os.path.dirname(mask.name)
        if folder:
            folders.setdefault((mask.split, folder), []).append(mask)
    alone: dict[tuple[str | None, str], int] = {}
    for image in images:
        key = image.split, os.path.dirname(image.name)
        alone[key] = alone.get(key, 0) + 1
    found = []
    for image in images:
        beside = image.split, os.path.dirname(image.name)
        keys = [(image.split, image.name), (None, image.name), *([beside] if alone[beside] == 1 else [])]
        found.append((image, next((tuple(folders[key]) for key in keys if key in folders), ())))
    return found if any(len(several) > 1 for _, several in found) else []


def are_objects(found: Sequence[tuple[Place, tuple[Place, ...]]], table: Table | None, said: Any) -> bool:
    """Return whether several masks of an image are one object each; else they are one class each.

    Args:
      found: of :func:`owners`.
      table: of the classes, None without one.
      said: the option ``objects``; None lets the names of the masks decide: numbers, hashes, and names that no other
        image has are of objects, unless they are classes of the table.

    Raises:
      BadInput: the option is neither None, True nor False.

    >>> from jaxseg.data.folders.layout import place_of
    >>> places = [place_of(f"masks/a/{name}.png") for name in ("cell", "dirt", "1", "2")]
    >>> image = place_of("images/a.png")
    >>> [are_objects([(image, tuple(some))], None, None) for some in (places[:2], places[2:])]
    [False, True]
    """
    if said not in (None, True, False):
        raise BadInput(
            f"option objects is {said!r}; it is True or False: whether several masks of an image are objects"
        )
    if not found or said is not None:
        return bool(found) and bool(said)
    images_of: dict[str, int] = {}
    for _, masks in found:
        for mask in masks:
            images_of[mask.stem] = images_of.get(mask.stem, 0) + 1
    if table is not None and images_of.keys() <= {row.name for row in table.rows}:
        return False
    if all(_NUMBERED.fullmatch(stem) for stem in images_of):
        return True
    return sum(bool(masks) for _, masks in found) > 2 and all(count == 1 for count in images_of.values())


def folder_of(image: Place, other: Place) -> str:
    """Return where the masks of an image would be, as the mask of another is.

    >>> from jaxseg.data.folders.layout import place_of
    >>> folder_of(place_of("images/b.png"), place_of("masks/a/1.png"))
    'masks/b'
    >>> folder_of(place_of("b/images/b.png"), place_of("a/masks/1.png"))
    'b/masks'
    """
    folder = os.path.dirname(other.path)
    if os.path.basename(folder) == os.path.basename(os.path.dirname(other.name)):
        return os.path.join(os.path.dirname(folder), image.stem)
    return os.path.join(os.path.dirname(os.path.dirname(image.path)), os.path.basename(folder))


def in_splits(found: Sequence[tuple[Place, tuple[Place, ...]]]) -> list[tuple[Place, tuple[Place, ...]]]:
    """Return the images with the splits that the folders above them name.

    >>> from jaxseg.data.folders.layout import place_of
    >>> in_splits([(place_of("stage1_test/a/images/a.png"), ())])[0][0].split
    'test'
    """
    return [
        (replace(image, split=image.split or split_in(image.name.split("/")[:-2])), masks) for image, masks in found
    ]


def found_objects(
    root: Path,
    kept: Sequence[tuple[Place, Sequence[Place], str | None, str | None]],
    table: Table | None,
    notes: Sequence[str],
) -> Found:
    """Return what was found where every object has a mask of its own.

    Args:
      root: the folder.
      kept: image, masks, split and group of each.
      table: of the classes, None without one.
      notes: of the reader.

    Raises:
      BadInput: the table has more classes than one beside the background.

    >>> from jaxseg.data.folders.layout import place_of
    >>> kept = [(place_of("images/a.png"), [place_of("masks/a/1.png")], None, None)]
    >>> found_objects(Path("."), kept, None, ()).things
    ('object',)
    """
    names = [row.name for row in table.rows] if table is not None else []
    things = [name for name in names if name.lower() not in BACKGROUNDS] or ["object"]
    if len(things) > 1:
        raise BadInput(
            f"{root}: there is a mask for each object, of one class, but {table.file if table else ''} has "
            f"{len(things)} ({', '.join(things[:3])}); name one: --option classes={things[0]}, or say --option "
            "objects=False if each mask is a class"
        )
    ground = next((name for name in names if name.lower() in BACKGROUNDS), BACKGROUNDS[0])
    items = []
    for image, masks, split, group in kept:
        paths = tuple(root / mask.path for mask in masks)
        items.append(
            Item(
                _name(image),
                root / image.path,
                functools.partial(read_union, paths) if paths else None,
                split,
                group,
                functools.partial(read_objects, paths) if paths else None,
                paths,
            )
        )
    said = "several masks of an image are one object each; if they are classes: --option objects=False"
    kind = "pairs, one mask for each object"
    named = uniquely_named(items)
    return Found(root, named, (ground, *things), (), (), kind, (*notes, said), tuple(things))


def _name(image: Place) -> str:
    """Return the name of an image, without its folder's where both are alike: ``a/a`` is ``a``."""
    folder = os.path.dirname(image.name)
    return folder if os.path.basename(folder) == image.stem else image.name


def read_union(paths: Sequence[Path]) -> np.ndarray:
    """Read u8[h w], 1 where there is an object.

    Raises:
      BadInput: as of :func:`read_objects`.

    >>> read_union.__name__
    'read_union'
    """
    return np.any(_read(paths), axis=0).astype(np.uint8)


def read_objects(paths: Sequence[Path]) -> Record:
    """Read the objects of an image as keys of a record; masks without a pixel are left out and noted.

    Raises:
      BadInput: a file cannot be read, holds more than two numbers, or is of another size than the others.

    >>> import tempfile
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "1.png"
    ...     _ = path.write_bytes(encode_png(np.asarray([[0, 255, 255]], np.uint8)))
    ...     read_objects([path])["boxes"].tolist()
    [[1.0, 0.0, 3.0, 1.0]]
    """
    parts = _read(paths)
    height, width = parts[0].shape
    masks = []
    for path, part in zip(paths, parts, strict=True):
        if part.any():
            masks.append(rle.encode(part))
        elif len(paths) > 1:
            note("masks without a pixel, left out", path.name)
    front, behind = id_maps(masks, height, width)
    corners = np.asarray([rle.bounding_box(mask) for mask in masks], np.float32).reshape(-1, 4)
    return {
        "boxes": np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1),
        "classes": np.zeros(len(masks), np.int32),
        "crowd": np.zeros(len(masks), bool),
        "area": np.asarray([rle.area(mask) for mask in masks], np.float32),
        "instance_ids": front,
        "hidden_ids": behind,
        "rle": text_of([rle.to_string(mask) for mask in masks]),
    }


def _read(paths: Sequence[Path]) -> list[np.ndarray]:
    parts: list[np.ndarray] = []
    for path in paths:
        parts.append(read_part(path))
        if parts[-1].shape != parts[0].shape:
            raise BadInput(f"{path} is {size_of(parts[-1])}, other masks of that image are {size_of(parts[0])}")
    return parts
