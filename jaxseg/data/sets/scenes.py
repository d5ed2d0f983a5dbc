"""Ray-cast rooms of spheres, boxes, cylinders and cones: a generated data set, no download needed.

Every scene is made from its split and number alone, so that anybody's scenes are the same; see
:mod:`jaxseg.data.raycast` for what is in them. All ground truth is exact: semantic classes, instances with occlusion,
boxes of the visible parts, keypoints (top, bottom and middle of each object), panoptic, depth, normals, boundaries,
saliency. Colours tell nothing of the class. Patterns hint at it (cones are striped, boxes of brick or wood), but a
quarter of all objects is plain.

Instances are kept as one map of ids in 16 bits, not as masks relative to boxes: objects never overlap in an image, a
map is smaller than a mask per object, decodes in one go, and moves exactly under any transform.
"""

import io
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import objects
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.raycast import CLASSES, JOINTS, THINGS, random_room, render
from jaxseg.data.records import Record, encode_png
from jaxseg.errors import BadInput

GENERATED = True
ENCODED = ("image", "label", "instance_ids", "boundary", "saliency")

_AT_ONCE = 64

PALETTE = (
    (150, 150, 160),
    (120, 90, 60),
    (225, 225, 240),
    (220, 60, 60),
    (60, 160, 60),
    (60, 80, 220),
    (235, 190, 40),
)

FACTS = Facts(
    name="scenes",
    summary="ray-cast rooms with exact ground truth for every task, made on first use, 128x128 unless told otherwise",
    classes=CLASSES,
    palette=PALETTE,
    things=THINGS,
    thing_palette=PALETTE[CLASSES.index(THINGS[0]) :],
    splits={"train": 1000, "val": 200},
    keys=(
        *("image", "label", "boxes", "classes", "instance_ids", "keypoints", "panoptic"),
        *("depth", "normal", "boundary", "saliency"),
    ),
    licence="Apache-2.0, as jaxseg",
    source="made by jaxseg itself",
    joints=JOINTS,
    skeleton=(("top", "middle"), ("middle", "bottom")),
    options={"size": 128, "train": 1000, "val": 200},
)


@dataclass(eq=False)
class ScenesConfig(tfds.core.BuilderConfig):
    """Size of the scenes and number per split.

    >>> ScenesConfig(name="small", height=8, width=8, counts=(("train", 3),)).height
    8
    """

    height: int = 128
    width: int = 128
    counts: tuple[tuple[str, int], ...] = ()


def config(options: Mapping[str, Any]) -> ScenesConfig:
    """Return the TFDS configuration of the options: ``size`` (a side, or both), ``train`` and ``val`` (numbers).

    Raises:
      BadInput: an option is not a positive whole number.

    >>> config({"size": 64, "train": 10, "val": 2}).name
    '64x64_train10_val2'
    """
    size = options["size"]
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    height, width = (_whole("size", side) for side in sides)
    train, val = _whole("train", options["train"]), _whole("val", options["val"])
    return ScenesConfig(
        name=f"{height}x{width}_train{train}_val{val}",
        height=height,
        width=width,
        counts=(("train", train), ("val", val)),
    )


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or value < 1:
        raise BadInput(f"option {name!r} of data set 'scenes' is {value!r}, not a positive whole number")
    return value


class Scenes(LocalBuilder):
    """Render the scenes and write them: maps as PNG, depth and normals as compressed numbers.

    >>> Scenes.FACTS.things
    ('sphere', 'box', 'cylinder', 'cone')
    """

    VERSION = tfds.core.Version("3.0.0")  # objects index the table of things
    FACTS = FACTS
    builder_config: ScenesConfig

    def features(self) -> dict[str, Any]:
        """Return everything but ``panoptic``, which follows from label and ids."""
        height, width = self.builder_config.height, self.builder_config.width
        grey = tfds.features.Image(shape=(height, width, 1))
        numbers = {"dtype": np.float32, "encoding": tfds.features.Encoding.ZLIB}
        return {
            "image": tfds.features.Image(shape=(height, width, 3)),
            "label": grey,
            "instance_ids": tfds.features.Image(shape=(height, width, 1), dtype=np.uint16),
            "boundary": grey,
            "saliency": grey,
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "classes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "keypoints": tfds.features.Tensor(shape=(None, len(JOINTS), 3), dtype=np.float32),
            "depth": tfds.features.Tensor(shape=(height, width), **numbers),
            "normal": tfds.features.Tensor(shape=(height, width, 3), **numbers),
        }

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val, rendered on demand."""
        return {split: _examples(self.builder_config, split, count) for split, count in self.builder_config.counts}


Builder = Scenes


def scene(split: str, index: int, height: int, width: int) -> Record:
    """Render scene number ``index`` of a split; the same room at every size.

    >>> sorted(scene("train", 0, 8, 8))[:4]
    ['boundary', 'boxes', 'classes', 'depth']
    """
    rng = np.random.default_rng((zlib.crc32(split.encode()), index))
    return render(random_room(rng), height, width, rng)


def to_record(example: Mapping[str, Any]) -> Record:
    """Decode a stored example; add ``panoptic`` if label and ids are there.

    >>> to_record({"depth": np.zeros((2, 3), np.float32)})["depth"].shape
    (2, 3)
    """
    record = objects.to_record(example, ENCODED)
    for key in ("boundary", "saliency"):
        if key in record:
            record[key] = record[key] > 0
    return objects.with_panoptic(record)


def _examples(config: ScenesConfig, split: str, count: int) -> Examples:
    def make(index: int) -> dict[str, Any]:
        return _example(scene(split, index, config.height, config.width))

    def made() -> Iterator[dict[str, Any]]:
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # NumPy releases the interpreter on large arrays
            for start in range(0, count, _AT_ONCE):
                yield from pool.map(make, range(start, min(start + _AT_ONCE, count)))

    return count, made()


def _example(record: Record) -> dict[str, Any]:
    del record["panoptic"]
    for key in ("boundary", "saliency"):
        record[key] = record[key].astype(np.uint8)
    return {key: io.BytesIO(encode_png(value)) if key in ENCODED else value for key, value in record.items()}
