"""BCCD: red and white blood cells and platelets under the microscope, 640x480, boxes (Shenggan/BCCD_Dataset, MIT).

Source folder: ``JPEGImages/NAME.jpg``, ``Annotations/NAME.xml`` in VOC's layout, and lists of names ``train.txt``,
``val.txt`` and ``test.txt``, beside them or in ``ImageSets/Main`` as in the folder ``BCCD`` of the repository.
Splits whose list is absent are not there; a list may be a part of the published one.

Red cells near the border are not all annotated. A box without extent is left out and said so.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from jaxseg.data import label_files, objects, voc_xml
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image
from jaxseg.data.records import Record
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image",)

FACTS = Facts(
    name="bccd",
    summary="blood cells under the microscope, 640x480, boxes of red and white cells and platelets",
    classes=(),
    palette=(),
    things=("RBC", "WBC", "Platelets"),
    thing_palette=((220, 60, 60), (70, 90, 220), (235, 190, 40)),
    splits={"train": 205, "val": 87, "test": 72},
    keys=("image", "boxes", "classes", "area"),
    licence="MIT",
    url="https://github.com/Shenggan/BCCD_Dataset",
    source="the folder BCCD of https://github.com/Shenggan/BCCD_Dataset",
    citation="Shenggan, BCCD Dataset, 2017 (images and labels by cosmicad and akshaylamba)",
)


class Bccd(LocalBuilder):
    """Write the splits whose lists the source folder holds, in the order of the lists.

    >>> Bccd.FACTS.things
    ('RBC', 'WBC', 'Platelets')
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, boxes and classes, and the image's name."""
        image = tfds.features.Image(shape=(None, None, 3))
        return {"image": image, "id": tfds.features.Text(), **objects.features(ids=False)}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train, val and test, those that are there.

        Raises:
          BadInput: there is no list, or one names what is not there.
        """
        assert source is not None
        root = source / "BCCD" if (source / "BCCD" / "Annotations").is_dir() else source
        folders = [folder for folder in (root, root / "ImageSets" / "Main") if (folder / "train.txt").is_file()]
        if not folders:
            raise BadInput(f"there is no list {root / 'train.txt'} nor in ImageSets/Main; {FACTS.source}")
        lists = {split: folders[0] / f"{split}.txt" for split in FACTS.splits}
        names = {split: label_files.lines_of(path) for split, path in lists.items() if path.is_file()}
        return {split: (len(found), (_example(root, name) for name in found)) for split, found in names.items()}


Builder = Bccd


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read.

    >>> import numpy as np
    >>> to_record({"boxes": np.zeros((0, 4), np.float32)})["boxes"].shape
    (0, 4)
    """
    return objects.to_record(example, ENCODED)


def _example(root: Path, name: str) -> dict[str, Any]:
    annotation = voc_xml.read_annotation(root / "Annotations" / f"{name}.xml")
    image, (height, width) = label_files.encoded_image(
        find_image(root / "JPEGImages", name, (".jpg", ".jpeg", ".png")), annotation.size
    )
    found = voc_xml.to_objects(annotation, FACTS.things, height=height, width=width)
    del found["difficult"]
    return {"image": io.BytesIO(image), "id": name, **found}
