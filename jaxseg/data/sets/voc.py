"""PASCAL VOC: segmentation of 2012, 21 classes, with what SBD adds; detection of 2007 and 2012, 20 things.

Source folder: ``VOCdevkit`` as the archives unpack (or its parent, or a year's folder itself). What is there gives the
splits; ``"2007_train+2007_val+2012_train+2012_val"``, say, is VOC's 07+12.

Of ``VOC2012/ImageSets/Segmentation``: ``train`` and ``val``. Beside VOCdevkit there may lie SBD as its archive unpacks,
``benchmark_RELEASE/dataset`` with ``cls/ID.mat``, ``inst/ID.mat``, ``train.txt`` and ``val.txt``. Then there are also

* ``train_aug``: the images of all three training lists and of SBD's validation list without those of VOC's ``val``, in
  the order of their names, with VOC's own annotation where there is one;
* ``sbd_train``: SBD's training list with SBD's annotation, what the public FCNs were trained on;
* ``seg11valid``: VOC 2011's validation list without SBD's training images, what they were judged on, if VOCdevkit holds
  ``VOC2011`` as well;
* ``sds_train`` and ``sds_val``: all of SBD, divided as VOC 2012 divides its images for detection, in the order of their
  names: what instance segmentation (SDS, MNC) is trained and judged on.

Where masks of objects are absent (``SegmentationObject``), there are the maps of classes alone. Without SBD's archive,
``train_aug`` may come as the folder ``SegmentationClassAug``: its images in ``ImageSets/Segmentation/trainaug.txt``, or
all but those of ``val``.

There the objects are those of the masks, their rim left out. Of ``VOC2007/ImageSets/Main`` and ``VOC2012/...``:
``2007_train``, ``2007_val``, ``2007_test``, ``2012_train`` and ``2012_val``. There the objects are the boxes of
``Annotations/ID.xml``; no pixel is labelled, and no object has a mask.

References: Everingham et al. 2010; Hariharan et al. 2011 (SBD); Hariharan et al. 2014, arXiv:1407.1808 (SDS).
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import label_files, objects, voc_xml
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import find_image, images_in
from jaxseg.data.notes import note
from jaxseg.data.records import Record, encode_png
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label", "instance_ids")

_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_PALETTE = (
    *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)),
    *((128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128)),
    *((64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)),
)

FACTS = Facts(
    name="voc",
    summary="photographs of 20 kinds of objects, sides of at most 500 pixels; 255 around objects is void",
    classes=_CLASSES,
    palette=_PALETTE,
    things=_CLASSES[1:],
    thing_palette=_PALETTE[1:],
    splits={
        "train": 1464,
        "val": 1449,
        "train_aug": 10582,
        "sbd_train": 8498,
        "seg11valid": 736,
        "sds_train": 5623,
        "sds_val": 5732,
        "2007_train": 2501,
        "2007_val": 2510,
        "2007_test": 4952,
        "2012_train": 5717,
        "2012_val": 5823,
    },
    keys=("image", "label", "boxes", "classes", "difficult", "area", "instance_ids"),
    licence="images from flickr under its terms of use; research, with citation",
    url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    source="VOCtrainval_11-May-2012.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2012/, for 2007 "
    "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2007/, for "
    "train_aug, sbd_train, sds_train and sds_val benchmark.tgz of "
    "http://home.bharathh.info/pubs/codes/SBD/download.html, unpacked side by side",
    citation="Everingham, Van Gool, Williams, Winn, Zisserman, IJCV 2010; Hariharan et al., ICCV 2011 (SBD)",
)

_DETECTION = {"2007": ("train", "val", "test"), "2012": ("train", "val")}


class Voc(LocalBuilder):
    """Write the splits of segmentation and of detection that the source folder holds.

    >>> Voc.FACTS.num_classes, len(Voc.FACTS.things)
    (21, 20)
    """

    VERSION = tfds.core.Version("2.0.0")  # with objects
    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image as published, label and ids as PNG, boxes, classes, difficult objects, and its name."""
        return {**label_files.features(), **objects.features(flags=("difficult",))}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return the splits whose lists are there.

        Raises:
          BadInput: none is, or a list names what is not there.
        """
        assert source is not None
        devkit = _devkit(source)
        splits: dict[str, Examples] = {}
        if (devkit / "VOC2012" / "ImageSets" / "Segmentation").is_dir():
            splits |= _segmentation(devkit, source)
        for year, parts in _DETECTION.items():
            folder = devkit / f"VOC{year}"
            lists = {part: folder / "ImageSets" / "Main" / f"{part}.txt" for part in parts}
            for part, path in lists.items():
                if path.is_file():
                    names = _names(path)
                    splits[f"{year}_{part}"] = (len(names), _boxed(folder, names))
        if not splits:
            raise BadInput(f"{devkit} holds no list in VOC2012/ImageSets/Segmentation or Main; {FACTS.source}")
        return splits


Builder = Voc


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read.

    >>> to_record({"label": encode_png(np.zeros((2, 3), np.uint8))})["label"].shape
    (2, 3)
    """
    return objects.to_record(example, ENCODED)


def _devkit(source: Path) -> Path:
    for folder in (source / "VOCdevkit", source, source.parent):
        if any((folder / f"VOC{year}" / "ImageSets").is_dir() for year in _DETECTION):
            return folder
    raise BadInput(f"{source} holds no VOCdevkit/VOC2012 or VOC2007 with ImageSets; {FACTS.source}")


def _names(path: Path) -> list[str]:
    return [Path(line.split()[0]).stem for line in label_files.lines_of(path)]


def _segmentation(devkit: Path, source: Path) -> dict[str, Examples]:
    """Return train and val, and with SBD what it adds."""
    voc = devkit / "VOC2012"
    lists = {split: _names(voc / "ImageSets" / "Segmentation" / f"{split}.txt") for split in ("train", "val")}
    splits: dict[str, Examples] = {
        split: (len(names), (_example(voc, name) for name in names)) for split, names in lists.items()
    }
    places = [folder / "benchmark_RELEASE" / "dataset" for folder in (source, devkit.parent)]
    sbd = next((place for place in places if place.is_dir()), None)
    added = voc / "SegmentationClassAug"
    if sbd is None and added.is_dir():
        names = _names_added(voc, added, lists["val"])
        splits["train_aug"] = (len(names), (_example(voc, name, added.name) for name in names))
    if sbd is None:
        return splits
    theirs = {split: _names(sbd / f"{split}.txt") for split in ("train", "val")}
    own = set(lists["train"])
    names = sorted((own | set(theirs["train"]) | set(theirs["val"])) - set(lists["val"]))
    makes = (_example(voc, name) if name in own else _added(voc, sbd, name) for name in names)
    splits["train_aug"] = (len(names), makes)
    splits["sbd_train"] = (len(theirs["train"]), _all_added(voc, sbd, theirs["train"]))
    for split in ("train", "val"):
        path = voc / "ImageSets" / "Main" / f"{split}.txt"
        if path.is_file():
            names = sorted(set(_names(path)) & {*theirs["train"], *theirs["val"]})
            splits[f"sds_{split}"] = (len(names), _all_added(voc, sbd, names))
    old = devkit / "VOC2011"
    if old.is_dir():
        judged = _names(old / "ImageSets" / "Segmentation" / "val.txt")
        kept = [name for name in judged if name not in set(theirs["train"])]
        splits["seg11valid"] = (len(kept), (_example(old, name) for name in kept))
    return splits


def _names_added(voc: Path, added: Path, val: list[str]) -> list[str]:
    """Return the training images of SegmentationClassAug: of its list, or all that are not for validation."""
    lists = [voc / "ImageSets" / "Segmentation" / f"{stem}.txt" for stem in ("trainaug", "train_aug")]
    for path in lists:
        if path.is_file():
            return _names(path)
    judged = set(val)
    return [path.stem for path in images_in(added, (".png",)) if path.stem not in judged]


def _example(voc: Path, name: str, folder: str = "SegmentationClass") -> dict[str, Any]:
    path = find_image(voc / folder, name, (".png",))
    label = label_files.label_map(path, dict(enumerate(FACTS.palette)))
    of_objects = find_image(voc / "SegmentationObject", name, (".png",))
    if of_objects.parent.is_dir() and (of_objects.is_file() or folder == "SegmentationClass"):
        ids = label_files.label_map(of_objects)
    else:
        note("without objects, since there is no map of them in SegmentationObject", name)
        ids = np.zeros_like(label)
    return _checked(voc, name, path, label, np.where(ids == VOID, 0, ids))


def _all_added(voc: Path, sbd: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    return (_added(voc, sbd, name) for name in names)


def _added(voc: Path, sbd: Path, name: str) -> dict[str, Any]:
    path = sbd / "cls" / f"{name}.mat"
    return _checked(voc, name, path, _from_matlab(path, "GTcls"), _from_matlab(sbd / "inst" / path.name, "GTinst"))


def _checked(voc: Path, name: str, path: Path, label: np.ndarray, ids: np.ndarray) -> dict[str, Any]:
    top = int(label[label != VOID].max(initial=0))
    if top >= FACTS.num_classes:
        raise BadInput(f"{path}: label value {top} is outside 0..{FACTS.num_classes - 1} and {VOID} (void)")
    if ids.shape != label.shape:
        raise BadInput(f"{path} is a map of {label.shape}, but its objects' is of {ids.shape}")
    image = find_image(voc / "JPEGImages", name, (".jpg", ".jpeg"))
    return {**label_files.example(image, label, name), **_objects(label, ids, name)}


def _objects(label: np.ndarray, ids: np.ndarray, name: str) -> dict[str, Any]:
    """Return the objects of a map of ids, each of the class of most of its pixels."""
    numbers, compact, _ = objects.from_ids(ids)
    votes = np.zeros((len(numbers) + 1, VOID + 1), np.int64)
    np.add.at(votes, (compact, label), 1)
    votes = votes[1:, 1 : FACTS.num_classes]
    known = votes.any(1)
    for number in numbers[~known]:
        note("left out, objects without a pixel of a class", f"{name} object {number}")
    _, compact, found = objects.from_ids(np.where(np.isin(ids, numbers[known]), ids, 0))
    return {
        **found,
        "classes": votes[known].argmax(1).astype(np.int32),
        "difficult": np.zeros(int(known.sum()), bool),
        "instance_ids": io.BytesIO(encode_png(compact)),
    }


def _boxed(voc: Path, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield examples of detection."""
    for name in names:
        annotation = voc_xml.read_annotation(voc / "Annotations" / f"{name}.xml")
        image, (height, width) = label_files.encoded_image(
            find_image(voc / "JPEGImages", name, (".jpg", ".jpeg")), annotation.size
        )
        yield {
            "image": io.BytesIO(image),
            "label": io.BytesIO(encode_png(np.full((height, width), VOID, np.uint8))),
            "instance_ids": io.BytesIO(encode_png(np.zeros((height, width), np.uint16))),
            "id": name,
            **voc_xml.to_objects(annotation, FACTS.things, height=height, width=width),
        }


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
