"""Where the annotations and images of COCO, or of your own COCO JSON, lie under a source folder."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxseg.data.coco_json import CocoFile, read_coco
from jaxseg.data.notes import note
from jaxseg.errors import BadInput

NAMES = ("train", "val", "test")
"""Splits, in the order in which several files are given."""


@dataclass(eq=False)
class CocoConfig(tfds.core.BuilderConfig):
    """Which annotations are read.

    >>> CocoConfig(name="2017").own
    False
    """

    year: int = 2017
    json: tuple[str, ...] = ()
    panoptic: tuple[str, ...] = ()
    images: str = ""
    stuff: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    val: float = 0.2
    skip_missing: bool = False

    @property
    def own(self) -> bool:
        """True if the classes are those of the files."""
        return bool(self.json or self.panoptic)


@dataclass(frozen=True)
class CocoSplit:
    """What is read of a split.

    Attributes:
      name: of the split.
      images: the folder of its images.
      ids: of the images.
      objects: boxes and masks.
      keypoints: person keypoints, in a file of their own.
      panoptic: panoptic segments.
      pngs: the folder of the panoptic PNGs.
      stuff: the folder of maps of category ids.

    >>> CocoSplit("train", Path("train2017"), (), None, None, None, None, None).main is None
    True
    """

    name: str
    images: Path
    ids: tuple[int, ...]
    objects: CocoFile | None
    keypoints: CocoFile | None
    panoptic: CocoFile | None
    pngs: Path | None
    stuff: Path | None

    @property
    def main(self) -> CocoFile | None:
        """The file whose images they are."""
        return self.objects or self.panoptic or self.keypoints


def config(options: Mapping[str, Any]) -> CocoConfig:
    """Return the TFDS configuration of the options of the data set ``coco``.

    Raises:
      BadInput: an option has a value that it cannot have.

    >>> options = {"year": 2017, "json": None, "panoptic": None, "images": None, "stuff": None, "classes": (),
    ...     "val": 0.2, "skip_missing": False}
    >>> config(options).name, config({**options, "json": "cells/all.json"}).name
    ('2017', 'all_3d5c1899')
    """
    year, val = options["year"], options["val"]
    if year not in (2014, 2017):
        raise BadInput(f"option 'year' of data set 'coco' is {year!r}; it is 2014 or 2017")
    if not isinstance(val, int | float) or not 0 <= val < 1:
        raise BadInput(f"option 'val' of data set 'coco' is {val!r}; it is the share of images set apart, 0 to below 1")
    given = {
        "year": year,
        "json": _several("json", options["json"]),
        "panoptic": _several("panoptic", options["panoptic"]),
        "images": str(options["images"] or ""),
        "stuff": _several("stuff", options["stuff"]),
        "classes": _several("classes", options["classes"], len(NAMES) * 1000),
        "val": float(val),
        "skip_missing": bool(options["skip_missing"]),
    }
    usual = CocoConfig(name="")
    if all(value == getattr(usual, key) for key, value in given.items() if key != "year"):
        return CocoConfig(name=str(year), **given)
    files = given["json"] or given["panoptic"]
    stem = Path(files[0]).stem if files else str(year)
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stem)
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]
    return CocoConfig(name=f"{plain}_{digest}", **given)


def find_splits(source: Path, wanted: CocoConfig) -> list[CocoSplit]:
    """Read the annotations under the source folder.

    Raises:
      BadInput: there is none, or a file is not what it should be.

    >>> find_splits(Path("nowhere"), CocoConfig(name="2017"))
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: nowhere holds no annotations/instances_train2017.json nor any other of COCO's of 2017
    """
    return _own(source, wanted) if wanted.own else _published(source, wanted)


def _several(name: str, value: Any, most: int = len(NAMES)) -> tuple[str, ...]:
    """Return a string, none, or a sequence of strings as a tuple."""
    items = () if value in ("", None) else (value,) if isinstance(value, str) else value
    if not isinstance(items, Sequence) or not all(isinstance(item, str) for item in items) or len(items) > most:
        raise BadInput(f"option {name!r} of data set 'coco' is {value!r}, not a name or several ({', '.join(NAMES)})")
    return tuple(items)


def _published(source: Path, wanted: CocoConfig) -> list[CocoSplit]:
    found = []
    for split in ("train", "val"):
        stem = f"{split}{wanted.year}"
        paths = {
            kind: next((p for p in _places(source, f"{kind}_{stem}.json") if p.is_file()), None)
            for kind in ("instances", "boxes", "person_keypoints", "panoptic")
        }
        if not any(paths.values()):
            continue
        files = {kind: None if path is None else read_coco(path) for kind, path in paths.items()}
        pngs = None if files["panoptic"] is None else _pngs(files["panoptic"], source)
        objects = files["instances"] or files["boxes"]
        main = objects or files["panoptic"] or files["person_keypoints"]
        assert main is not None
        folder = _images(main, [source / stem, source / "images" / stem, source], wanted)
        ids = _present(main, folder, wanted)
        stuff = _stuff(source, stem, wanted, len(found))
        found.append(CocoSplit(split, folder, ids, objects, files["person_keypoints"], files["panoptic"], pngs, stuff))
    if not found:
        raise BadInput(
            f"{source} holds no annotations/instances_train{wanted.year}.json nor any other of COCO's of {wanted.year}"
        )
    return found


def _own(source: Path, wanted: CocoConfig) -> list[CocoSplit]:
    count = max(len(wanted.json), len(wanted.panoptic))
    if min(len(wanted.json), len(wanted.panoptic)) not in (0, count):
        raise BadInput("options 'json' and 'panoptic' of data set 'coco' name different numbers of files")
    found = []
    for number in range(count):
        objects = read_coco(source / wanted.json[number]) if wanted.json else None
        panoptic = read_coco(source / wanted.panoptic[number]) if wanted.panoptic else None
        main = objects or panoptic
        assert main is not None
        beside = [main.path.parent / "images", main.path.parent, main.path.parent.parent]
        beside += [folder / main.path.stem for folder in (main.path.parent, source)]
        folder = _images(main, [source / "images", source, *beside], wanted)
        pngs = None if panoptic is None else _pngs(panoptic, source)
        ids = _present(main, folder, wanted)
        stuff = _stuff(source, None, wanted, number)
        found.append(CocoSplit(NAMES[number], folder, ids, objects, None, panoptic, pngs, stuff))
    if count > 1 or not wanted.val:
        return found
    (whole,) = found
    assert whole.main is not None
    apart = {number for number in whole.ids if set_apart(whole.main.images[number]["file_name"], wanted.val)}
    sides = {"train": [i for i in whole.ids if i not in apart], "val": [i for i in whole.ids if i in apart]}
    return [replace(whole, name=name, ids=tuple(ids)) for name, ids in sides.items() if ids]


def set_apart(file_name: str, share: float) -> bool:
    """Return True if an image belongs to ``val``, which follows from its name alone.

    >>> sum(set_apart(f"{number}.jpg", 0.2) for number in range(1000))
    189
    """
    return int.from_bytes(hashlib.sha256(file_name.encode()).digest()[:4], "big") < share * 2**32


def _places(source: Path, name: str) -> list[Path]:
    return [source / "annotations" / name, source / name]


def _stuff(source: Path, stem: str | None, wanted: CocoConfig, number: int) -> Path | None:
    """Return the folder of maps of category ids: that of the option, or the one that panopticapi's converter writes."""
    if wanted.stuff:
        folder = source / wanted.stuff[min(number, len(wanted.stuff) - 1)]
        if not folder.is_dir():
            raise BadInput(f"option 'stuff' of data set 'coco': there is no folder {folder}")
        return folder
    if stem is None:
        return None
    return next((place for place in _places(source, f"panoptic_semseg_{stem}") if place.is_dir()), None)


def _pngs(panoptic: CocoFile, source: Path) -> Path:
    places = [panoptic.path.with_suffix(""), source / panoptic.path.stem, panoptic.path.parent]
    for folder in places[:2]:
        if folder.is_dir():
            return folder
    return places[-1]


def _images(file: CocoFile, places: Sequence[Path], wanted: CocoConfig) -> Path:
    """Return the folder in which the first images lie: of the option, or the first place that has one of them."""
    if wanted.images:
        root = file.path.parent if not places else places[-1]
        for folder in (Path(wanted.images), *(place / wanted.images for place in places), root / wanted.images):
            if folder.is_dir():
                return folder
        raise BadInput(f"option 'images' of data set 'coco': there is no folder {wanted.images!r} beside {file.path}")
    names = [_file_name(file, number) for number in list(file.images)[:100]]
    for folder in places:
        if any((folder / name).is_file() for name in names):
            return folder
    return places[0]


def _file_name(file: CocoFile, image_id: int) -> str:
    name = file.images[image_id].get("file_name")
    if not isinstance(name, str) or not name:
        raise BadInput(f"{file.path}: image {image_id} has no file_name")
    return name


def _present(file: CocoFile, folder: Path, wanted: CocoConfig) -> tuple[int, ...]:
    """Return the ids of the images, all of which must be there unless ``skip_missing``."""
    there = []
    for number in file.images:
        name = _file_name(file, number)
        if (folder / name).is_file():
            there.append(number)
        elif wanted.skip_missing:
            note("images that are not there, left out", f"{file.path.name} image {number} ({name})")
        else:
            raise BadInput(
                f"{file.path}: image {number} names {name}, which is not in {folder}; the option skip_missing=True of "
                "data set 'coco' keeps only the images that are there"
            )
    if not there:
        raise BadInput(f"{file.path} names no image that is in {folder}")
    return tuple(there)
