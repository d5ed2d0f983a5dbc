"""NYU Depth v2, labelled: 1449 indoor images of 640x480 with dense depth and 40 classes (Silberman et al. 2012).

Source folder: ``nyu_depth_v2_labeled.mat``, read through h5py, and ``splits.mat`` with the official 795 and 654 images;
``classMapping40.mat`` of Gupta et al. 2013 maps the 894 names of objects to 40 classes, without it labels are void.

Depth is that of the data set's own toolbox, in metres, with holes filled in; ``depth_valid`` says where the sensor
measured. Normals are made of the filled depth by fitting planes, if the option ``normals`` asks for them: no published
set of normals is the same.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from scipy.io import loadmat

from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.hdf5 import opened
from jaxseg.data.notes import note
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.errors import BadInput
from jaxseg.ops.geometry import NYU_CAMERA, normals_from_depth
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label")

CLASSES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf", "picture"),
    *("counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat", "clothes"),
    *("ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box", "whiteboard"),
    *("person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag"),
    *("otherstructure", "otherfurniture", "otherprop"),
)
"""The 40 classes of Gupta et al. 2013, spelled as theirs."""

_FILE, _SPLITS, _MAPPING = "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat"

FACTS = Facts(
    name="nyuv2",
    summary="NYU Depth v2, labelled: 1449 indoor images of 640x480 with depth and 40 classes",
    classes=CLASSES,
    palette=tuple((37 * i % 200 + 40, 91 * i % 200 + 40, 151 * i % 200 + 40) for i in range(len(CLASSES))),
    splits={"train": 795, "test": 654},
    keys=("image", "label", "depth", "depth_valid"),
    licence="research",
    url="https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html",
    source="nyu_depth_v2_labeled.mat and splits.mat of https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html, and "
    "classMapping40.mat of https://github.com/s-gupta/rcnn-depth for labels",
    citation="Silberman, Hoiem, Kohli, Fergus, ECCV 2012",
    options={"normals": False},
)


@dataclass(eq=False)
class Nyuv2Config(tfds.core.BuilderConfig):
    """Whether normals are made of the depth.

    >>> Nyuv2Config(name="depth").normals
    False
    """

    normals: bool = False


def config(options: Mapping[str, Any]) -> Nyuv2Config:
    """Return the TFDS configuration of the option ``normals``.

    Raises:
      BadInput: it is neither True nor False.

    >>> config({"normals": True}).name
    'normals'
    """
    if not isinstance(options["normals"], bool):
        raise BadInput(f"option 'normals' of data set 'nyuv2' is {options['normals']!r}, not True or False")
    return Nyuv2Config(name="normals" if options["normals"] else "depth", normals=options["normals"])


class Nyuv2(LocalBuilder):
    """Write the official splits in the order of the file.

    >>> len(Nyuv2.FACTS.classes)
    40
    """

    FACTS = FACTS
    builder_config: Nyuv2Config

    def facts(self) -> Facts:
        """Return the facts, normals among the keys where they are asked for."""
        extra = ("normal", "normal_valid") if self.builder_config.normals else ()
        return replace(FACTS, keys=(*FACTS.keys, *extra))

    def features(self) -> dict[str, Any]:
        """Return image and label as PNG, depth and normals as compressed numbers."""
        zlib = tfds.features.Encoding.ZLIB
        found = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Image(shape=(None, None, 1)),
            "depth": tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding=zlib),
            "depth_valid": tfds.features.Tensor(shape=(None, None), dtype=np.bool_, encoding=zlib),
        }
        if self.builder_config.normals:
            found["normal"] = tfds.features.Tensor(shape=(None, None, 3), dtype=np.float32, encoding=zlib)
            found["normal_valid"] = tfds.features.Tensor(shape=(None, None), dtype=np.bool_, encoding=zlib)
        return found

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and test.

        Raises:
          BadInput: a file is absent or not what it should be, or h5py is not installed.
        """
        assert source is not None
        if not (source / _SPLITS).is_file():
            raise BadInput(f"{source / _SPLITS} does not exist; {FACTS.source}")
        found = loadmat(source / _SPLITS)
        classes = _class_table(source / _MAPPING)
        splits = {}
        for split, name in (("train", "trainNdxs"), ("test", "testNdxs")):
            if name not in found:
                raise BadInput(f"{source / _SPLITS} has no {name!r}; {FACTS.source}")
            numbers = found[name].ravel().astype(int) - 1
            splits[split] = (len(numbers), _examples(source / _FILE, numbers, classes, self.builder_config.normals))
        return splits


Builder = Nyuv2


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read.

    >>> to_record({"depth": np.ones((1, 2), np.float32)})["depth"].shape
    (1, 2)
    """
    return {key: decode_image(value) if key in ENCODED else value for key, value in example.items()}


def _class_table(path: Path) -> np.ndarray | None:
    """Return the class of each name's number, u8[895], void for 0: no object; None where the file is absent."""
    if not path.is_file():
        note("labels are void: the source has no classMapping40.mat", _FILE)
        return None
    classes = loadmat(path)["mapClass"].ravel().astype(int)
    return np.concatenate([[VOID], np.where(classes > 0, classes - 1, VOID)]).astype(np.uint8)


def _examples(path: Path, numbers: np.ndarray, classes: np.ndarray | None, normals: bool) -> Iterator[dict[str, Any]]:
    with opened(path) as file:
        absent = [name for name in ("images", "depths", "rawDepths", "labels") if name not in file]
        if absent:
            raise BadInput(f"{path} has no {absent[0]!r}; {FACTS.source}")
        for number in numbers:  # MATLAB counts columns first
            image = np.asarray(file["images"][number]).transpose(2, 1, 0)
            depth = np.asarray(file["depths"][number], np.float32).T
            names = np.asarray(file["labels"][number]).T
            label = np.full(depth.shape, VOID, np.uint8) if classes is None else classes[names]
            made = {
                "image": io.BytesIO(encode_png(np.ascontiguousarray(image))),
                "label": io.BytesIO(encode_png(np.ascontiguousarray(label))),
                "depth": np.ascontiguousarray(depth),
                "depth_valid": np.ascontiguousarray(np.asarray(file["rawDepths"][number]).T > 0),
            }
            if normals:
                made["normal"], made["normal_valid"] = normals_from_depth(depth, NYU_CAMERA, radius=3)
            yield made
