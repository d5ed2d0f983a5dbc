"""Images and masks as pairs of files, in the usual layouts: the reader of folders without another's annotations.

``images/`` with ``masks/``, ``labels/`` or ``annotations/``, with ``train/``, ``val/`` and ``test/`` above or below; a
mask has the name of its image, with a suffix such as ``_mask`` or without. Masks of one class or one object each lie in
a folder of the image's name.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from jaxseg.data import problems
from jaxseg.data.folders.instances import are_objects, folder_of, found_objects, in_splits, owners
from jaxseg.data.folders.item import Found, Item, Options, uniquely_named
from jaxseg.data.folders.layout import Place, place_of
from jaxseg.data.folders.lists import Entry, find_lists
from jaxseg.data.folders.mask_files import read_class_masks, read_mask
from jaxseg.data.folders.match import Pair, divide, match
from jaxseg.data.folders.survey import decide
from jaxseg.data.folders.tables import Table, find_table, parse_table
from jaxseg.data.listing import is_image, walk
from jaxseg.errors import BadInput
from jaxseg.types import VOID


def recognises(root: Path) -> bool:
    """Return True if there are pictures in the folder.

    >>> recognises(Path("nowhere"))
    False
    """
    return root.is_dir() and any(is_image(path) for path in walk(root))


def read(root: Path, options: Options) -> Found:
    """Find the images of a folder with their masks, and what the masks mean.

    Args:
      root: the folder.
      options: :data:`jaxseg.data.folders.item.OPTIONS`.

    Raises:
      BadInput: there are no images or no masks, an image has no mask, names are not unique, a list names what is not
        there, or the masks mean nothing certain.

    >>> import tempfile
    >>> import numpy as np
    >>> from jaxseg.data.folders.item import OPTIONS
    >>> from jaxseg.data.records import encode_png
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("images/a.png", "masks/a.png"):
    ...         (Path(folder) / name).parent.mkdir()
    ...         _ = (Path(folder) / name).write_bytes(encode_png(np.full((2, 4), 255, np.uint8)))
    ...     found = read(Path(folder), OPTIONS)
    ...     found.items[0].name, found.kind, int(found.items[0].label().max())
    ('a', 'pairs, 0 and 255', 1)
    """
    files = list(walk(root))
    if options["masks"] is not None and not (root / options["masks"]).is_dir():
        raise BadInput(f"option masks: {root} has no folder {options['masks']!r}")
    given = _names(options["classes"])
    table = parse_table(given) if given else find_table(root, files)
    notes: list[str] = []
    places = [place_of(file, options["masks"]) for file in files if is_image(file)]
    entries = find_lists(root, files)
    images, masks = divide(root, places, notes)
    own = owners(images, masks)
    objects = are_objects(own, table, options["objects"])
    if objects:
        pairs = [Pair(image, tuple((None, mask) for mask in several)) for image, several in in_splits(own)]
    else:
        pairs = match(root, images, masks, notes)
    named = [(pair, pair.image.split, None) for pair in pairs]
    if entries:
        named = _listed(root, entries, pairs, {place.path: place for place in places}, notes)
    kept = _with_masks(root, named, masks, options, objects, notes)
    of_classes = any(kind is not None for pair, _, _ in kept for kind, _ in pair.masks)
    if (objects or of_classes) and options["void"] is not None:
        raise BadInput(
            f"option void is {options['void']!r}, but masks of one class or object each have no void: {root}"
        )
    if objects:
        found = [(pair.image, [mask for _, mask in pair.masks], split, group) for pair, split, group in kept]
        return found_objects(root, found, table, notes)
    if of_classes:
        return _of_classes(root, kept, table, notes)
    paths = [root / pair.masks[0][1].path for pair, _, _ in kept if pair.masks]
    meaning = decide(root, paths, table, options["void"])
    items = [
        Item(
            name=pair.image.name,
            image=root / pair.image.path,
            label=functools.partial(read_mask, root / pair.masks[0][1].path, meaning.coding) if pair.masks else None,
            split=split,
            group=group,
            files=tuple(root / mask.path for _, mask in pair.masks),
        )
        for pair, split, group in kept
    ]
    kind = f"pairs, {meaning.kind}"
    return Found(
        *(root, uniquely_named(items), meaning.coding.classes, meaning.palette, meaning.void, kind),
        notes=(*notes, *meaning.notes),
    )


T = TypeVar("T")
Named = tuple[Pair, str | None, str | None]
"""A pair, its split and its group."""


def _names(classes: object) -> list[str]:
    """Return the option ``classes`` as a list of words."""
    if isinstance(classes, str):
        classes = classes.split(",")
    if not isinstance(classes, Sequence) or not all(isinstance(name, str) for name in classes):
        raise BadInput(
            f"option classes is {classes!r}; it takes names, a,b,c, each alone or as NAME=NUMBER or NAME=#rrggbb"
        )
    return [name for name in classes if name.strip()]


def _listed(
    root: Path, entries: Sequence[Entry], pairs: Sequence[Pair], places: dict[str, Place], notes: list[str]
) -> list[Named]:
    """Return the pairs that lists name, in their order, with the splits, masks and groups that these give."""
    by_name: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_name.setdefault(pair.image.name, []).append(pair)
    by_path = {pair.image.path: pair for pair in pairs}
    found: list[Named] = []
    taken: dict[str, str] = {}
    for entry in entries:
        pair = _find(entry.image, by_path) or _find_named(entry, by_name)
        if pair is None:
            problems.report(f"{entry.where} names {entry.image!r}, but {root} has no such image; correct the list")
            continue
        if entry.mask is not None:
            mask = _find(entry.mask, places)
            if mask is None and not pair.masks:
                problems.report(
                    f"{entry.where} names the mask {entry.mask!r}, which is not in {root}; correct the list"
                )
                continue
            pair = pair if mask is None else replace(pair, masks=((None, mask),))
        if pair.image.path in taken:
            problems.report(
                f"{entry.where} names {pair.image.path} again, after {taken[pair.image.path]}; keep one line"
            )
            continue
        taken[pair.image.path] = entry.where
        found.append((pair, entry.split or pair.image.split, entry.group))
    left = [pair.image.path for pair in pairs if pair.image.path not in taken]
    if left:
        notes.append(f"{len(left)} images that are in no list are left out: {', '.join(left[:3])}")
    return found


def _find(text: str, known: Mapping[str, T]) -> T | None:
    """Return what is known under a path, whatever folders above the root stand before it."""
    parts = text.replace("\\", "/").strip("/").split("/")
    return next((known[path] for i in range(len(parts)) if (path := "/".join(parts[i:])) in known), None)


def _find_named(entry: Entry, by_name: dict[str, list[Pair]]) -> Pair | None:
    """Return the pair whose image bears the name that a list gives without suffix, or with another."""
    text = entry.image.replace("\\", "/").strip("/")
    for path in (text + ".", text):  # a name with dots is not cut
        parts = path.split("/")
        for start in range(len(parts)):
            pairs = by_name.get(place_of("/".join(parts[start:])).name, [])
            fitting = [pair for pair in pairs if pair.image.split in (None, entry.split)] or pairs
            if fitting:
                return fitting[0]
    return None


def _with_masks(
    root: Path, named: Sequence[Named], masks: Sequence[Place], options: Options, objects: bool, notes: list[str]
) -> list[Named]:
    """Return the pairs without such that lack a mask, which is a problem unless a whole test split lacks them."""
    labelled = {split for pair, split, _ in named if pair.masks}
    folder = os.path.dirname(masks[0].path)
    end = os.path.splitext(masks[0].path)[1]
    found, left = [], []
    for pair, split, group in named:
        if pair.masks or (split not in labelled and split not in (None, "train", "val")):
            found.append((pair, split, group))
        elif options["skip_missing"]:
            left.append(pair.image.path)
        else:
            expected = next((mask.path for mask in masks if mask.split == split), f"{folder}/{end}")
            place = f"{os.path.dirname(expected)}/{pair.image.name}{end}".lstrip("/")
            if objects:
                place = f"mask in {folder_of(pair.image, masks[0])}; one of zeros says that nothing is there"
            problems.report(
                f"{root / pair.image.path} has no mask (there is no {place}); add it, or leave such images out: "
                "--option skip_missing=True"
            )
    if left:
        notes.append(f"{len(left)} images without a mask are left out: {', '.join(left[:3])}")
    for split in dict.fromkeys(split for pair, split, _ in found if not pair.masks):
        notes.append(f"the split {split} has no masks; its labels are void")
    if not found:
        raise BadInput(f"{root} holds no image with a mask")
    return found


def _of_classes(root: Path, kept: Sequence[Named], table: Table | None, notes: list[str]) -> Found:
    """Return what was found where every class has masks of its own."""
    seen = sorted({kind for pair, _, _ in kept for kind, _ in pair.masks if kind is not None})
    listed = [row.name for row in table.rows] if table is not None else []
    strange = [kind for kind in seen if listed and kind not in listed]
    if strange:
        raise BadInput(f"{root}: there are masks of {strange[0]!r}, which is no class of {table.file if table else ''}")
    names = listed or seen
    if len(names) > 64 and not listed:
        raise BadInput(
            f"{root}: the masks seem to be a file for each class, but of {len(names)} classes ({', '.join(names[:3])}, "
            "...); name the classes if they are: --option classes=A,B,C"
        )
    ground = next((name for name in names if name.lower() in ("background", "bg")), None)
    classes = tuple(names) if ground is not None else ("background", *names)
    shown = any(kind == ground for pair, _, _ in kept for kind, _ in pair.masks) if ground is not None else False
    rest = VOID if shown else classes.index(ground) if ground is not None else 0
    if shown:
        notes.append(f"pixels in no mask, not in that of {ground!r} either, are void")
    items = []
    for pair, split, group in kept:
        paths = tuple((classes.index(str(kind)), root / mask.path) for kind, mask in pair.masks)
        label = functools.partial(read_class_masks, paths, rest, bool(listed)) if paths else None
        files = tuple(path for _, path in paths)
        items.append(Item(pair.image.name, root / pair.image.path, label, split, group, files=files))
    return Found(root, uniquely_named(items), classes, (), (), "pairs, one mask for each class", tuple(notes))
