"""PASCAL VOC 2012 segmentation, 21 classes, with the training images that SBD adds (Everingham et al. 2010; Hariharan
et al. 2011).

Source folder: ``VOCdevkit/VOC2012`` as the archive unpacks (or its parent, or VOC2012 itself): ``JPEGImages``,
``SegmentationClass``, ``SegmentationObject``, ``ImageSets/Segmentation/train.txt`` and ``val.txt``. Beside VOCdevkit
there may lie SBD as its archive unpacks, ``benchmark_RELEASE/dataset`` with ``cls/ID.mat``, ``inst/ID.mat``,
``train.txt`` and ``val.txt``. Then there are also

* ``train_aug``: the images of all three training lists and of SBD's validation list without those of VOC's ``val``, in
  the order of their names, with VOC's own annotation where there is one;
* ``sbd_train``: SBD's training list with SBD's annotation, what the public FCNs were trained on;
* ``seg11valid``: VOC 2011's validation list without SBD's training images, what they were judged on, if VOCdevkit holds
  ``VOC2011`` as well.

Objects are numbered from 1 in ``instance_ids``, as the files number them; their rim is 0 there.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.records import encode_png
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label", "instance_ids")

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
    splits={"train": 1464, "val": 1449, "train_aug": 10582, "sbd_train": 8498, "seg11valid": 736},
    keys=("image", "label", "instance_ids"),
    licence="images from flickr under its terms of use; research, with citation",
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    source="VOCtrainval_11-May-2012.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, and for train_aug "
    "benchmark.tgz of http://home.bharathh.info/pubs/codes/SBD/download.html, unpacked side by side",
    citation="Everingham, Van Gool, Williams, Winn, Zisserman, IJCV 2010; Hariharan et al., ICCV 2011 (SBD)",
)


class Voc(LocalBuilder):
    """Write train and val, and what SBD adds where it is there, in the order of their lists.

    >>> Voc.FACTS.num_classes
    21
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label and objects as PNG, and its name."""
        return {**label_files.features(), "instance_ids": tfds.features.Image(shape=(None, None, 1))}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val; with SBD train_aug and sbd_train; with VOC 2011 too seg11valid.

        Raises:
          BadInput: VOC2012 is not there, or a list names what is not there.
        """
        assert source is not None
        voc = _voc(source)
        lists = {split: _list(voc, split) for split in ("train", "val")}
        splits: dict[str, Examples] = {
            split: (len(names), (_example(voc, name) for name in names)) for split, names in lists.items()
        }
        sbd = next((p for p in (_sbd(source), _sbd(voc.parent.parent)) if p.is_dir()), None)
        if sbd is None:
            return splits
        theirs = {split: label_files.lines_of(sbd / f"{split}.txt") for split in ("train", "val")}
        own = set(lists["train"])
        names = sorted((own | set(theirs["train"]) | set(theirs["val"])) - set(lists["val"]))
        makes = (_example(voc, name) if name in own else _added(voc, sbd, name) for name in names)
        splits["train_aug"] = (len(names), makes)
        splits["sbd_train"] = (len(theirs["train"]), (_added(voc, sbd, name) for name in theirs["train"]))
        old = voc.parent / "VOC2011"
        if old.is_dir():
            kept = [name for name in _list(old, "val") if name not in set(theirs["train"])]
            splits["seg11valid"] = (len(kept), (_example(old, name) for name in kept))
        return splits


Builder = Voc
to_record = label_files.to_record


def _voc(source: Path) -> Path:
    for folder in (source / "VOCdevkit" / "VOC2012", source / "VOC2012", source):
        if (folder / "ImageSets" / "Segmentation").is_dir():
            return folder
    raise BadInput(f"{source} holds no VOCdevkit/VOC2012 with ImageSets/Segmentation; {FACTS.source}")


def _sbd(source: Path) -> Path:
    return source / "benchmark_RELEASE" / "dataset"


def _list(voc: Path, split: str) -> list[str]:
    return label_files.lines_of(voc / "ImageSets" / "Segmentation" / f"{split}.txt")


def _example(voc: Path, name: str) -> dict[str, Any]:
    path = voc / "SegmentationClass" / f"{name}.png"
    objects = label_files.label_map(voc / "SegmentationObject" / f"{name}.png")
    return _checked(
        voc,
        name,
        path,
        label_files.label_map(path, dict(enumerate(FACTS.palette))),
        np.where(objects == VOID, 0, objects),
    )


def _added(voc: Path, sbd: Path, name: str) -> dict[str, Any]:
    path = sbd / "cls" / f"{name}.mat"
    return _checked(voc, name, path, _from_matlab(path, "GTcls"), _from_matlab(sbd / "inst" / path.name, "GTinst"))


def _checked(voc: Path, name: str, path: Path, label: np.ndarray, objects: np.ndarray) -> dict[str, Any]:
    top = int(label[label != VOID].max(initial=0))
    if top >= FACTS.num_classes:
        raise BadInput(f"{path}: label value {top} is outside 0..{FACTS.num_classes - 1} and {VOID} (void)")
    if objects.shape != label.shape:
        raise BadInput(f"{path} is a map of {label.shape}, but its objects' is of {objects.shape}")
    image = voc / "JPEGImages" / f"{name}.jpg"
    example = label_files.example(image, label, name)
    return {**example, "instance_ids": io.BytesIO(encode_png(objects.astype(np.uint8)))}


def _from_matlab(path: Path, struct: str) -> np.ndarray:
    """Read ``Segmentation`` of SBD's ``GTcls`` or ``GTinst``; it has no void."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        return np.asarray(loadmat(path)[struct]["Segmentation"][0, 0], np.uint8)
    except (MatReadError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BadInput(f"{path} holds no {struct}.Segmentation: {error}") from None
