"""COCO (Lin et al. 2014, arXiv:1405.0312): objects, person keypoints, panoptic segments; and your own COCO JSON.

Source folder, as the archives of 2017 or 2014 unpack, any part of it::

    train2017/000000000009.jpg ...        images; likewise val2017
    annotations/instances_train2017.json  objects with boxes and masks (or boxes_train2017.json, without masks)
    annotations/person_keypoints_train2017.json
    annotations/panoptic_train2017.json   and its PNGs in annotations/panoptic_train2017 or panoptic_train2017
    annotations/panoptic_semseg_train2017 maps of category ids, where panoptic annotations are absent

Where instances are absent, the segments of things in the panoptic annotations are the objects, or else the persons with
keypoints. ``label`` is made of the panoptic annotations, or else of PNGs of category ids (0 void), as panopticapi's
``panoptic2semantic_segmentation.py`` writes them.

With the option ``json`` it is any folder of images with a JSON in COCO's format, and the classes are that file's: see
``docs/your-own-objects.md``. What is refused, and what is dropped and counted: :mod:`jaxseg.data.coco_json`.

Masks are kept as COCO's run lengths, since objects overlap: exact, and smaller than a picture for each. Keypoints stay
as annotated: a whole number stands for the corner of a pixel.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import coco_source, coco_tables, label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.coco_categories import (
    check_official,
    choose,
    from_row,
    joints_of,
    merge_tables,
    official,
    to_row,
)
from jaxseg.data.coco_json import Category, CocoObject, objects_of, panoptic_segments, read_coco, size_of
from jaxseg.data.coco_source import CocoConfig, CocoSplit
from jaxseg.data.facts import Facts
from jaxseg.data.masks import id_maps, match_segments
from jaxseg.data.notes import note
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "panoptic")

FACTS = Facts(
    name="coco",
    summary="photographs of 80 kinds of objects, 53 kinds of stuff; or your own images with a COCO JSON",
    classes=coco_tables.THINGS + coco_tables.STUFF,
    palette=coco_tables.PALETTE,
    things=coco_tables.THINGS,
    thing_palette=coco_tables.PALETTE[: len(coco_tables.THINGS)],
    splits={"train": 118287, "val": 5000},
    keys=(
        *("image", "label", "boxes", "classes", "crowd", "area", "instance_ids", "hidden_ids", "rle", "keypoints"),
        "panoptic",
    ),
    licence="annotations CC BY 4.0; images under the terms of flickr, each with a licence of its own",
    url="https://cocodataset.org",
    source="train2017.zip, val2017.zip, annotations_trainval2017.zip and panoptic_annotations_trainval2017.zip of "
    "https://cocodataset.org/#download, unpacked side by side, or any part of them; or your own images and JSON",
    citation="Lin et al., ECCV 2014; Kirillov et al., CVPR 2019 (panoptic)",
    joints=coco_tables.JOINTS,
    skeleton=coco_tables.SKELETON,
    options={
        "year": 2017,
        "json": None,
        "panoptic": None,
        "images": None,
        "stuff": None,
        "classes": (),
        "val": 0.2,
        "skip_missing": False,
    },
    class_ids=coco_tables.THING_IDS + coco_tables.STUFF_IDS,
    thing_ids=coco_tables.THING_IDS,
    made_of={
        "label": ("panoptic", "original_size"),
        "panoptic": ("panoptic", "original_size"),
        "instance_ids": ("rle", "original_size"),
        "hidden_ids": ("rle", "original_size"),
    },
)

config = coco_source.config

_NO_MASKS = b"!"
"""In place of run lengths where the annotations have boxes alone; no run-length string has this character."""

_NO_SEGMENTS = 2**16 - 1
"""Instance id of every pixel where only the classes are known."""

_OTHER = 183
"""Category of all things in maps of stuff."""


class Coco(LocalBuilder):
    """Write the splits whose annotations are there, in the order of their files.

    >>> Coco.FACTS.num_classes, len(Coco.FACTS.things)
    (133, 80)
    """

    VERSION = tfds.core.Version("1.0.0")
    FACTS = FACTS
    builder_config: CocoConfig

    def features(self) -> dict[str, Any]:
        """Return image, objects, masks as run lengths, panoptic as PNG (class, instance id), and COCO's image id."""
        return {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "id": tfds.features.Text(),
            "image_id": tfds.features.Scalar(np.int64),
            "original_size": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "classes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "crowd": tfds.features.Tensor(shape=(None,), dtype=np.bool_),
            "area": tfds.features.Tensor(shape=(None,), dtype=np.float32),
            "rle": tfds.features.Text(),
            "keypoints": tfds.features.Tensor(shape=(None, None, 3), dtype=np.float32, encoding="zlib"),
            "panoptic": tfds.features.Image(shape=(None, None, 3)),
        }

    def facts(self) -> Facts:
        """Return COCO's facts, or those of your own annotations, prepared or not; of ``classes``, those alone.

        Raises:
          BadInput: the annotations are neither prepared nor found, or a class is not among them.
        """
        wanted = self.builder_config
        if not wanted.own:
            return FACTS if not wanted.classes else _facts(choose(official(), wanted.classes))
        stored = (self.info.metadata or {}).get("categories")
        if stored is not None:
            return _facts([from_row(row) for row in stored])
        found = [Path(name) for name in (*wanted.json, *wanted.panoptic) if Path(name).is_file()]
        if found:
            return _facts(choose(merge_tables([read_coco(path) for path in found]), wanted.classes))
        if wanted.classes:
            return _facts([Category(0, name) for name in wanted.classes])
        raise BadInput(
            f"data set 'coco' with {', '.join(wanted.json or wanted.panoptic)} is not prepared, so its classes are not "
            "known; prepare it, or name them in its option 'classes'"
        )

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return the splits whose annotations are there.

        Raises:
          BadInput: none is, or a file is not what it should be.
        """
        assert source is not None
        wanted = self.builder_config
        found = coco_source.find_splits(source, wanted)
        files = [file for split in found for file in (split.objects, split.keypoints, split.panoptic) if file]
        table = merge_tables(files) if wanted.own else check_official(files)
        table = choose(table, wanted.classes)
        assert self.info.metadata is not None
        self.info.metadata["categories"] = [to_row(category) for category in table]
        return {split.name: (len(split.ids), _examples(split, table)) for split in found}


Builder = Coco


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read: id maps of the run lengths, class and instance id of the panoptic picture.

    Masks, keypoints and panoptic segments that the annotations lack are left out.

    >>> text = rle.to_string(rle.encode([[0, 1], [0, 1]])).encode()
    >>> to_record({"rle": text, "original_size": np.asarray([2, 2])})["instance_ids"].tolist()
    [[0, 1], [0, 1]]
    """
    record = {key: value for key, value in example.items() if key not in ("image", "rle", "panoptic", "original_size")}
    if "image" in example:
        image = decode_image(example["image"])
        record["image"] = image
    height, width = (int(side) for side in example.get("original_size", (0, 0)))
    if "rle" in example and example["rle"] != _NO_MASKS:
        record["rle"] = np.frombuffer(example["rle"], np.uint8)
        if height:
            lines = example["rle"].decode("ascii").split("\n")
            shown = [rle.from_string(line, height, width) if line else None for line in lines]
            record["instance_ids"], record["hidden_ids"] = id_maps(shown, height, width)
    if "panoptic" in example:
        picture = decode_image(example["panoptic"])
        if picture.shape[:2] == (height, width):
            record["label"] = picture[..., 0]
            numbers = picture[..., 1] + picture[..., 2].astype(np.int32) * 256
            if (numbers != _NO_SEGMENTS).any():
                record["panoptic"] = np.stack([picture[..., 0], numbers], -1, dtype=np.int32)
    if "keypoints" in record and not record["keypoints"].shape[1]:
        del record["keypoints"]
    return record


@dataclass(frozen=True)
class _Table:
    """Category id -> class and thing, of those asked for; an object's keypoints; whether it has masks; all ids."""

    classes: Mapping[int, int]
    things: Mapping[int, int]
    joints: int
    masks: bool
    known: frozenset[int]


def _examples(split: CocoSplit, table: Sequence[Category]) -> Iterator[dict[str, Any]]:
    files = [file for file in (split.objects, split.keypoints, split.panoptic) if file]
    things = [category.id for category in table if category.thing]
    named = [file.categories[number] for file in files for number in things if number in file.categories]
    known = _Table(
        classes={category.id: number for number, category in enumerate(table)},
        things={number: index for index, number in enumerate(things)},
        joints=len(joints_of(named)),
        masks=split.panoptic is not None
        or any(row.get("segmentation") for file in files for rows in file.annotations.values() for row in rows),
        known=frozenset(FACTS.class_ids) | {number for file in files for number in file.categories},
    )
    return (_example(split, number, known) for number in split.ids)


def _example(split: CocoSplit, image_id: int, table: _Table) -> dict[str, Any]:
    main = split.main
    assert main is not None
    size = size_of(main, image_id)
    name = main.images[image_id]["file_name"]
    try:
        image, _ = label_files.encoded_image(split.images / name, size)
    except BadInput as error:
        raise BadInput(f"{main.path}: image {image_id}: {error}") from None
    objects = _objects(split, image_id, table)
    panoptic = np.full((1, 1, 3), VOID, np.uint8)
    if split.panoptic is not None:
        objects, panoptic = _with_panoptic(split, image_id, size, objects, table)
    elif split.stuff is not None:
        panoptic = _label_only(split.stuff / f"{Path(name).stem}.png", size, table)
    for one in objects:
        if table.masks and one.mask is None:
            note("objects without a mask", f"{main.path.name} annotation {one.id}")
    points = [one.keypoints if one.keypoints is not None else np.zeros((table.joints, 3)) for one in objects]
    return {
        "image": io.BytesIO(image),
        "id": name,
        "image_id": image_id,
        "original_size": np.asarray(size, np.int32),
        "boxes": np.asarray([one.box for one in objects], np.float32).reshape(-1, 4),
        "classes": np.asarray([table.things[one.category] for one in objects], np.int32),
        "crowd": np.asarray([one.crowd for one in objects], bool),
        "area": np.asarray([one.area for one in objects], np.float32),
        "rle": _text([one.mask for one in objects]) if table.masks else _NO_MASKS,
        "keypoints": np.asarray(points, np.float32).reshape(len(objects), table.joints, 3),
        "panoptic": io.BytesIO(encode_png(panoptic)),
    }


def _text(shown: Sequence[rle.Rle | None]) -> str:
    return "\n".join("" if mask is None else rle.to_string(mask) for mask in shown)


def _objects(split: CocoSplit, image_id: int, table: _Table) -> list[CocoObject]:
    """Return the objects of the classes asked for, with keypoints of the other file where they have some there."""
    main = split.objects or (None if split.panoptic else split.keypoints)
    if main is None:
        return []
    found = [one for one in objects_of(main, image_id, joints=table.joints) if one.category in table.things]
    if split.keypoints is not None and main is not split.keypoints:
        points = {one.id: one.keypoints for one in objects_of(split.keypoints, image_id, joints=table.joints)}
        found = [replace(one, keypoints=points.get(one.id)) for one in found]
    return found


def _with_panoptic(
    split: CocoSplit, image_id: int, size: tuple[int, int], objects: list[CocoObject], table: _Table
) -> tuple[list[CocoObject], np.ndarray]:
    """Return the objects, with what the segments know of them, and u8[h w 3]: class, instance id in two bytes."""
    file, pngs = split.panoptic, split.pngs
    assert file is not None
    assert pngs is not None
    rows = file.annotations.get(image_id)
    if not rows:
        note("images without panoptic annotation", f"{file.path.name} image {image_id}")
        return objects, np.full((1, 1, 3), VOID, np.uint8)
    path = pngs / rows[0]["file_name"]
    numbers, kinds = panoptic_segments(file, image_id, _segment_ids(path, size), str(path))
    things = [(category, crowd) for category, crowd in kinds]
    if split.objects is None:
        shown: list[int | None] = [None] * len(kinds)
    else:
        shown = match_segments(
            numbers,
            things,
            [one.mask for one in objects],
            np.asarray([one.box for one in objects], np.float32).reshape(-1, 4),
            [(one.category, one.crowd) for one in objects],
        )
    objects = list(objects)
    lookup = np.zeros((len(kinds) + 1, 2), np.int64)
    lookup[0] = VOID, 0
    beyond = []
    for segment, (category, crowd) in enumerate(kinds):
        lookup[segment + 1, 0] = table.classes.get(category, VOID)
        if category not in table.things:
            continue
        number = shown[segment]
        if number is None and (split.objects is None or crowd):
            number = len(objects)
            objects.append(_from_segment(numbers == segment + 1, category, crowd))
        elif number is None:
            beyond.append(segment + 1)
            note("panoptic segments of things that no object fits", f"{file.path.name} image {image_id}")
            continue
        elif objects[number].mask is None:
            objects[number] = replace(objects[number], mask=rle.encode(numbers == segment + 1))
        lookup[segment + 1, 1] = number + 1
    lookup[beyond, 1] = np.arange(len(beyond)) + len(objects) + 1
    classes, ids = lookup[numbers, 0], lookup[numbers, 1]
    return objects, np.stack([classes, ids & 255, ids >> 8], -1).astype(np.uint8)


def _label_only(path: Path, size: tuple[int, int], table: _Table) -> np.ndarray:
    """Return u8[h w 3] of a map of category ids: class, and no instance ids."""
    ids = label_files.label_map(path)
    if ids.shape != size:
        raise BadInput(f"{path} is {ids.shape[1]}x{ids.shape[0]} but its image is {size[1]}x{size[0]}")
    lookup = np.full(256, VOID, np.uint8)
    for number, kind in table.classes.items():
        if number < len(lookup):
            lookup[number] = kind
    strange = sorted(set(np.unique(ids).tolist()) - table.known - {0, VOID, _OTHER})
    if strange:
        raise BadInput(
            f"{path}: category {strange[0]} is not in the table; maps of COCO's 91 kinds of stuff are not merged yet"
        )
    labels = lookup[ids]
    return np.stack([labels, np.full_like(labels, 255), np.full_like(labels, 255)], -1)


def _from_segment(mask: np.ndarray, category: int, crowd: bool) -> CocoObject:
    runs = rle.encode(mask)
    x, y, width, height = rle.bounding_box(runs)
    box = (float(x), float(y), float(x + width), float(y + height))
    return CocoObject(0, category, box, crowd, float(rle.area(runs)), runs)


def _segment_ids(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return i32[h w], the ids that the colours of a panoptic PNG stand for: R + 256 G + 65536 B."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    picture = decode_image(path.read_bytes())
    if picture.ndim != 3 or picture.shape[:2] != size:
        raise BadInput(f"{path} is a picture of {list(picture.shape)}, not the colours of {size[1]}x{size[0]} pixels")
    return picture[..., :3].astype(np.int32) @ np.asarray([1, 256, 65536], np.int32)


def _facts(table: Sequence[Category]) -> Facts:
    colours = coco_tables.PALETTE
    palette = tuple(category.colour or colours[number % len(colours)] for number, category in enumerate(table))
    things = [number for number, category in enumerate(table) if category.thing]
    joints = joints_of(table)
    return replace(
        FACTS,
        classes=tuple(category.name for category in table),
        palette=palette,
        things=tuple(table[number].name for number in things),
        thing_palette=tuple(palette[number] for number in things),
        class_ids=tuple(category.id for category in table),
        thing_ids=tuple(table[number].id for number in things),
        joints=joints,
        skeleton=tuple(limb for limb in FACTS.skeleton if set(limb) <= set(joints)),
        splits={},
    )
