"""ISBI 2012 EM segmentation: membranes in serial-section electron microscopy of a fly's nerve cord, 512x512, grey.

Source folder: ``train/image/NN.png``, ``train/label/NN.png`` (1 or 255 inside a cell, 0 on a membrane) and
``test/image/NN.png`` without labels: the folder ``data/membrane`` of github.com/zhixuhao/unet, whose 30 labelled images
may be there in whole or in part. Slices are taken in the order of their numbers; the last four labelled ones are
``val``, those before them ``train`` (20 and 4 of 24), ``test`` has images only.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

from jaxseg.data.builder import LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.types import VOID, BadInput

EMBEDDED = False
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
    citation="Cardona et al., PLoS Biology 2010; Arganda-Carreras et al., Frontiers in Neuroanatomy 2015",
)


class IsbiEm(LocalBuilder):
    """Writes train and val out of the labelled slices, and test, all in the order of their numbers."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = FACTS.source

    def _info(self) -> Any:
        features = {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "label": tfds.features.Image(shape=(None, None, 1)),
            "id": tfds.features.Text(),
        }
        return self._described(features, summary=FACTS.summary, url=FACTS.url, citation=FACTS.citation)

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        labelled = _slices(folder / "train" / "image")
        if len(labelled) <= _VAL:
            raise BadInput(f"{folder}/train/image holds {len(labelled)} images; train and val need more than {_VAL}")
        splits = {
            "train": _examples(labelled[:-_VAL], folder / "train" / "label"),
            "val": _examples(labelled[-_VAL:], folder / "train" / "label"),
        }
        if (folder / "test" / "image").is_dir():
            splits["test"] = _examples(_slices(folder / "test" / "image"), None)
        return splits


Builder = IsbiEm


def to_record(example: Mapping[str, Any]) -> Record:
    """Image as RGB with equal channels, label 0 membrane and 1 cell; an unlabelled slice has a label of void only."""
    record = {key: decode_image(data) for key, data in example.items()}
    if "image" in record:
        record["image"] = np.repeat(record["image"][..., None], 3, -1)
    return record


def _slices(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise BadInput(f"folder {folder} is absent; {FACTS.source}")
    try:
        return sorted((p for p in folder.iterdir() if p.suffix.lower() == ".png"), key=lambda path: int(path.stem))
    except ValueError:
        raise BadInput(f"the files of {folder} should be named by number: 00.png, 01.png, ...") from None


def _examples(images: list[Path], labels: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, path in enumerate(images):
        image = _read(path)
        if labels is None:
            label = np.full(image.shape, VOID, np.uint8)
        else:
            label = _read_label(labels / path.name)
            if label.shape != image.shape:
                raise BadInput(f"{path} is {image.shape[1]}x{image.shape[0]}, its label another size")
        stored = {"image": io.BytesIO(encode_png(image)), "label": io.BytesIO(encode_png(label))}
        yield index, {**stored, "id": path.stem}


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise BadInput(f"{path} is absent")
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except UnidentifiedImageError:
        raise BadInput(f"{path} is not an image") from None


def _read_label(path: Path) -> np.ndarray:
    label = _read(path)  # a 1-bit file reads as 0 and 255
    values = np.unique(label)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        wrong = int(values[~np.isin(values, (0, 1, 255))][0]) if not np.isin(values, (0, 1, 255)).all() else 1
        raise BadInput(f"{path}: label value {wrong} is neither 0 (membrane) nor 1 or 255 (cell)")
    return (label > 0).astype(np.uint8)
