"""Miniature folders in COCO's layouts, written by the tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.data import sets
from jaxseg.data.coco_tables import JOINTS, STUFF, STUFF_IDS, THING_IDS, THINGS

SIZE = (8, 12)
"""Height and width of every image."""

CATEGORIES = [{"id": number, "name": name} for number, name in zip(THING_IDS, THINGS, strict=True)]
STUFF_CATEGORIES = [{"id": number, "name": name, "isthing": 0} for number, name in zip(STUFF_IDS, STUFF, strict=True)]


def square(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def annotation(number: int, image: int, category: int, box=(1, 2, 4, 3), **more) -> dict:
    """An object whose mask fills its box."""
    given = {"segmentation": square(*box), "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": category, **given, **more}


def images(count: int) -> list[dict]:
    return [{"id": 10 + i, "file_name": f"{i:012}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in range(count)]


def write_json(path: Path, annotations: list[dict], count: int = 3, categories=None, **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = CATEGORIES if categories is None else categories
    content = {"images": images(count), "annotations": annotations, "categories": categories, **more}
    path.write_text(json.dumps(content))
    return path


def write_images(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:012}.jpg")


def person_keypoints(annotations: list[dict]) -> dict:
    """What write_json takes for a file of person keypoints."""
    return {"annotations": annotations, "categories": [{"id": 1, "name": "person", "keypoints": list(JOINTS)}]}


def write_panoptic(path: Path, maps: dict[int, np.ndarray], segments: dict[int, list[dict]], count: int = 3) -> None:
    """Maps hold the segments' ids."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for image, ids in maps.items():
        name = f"{image - 10:012}.png"
        colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
        Image.fromarray(colours).save(folder / name)
        rows.append({"image_id": image, "file_name": name, "segments_info": segments[image]})
    write_json(path, rows, count, [{**row, "isthing": 1} for row in CATEGORIES] + STUFF_CATEGORIES)


CROWD = {"size": list(SIZE), "counts": [8, 4, 84]}
OBJECTS = [
    annotation(1, 10, 1, (1, 2, 6, 4)),
    annotation(2, 10, 18, (2.5, 3.0, 2.0, 2.0)),
    annotation(3, 10, 1, (1, 0, 1, 4), segmentation=CROWD, iscrowd=1),
    annotation(5, 12, 90, (0, 0, 12, 8), area=77.5),
]
"""Image 11 has none."""


def opened(folder, split="train", keys=None, **options):
    chosen = tuple(options.items())
    where = folder / "prepared"
    sets.prepare("coco", source=folder, data_dir=where, options=chosen)
    return sets.open_split("coco", split, keys=keys, data_dir=where, options=chosen)


def notes(folder, **options):
    return sets.prepared_from("coco", data_dir=folder / "prepared", options=tuple(options.items())).notes


def mask_of(record, slot):
    return (record["instance_ids"] == slot + 1) | (record["hidden_ids"] == slot + 1)


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def panoptic_tree(folder):
    """The person's segment is what the dog in front leaves of it; grass, and a strip of void."""
    ids = np.full(SIZE, 2**20 + 3)
    ids[2:6, 1:7] = 300
    ids[3:5, 2:5] = 9
    ids[:, 11] = 0
    rows = [{"id": 300, "category_id": 1}, {"id": 9, "category_id": 18}, {"id": 2**20 + 3, "category_id": 193}]
    write_images(folder / "train2017")
    path = folder / "annotations" / "panoptic_train2017.json"
    write_panoptic(path, {10: ids, 11: np.zeros(SIZE, int)}, {10: rows, 11: []})
    return ids
