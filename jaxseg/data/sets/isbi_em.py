"""ISBI 2012 EM segmentation: membranes in serial-section electron microscopy of a fly's nerve cord, 512x512, grey.

Source folder: ``train/image/NN.png``, ``train/label/NN.png`` (1 or 255 inside a cell, 0 on a membrane) and
``test/image/NN.png`` without labels: the folder ``data/membrane`` of github.com/zhixuhao/unet, whose 30 labelled images
may be there in whole or in part. Slices are taken in the order of their numbers; the last four labelled ones are
``val``, those before them ``train`` (20 and 4 of 24), ``test`` has images only.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.images import read_image, read_label
from jaxseg.data.listing import find_image, images_in
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.errors import BadInput
from jaxseg.types import VOID

GENERATED = False
ENCODED = ("image", "label")

_VAL = 4

FACTS = Facts(
    name="isbi_em",
    summary="cell membranes in electron microscopy, 512x512 grey; train 20, val 4, test 6 without labels",
    classes=("membrane", "cell"),
    palette=((0, 0, 0), (255, 255, 255)),
    splits={"train": 20, "val": _VAL, "test": 6},
    licence="research use, with citation",
    url="https://imagej.net/events/isbi-2012-segmentation-challenge",
    source="published as the folder data/membrane of https://github.com/zhixuhao/unet: "
    "train/image/, train/label/, test/image/ with numbered PNG files",
    citation="Cardona et al., PLoS Biology 2010; Arganda-Carreras et al., Front. Neuroanat. 2015",
)


class IsbiEm(LocalBuilder):
    """Write train and val out of the labelled slices, and test if it is there, in the order of their numbers.

    >>> IsbiEm.FACTS.classes
    ('membrane', 'cell')
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image and label as grey PNG, and the slice's number."""
        grey = tfds.features.Image(shape=(None, None, 1))
        return {"image": grey, "label": grey, "id": tfds.features.Text()}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train, val, and test where its folder is there.

        Raises:
          BadInput: there are no labelled slices, or too few.
        """
        assert source is not None
        labelled = _slices(source / "train" / "image")
        if len(labelled) <= _VAL:
            raise BadInput(f"{source}/train/image holds {len(labelled)} images; train and val need more than {_VAL}")
        found = {"train": labelled[:-_VAL], "val": labelled[-_VAL:]}
        if (source / "test" / "image").is_dir():
            found["test"] = _slices(source / "test" / "image")
        labels = source / "train" / "label"
        return {split: _examples(paths, None if split == "test" else labels) for split, paths in found.items()}


Builder = IsbiEm


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the image as RGB with equal channels, label 0 membrane and 1 cell; unlabelled slices are void.

    >>> to_record({"image": encode_png(np.zeros((2, 3), np.uint8))})["image"].shape
    (2, 3, 3)
    """
    record = {key: decode_image(data) for key, data in example.items()}
    if "image" in record:
        record["image"] = np.repeat(record["image"][..., None], 3, -1)
    return record


def _slices(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"folder {folder} is absent; {FACTS.source}")
    try:
        return sorted(images_in(folder, (".png",)), key=lambda path: int(path.stem))
    except ValueError:
        raise BadInput(f"the files of {folder} should be named by number: 00.png, 01.png, ...") from None


def _examples(images: list[Path], labels: Path | None) -> Examples:
    if not images:
        raise BadInput("folder test/image of the source holds no PNG file; remove it to do without the split")
    return len(images), (
        _example(path, None if labels is None else find_image(labels, path.stem, (".png",))) for path in images
    )


def _example(path: Path, label_path: Path | None) -> dict[str, Any]:
    image = _read(path)
    label = np.full(image.shape, VOID, np.uint8) if label_path is None else _read_label(label_path)
    if label.shape != image.shape:
        raise BadInput(f"{path} is {_size(image)}, its label {_size(label)}")
    return {"image": io.BytesIO(encode_png(image)), "label": io.BytesIO(encode_png(label)), "id": path.stem}


def _size(image: np.ndarray) -> str:
    return "x".join(str(side) for side in image.shape[::-1])


def _read(path: Path) -> np.ndarray:
    return np.asarray(Image.fromarray(read_image(path)).convert("L"))


def _read_label(path: Path) -> np.ndarray:
    label = read_label(path)
    top = int(label.max())
    wrong = [value for value in np.unique(label).tolist() if value not in ((0, 1) if top == 1 else (0, 255))]
    if wrong:
        raise BadInput(f"{path}: label value {wrong[0]} is neither 0 (membrane) nor 1 or 255 (cell)")
    return (label > 0).astype(np.uint8)
