"""PASCAL VOC 2012 segmentation, 21 classes, with the training images that SBD adds (Everingham et al. 2010; Hariharan
et al. 2011).

Source folder: ``VOCdevkit/VOC2012`` as the archive unpacks (or its parent, or VOC2012 itself): ``JPEGImages``,
``SegmentationClass``, ``ImageSets/Segmentation/train.txt`` and ``val.txt``. Beside VOCdevkit there may lie SBD as its
archive unpacks, ``benchmark_RELEASE/dataset`` with ``cls/ID.mat``, ``train.txt`` and ``val.txt``. Then there is also
``train_aug``: the images of all three training lists and of SBD's validation list without those of VOC's ``val``, in
the order of their names, with VOC's own annotation where there is one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data import labelled
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record, decode_image
from jaxseg.types import VOID, BadInput

EMBEDDED = False
ENCODED = ("image", "label")

FACTS = Facts(
    name="voc",
    summary="photographs of 20 kinds of objects, sides of at most 500 pixels; 255 around objects is void",
    classes=(
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    palette=(
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)),
        *((128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128)),
        *((64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)),
    ),
    splits={"train": 1464, "val": 1449, "train_aug": 10582},
    licence="images from flickr under its terms of use; research, with citation",
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    source="VOCtrainval_11-May-2012.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, and for train_aug "
    "benchmark.tgz of http://home.bharathh.info/pubs/codes/SBD/download.html, unpacked side by side",
    citation="Everingham, Van Gool, Williams, Winn, Zisserman, IJCV 2010; Hariharan et al., ICCV 2011 (SBD)",
)


class Voc(LocalBuilder):
    """Writes train and val, and train_aug where SBD is there, in the order of their lists."""

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Image as it was published, label as PNG, and its name."""
        return labelled.features()

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Train, val, and train_aug.

        Raises:
          BadInput: VOC2012 is not there, or a list names what is not there.
        """
        assert source is not None
        voc = _voc(source)
        lists = {
            split: labelled.lines_of(voc / "ImageSets" / "Segmentation" / f"{split}.txt") for split in ("train", "val")
        }
        splits: dict[str, Examples] = {
            split: (len(names), (_example(voc, name) for name in names)) for split, names in lists.items()
        }
        sbd = next((p for p in (_sbd(source), _sbd(voc.parent.parent)) if p.is_dir()), None)
        if sbd is not None:
            added = {name for split in ("train", "val") for name in labelled.lines_of(sbd / f"{split}.txt")}
            names = sorted((added | set(lists["train"])) - set(lists["val"]))
            own = set(lists["train"])
            makes = (_example(voc, name) if name in own else _added(voc, sbd, name) for name in names)
            splits["train_aug"] = (len(names), makes)
        return splits


Builder = Voc


def to_record(example: Mapping[str, Any]) -> Record:
    """Image and label, whichever were read."""
    return {key: decode_image(data) for key, data in example.items()}


def _voc(source: Path) -> Path:
    for folder in (source / "VOCdevkit" / "VOC2012", source / "VOC2012", source):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    raise BadInput(f"{source} holds no VOCdevkit/VOC2012 with ImageSets/Segmentation; {FACTS.source}")


def _sbd(source: Path) -> Path:
    return source / "benchmark_RELEASE" / "dataset"


def _example(voc: Path, name: str) -> dict[str, Any]:
    return _checked(voc, name, voc / "SegmentationClass" / f"{name}.png", labelled.label_map)


def _added(voc: Path, sbd: Path, name: str) -> dict[str, Any]:
    return _checked(voc, name, sbd / "cls" / f"{name}.mat", _from_matlab)


def _checked(voc: Path, name: str, path: Path, read: Any) -> dict[str, Any]:
    label = read(path)
    top = int(label[label != VOID].max(initial=0))
    if top >= FACTS.num_classes:
        raise BadInput(f"{path}: label value {top} is outside 0..{FACTS.num_classes - 1} and {VOID} (void)")
    image = voc / "JPEGImages" / f"{name}.jpg"
    return labelled.example(image, labelled.rgb_bytes(image), label, name)


def _from_matlab(path: Path) -> np.ndarray:
    """SBD's ``GTcls.Segmentation``; it has no void."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        return np.asarray(loadmat(path)["GTcls"]["Segmentation"][0, 0], np.uint8)
    except (MatReadError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BadInput(f"{path} holds no GTcls.Segmentation: {error}") from None
