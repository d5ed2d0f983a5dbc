"""PASCAL-Part: photographs of VOC 2010 with people, whose bodies are labelled in six parts (Chen et al. 2014).

Source folder: ``VOCdevkit`` as the archive unpacks (or its parent, or ``VOC2010`` itself), and beside it or in
``VOC2010`` the folder ``Annotations_Part`` with ``ID.mat``. ``train`` and ``val`` are the photographs of VOC's lists
``Main/train.txt`` and ``val.txt`` in which a part of a person is labelled, in the order of the lists. The 24 published
parts are gathered into six as by Chen et al. 2016 (arXiv:1511.03339), see :data:`GATHERED`; left and right are one, and
what is no person is background.

Reference: Chen, Mottaghi, Liu, Fidler, Urtasun, Yuille 2014, arXiv:1406.2031.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image", "label")

GATHERED: dict[str, tuple[str, ...]] = {
    "head": ("head", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth", "hair"),
    "torso": ("torso", "neck"),
    "upper_arm": ("luarm", "ruarm"),
    "lower_arm": ("llarm", "lhand", "rlarm", "rhand"),
    "upper_leg": ("luleg", "ruleg"),
    "lower_leg": ("llleg", "lfoot", "rlleg", "rfoot"),
}
"""The published parts that each class gathers."""

NUMBERS = {part: number for number, parts in enumerate(GATHERED.values(), 1) for part in parts}
"""The class of each published part."""

FACTS = Facts(
    name="pascal_parts",
    summary="photographs of VOC 2010 with people: six parts of their bodies, and background",
    classes=("background", *GATHERED),
    palette=((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)),
    splits={"train": 1716, "val": 1817},
    licence="images from flickr under its terms of use; research, with citation",
    url="https://roozbehm.info/pascal-parts/pascal-parts.html",
    source="VOCtrainval_03-May-2010.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2010/ and Annotations_Part of "
    "https://roozbehm.info/pascal-parts/pascal-parts.html, unpacked side by side",
    citation="Chen, Mottaghi, Liu, Fidler, Urtasun, Yuille, Detect What You Can, CVPR 2014",
)


class PascalParts(LocalBuilder):
    """Write train and val, the photographs with people alone.

    >>> PascalParts.FACTS.num_classes
    7
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label as PNG, and the ID."""
        return label_files.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val, those whose list is there.

        Raises:
          BadInput: there are no lists or no annotations, or one is unreadable.
        """
        assert source is not None
        voc, annotations = _folders(source)
        found: dict[str, Examples] = {}
        for split in FACTS.splits:
            path = voc / "ImageSets" / "Main" / f"{split}.txt"
            if path.is_file():
                names = [name for name in _listed(path) if _people(annotations / f"{name}.mat")]
                found[split] = (len(names), _examples(voc, annotations, names))
        if not found:
            raise BadInput(f"{voc / 'ImageSets' / 'Main'} holds neither train.txt nor val.txt; {FACTS.source}")
        return found


Builder = PascalParts
to_record = label_files.to_record


def _people(path: Path) -> list[list[tuple[str, np.ndarray]]]:
    """Return the parts of each person of an annotation that has any: name and bool map of each.

    Raises:
      BadInput: the file is absent or no annotation of PASCAL-Part.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}; {FACTS.source}")
    try:
        objects = np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["anno"].objects)
        found = [
            [(str(part.part_name), np.asarray(part.mask) > 0) for part in np.atleast_1d(thing.parts)]
            for thing in objects
            if str(getattr(thing, "class")) == "person"
        ]
    except (MatReadError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} is no annotation of PASCAL-Part: {error}") from None
    return [parts for parts in found if parts]


def _label_of(path: Path) -> np.ndarray:
    """Return the map of classes, u8[h w], of an annotation with people.

    Raises:
      BadInput: a part has a name that no class gathers.
    """
    label: np.ndarray | None = None
    for name, mask in (part for parts in _people(path) for part in parts):
        if name not in NUMBERS:
            raise BadInput(
                f"{path}: {name!r} is no part of a person in PASCAL-Part; classes gather {len(NUMBERS)} parts"
            )
        label = np.zeros(mask.shape, np.uint8) if label is None else label
        if mask.shape != label.shape:
            raise BadInput(f"{path}: {name!r} is a map of {mask.shape}, other parts are of {label.shape}")
        label[mask] = NUMBERS[name]
    if label is None:
        raise BadInput(f"{path} has no part of a person")
    return label


def _folders(source: Path) -> tuple[Path, Path]:
    """Return VOC2010 and the folder of annotations."""
    places = (source / "VOCdevkit" / "VOC2010", source / "VOC2010", source)
    voc = next((place for place in places if (place / "ImageSets").is_dir()), None)
    if voc is None:
        raise BadInput(f"{source} holds no VOCdevkit/VOC2010 with ImageSets; {FACTS.source}")
    beside = (voc, voc.parent, voc.parent.parent)
    annotations = next((place / "Annotations_Part" for place in beside if (place / "Annotations_Part").is_dir()), None)
    if annotations is None:
        raise BadInput(f"there is no folder Annotations_Part in or beside {voc}; {FACTS.source}")
    return voc, annotations


def _listed(path: Path) -> list[str]:
    """Return the names of a list, without those that VOC's list of people says have none."""
    of_people = path.with_name(f"person_{path.name}")
    rows = [line.split() for line in label_files.lines_of(of_people if of_people.is_file() else path)]
    return [name for name, *seen in rows if seen != ["-1"]]


def _examples(voc: Path, annotations: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        label = _label_of(annotations / f"{name}.mat")
        yield label_files.example(find_image(voc / "JPEGImages", name, (".jpg", ".jpeg")), label, name)
