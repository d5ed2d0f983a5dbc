"""Cityscapes, fine annotations, the 19 classes of its benchmark, 2048x1024 (Cordts et al. 2016, arXiv:1604.01685).

Source folder: ``leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/ID_gtFine_labelIds.png`` and
``ID_gtFine_instanceIds.png`` for train and val, as the two archives unpack. Label files count 34 kinds; those outside
the benchmark become void.

Objects are those of the 8 classes that are things. Where people or cars could not be told apart, the files number no
object (``instanceIds`` holds the kind itself): all such pixels of a class are one crowd.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import label_files, objects
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.images import read_label
from jaxseg.data.listing import images_in
from jaxseg.data.notes import note
from jaxseg.data.records import Record, encode_png
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label", "instance_ids")

FACTS = Facts(
    name="cityscapes",
    summary="street scenes of 50 cities, 2048x1024, 19 classes, 8 of them things",
    classes=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    palette=(
        *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
        *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60)),
        *((255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
    ),
    things=("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    thing_palette=(
        *((220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230)),
        (119, 11, 32),
    ),
    splits={"train": 2975, "val": 500},
    keys=("image", "label", "boxes", "classes", "crowd", "area", "instance_ids", "panoptic"),
    licence="non-commercial use after registration, with citation; no redistribution",
    url="https://www.cityscapes-dataset.com",
    source="leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com/downloads, "
    "unpacked side by side",
    citation="Cordts et al., CVPR 2016",
    weights={
        # ENet's 1 / ln(1.02 + share) over the training labels, as ERFNet's public code (Eromera/erfnet_pytorch) has it.
        "inverse_log": (
            *(2.8149, 6.9850, 3.7890, 9.9428, 9.7702, 9.5111, 10.3114, 10.0265, 4.6323, 9.5608, 7.8698, 9.5169),
            *(10.3737, 6.6616, 10.2605, 10.2879, 10.2898, 10.4054, 10.1381),
        ),
    },
)

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""What the label files hold for each class (the authors' cityscapesscripts, helpers/labels.py)."""


class Cityscapes(LocalBuilder):
    """Write the splits that the source folder holds, by city and name.

    >>> Cityscapes.FACTS.num_classes
    19
    """

    VERSION = tfds.core.Version("2.0.0")  # with objects
    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label and ids as PNG, boxes, classes, crowds, and the frame's id."""
        return {**label_files.features(), **objects.features(flags=("crowd",))}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val, those that are there.

        Raises:
          BadInput: none is.
        """
        assert source is not None
        splits = {}
        for split in self.FACTS.splits:
            cities = (source / "leftImg8bit" / split).glob("*")
            images = [path for city in sorted(cities) for path in images_in(city) if path.name.endswith(_IMAGE)]
            if images:
                splits[split] = _examples(images, source / "gtFine" / split)
        if not splits:
            raise BadInput(f"{source} holds no leftImg8bit/train/CITY/*{_IMAGE}; {FACTS.source}")
        return splits


Builder = Cityscapes

_IMAGE, _LABEL, _IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_instanceIds.png"


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read, with ``panoptic``.

    >>> to_record({"label": encode_png(np.zeros((2, 3), np.uint8))})["label"].shape
    (2, 3)
    """
    return objects.with_panoptic(objects.to_record(example, ENCODED))


def _examples(images: list[Path], annotations: Path) -> Examples:
    return len(images), (_example(path, annotations / path.parent.name) for path in images)


def _example(path: Path, annotations: Path) -> dict[str, Any]:
    name = path.name.removesuffix(_IMAGE)
    classes = np.full(256, VOID, np.uint8)
    classes[list(LABEL_IDS)] = range(len(LABEL_IDS))
    kinds = label_files.label_map(annotations / f"{name}{_LABEL}")
    found = _objects(annotations / f"{name}{_IDS}", kinds)
    return {**label_files.example(path, classes[kinds], name, rgb_only=True), **found}


def _objects(path: Path, kinds: np.ndarray) -> dict[str, Any]:
    """Return the objects of a file that holds ``1000 * kind + number`` for an object and the kind for all else."""
    if path.is_file():
        ids = read_label(path).astype(np.int32)
        if ids.shape != kinds.shape or (np.where(ids < 1000, ids, ids // 1000) != kinds).any():
            raise BadInput(f"{path}: its kinds differ from those of {path.name.replace(_IDS, _LABEL)} beside it")
    else:
        note("without objects, since there are no instanceIds", path.name.removesuffix(_IDS))
        ids = np.zeros(kinds.shape, np.int32)
    things = [LABEL_IDS[FACTS.classes.index(thing)] for thing in FACTS.things]
    numbers, ids, found = objects.from_ids(np.where(np.isin(kinds, things), ids, 0))
    crowd = numbers < 1000
    kind = np.where(crowd, numbers, numbers // 1000)
    return {
        **found,
        "classes": np.searchsorted(things, kind).astype(np.int32),
        "crowd": crowd,
        "instance_ids": io.BytesIO(encode_png(ids)),
    }
