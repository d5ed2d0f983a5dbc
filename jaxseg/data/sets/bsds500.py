"""BSDS500: photographs 481x321 or 321x481 with the boundaries that several people drew (Arbelaez et al. 2011).

Source folder, either of

* Berkeley's ``BSDS500/data``: ``images/{train,val,test}/ID.jpg`` and ``groundTruth/{train,val,test}/ID.mat``;
* the same with every annotator's boundaries packed in bits: ``gt/{train,val,test}/ID.npz`` with ``boundaries``
  u8[annotators h w/8] and ``shape``.

Splits whose images are absent are not there. ``boundary`` is true where at least three people drew one, as HED is
trained (Xie and Tu 2015, section 4); ``boundary_marks`` has everybody's, by which boundaries are judged.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from scipy.io import loadmat

from jaxseg.data import label_files
from jaxseg.data.builder import Examples, LocalBuilder
from jaxseg.data.facts import Facts
from jaxseg.data.listing import images_in
from jaxseg.data.objects import to_record as decoded
from jaxseg.data.records import Record, encode_png
from jaxseg.errors import BadInput

GENERATED = False
ENCODED = ("image", "boundary_marks")

AGREEING = 3
"""Annotators by whom a boundary is one in training."""

FACTS = Facts(
    name="bsds500",
    summary="photographs 481x321 with the boundaries that four to nine people drew",
    classes=(),
    palette=(),
    splits={"train": 200, "val": 100, "test": 200},
    keys=("image", "boundary", "boundary_marks"),
    licence="research and education, with citation",
    url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
    source="BSDS500/data of Berkeley's archive, also in https://github.com/BIDS/BSDS500",
    citation="Arbelaez et al., Contour Detection and Hierarchical Image Segmentation, PAMI 2011",
)


class Bsds500(LocalBuilder):
    """Write the splits whose images the source folder holds, in the order of their names.

    >>> Bsds500.FACTS.splits["val"]
    100
    """

    FACTS = FACTS

    def features(self) -> dict[str, Any]:
        """Return the image as published and the annotators' boundaries as bits of a map."""
        marks = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
        return {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "boundary_marks": marks,
            "id": tfds.features.Text(),
        }

    def splits(self, source: Path | None) -> dict[str, Examples]:
        """Return train, val and test, those that are there.

        Raises:
          BadInput: there is no image, or one lacks its boundaries.
        """
        assert source is not None
        roots = [root for root in (source, source / "data", source / "BSDS500" / "data") if (root / "images").is_dir()]
        if not roots:
            raise BadInput(f"there is no folder {source / 'images'}; {FACTS.source}")
        found = {}
        for split in FACTS.splits:
            folder = roots[0] / "images" / split
            paths = images_in(folder, (".jpg",)) if folder.is_dir() else []
            if paths:
                found[split] = (len(paths), _examples(roots[0], split, paths))
        if not found:
            raise BadInput(f"there is no image in {roots[0] / 'images' / 'train'}, nor in val or test")
        return found


Builder = Bsds500


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read, with the boundary that several people agree on.

    >>> marks = encode_png(np.asarray([[7, 3, 0]], np.uint16))
    >>> to_record({"boundary_marks": marks})["boundary"].tolist()
    [[True, False, False]]
    """
    record = decoded(example, ENCODED)
    if "boundary_marks" in record:
        record["boundary"] = np.bitwise_count(record["boundary_marks"]) >= AGREEING
    return record


def _examples(root: Path, split: str, paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        drawn = read_boundaries(root, split, path.stem)
        marks = np.zeros(drawn.shape[1:], np.uint16)
        for bit, mask in enumerate(drawn):
            marks |= mask.astype(np.uint16) << bit
        image, _ = label_files.encoded_image(path, (drawn.shape[1], drawn.shape[2]))
        yield {"image": io.BytesIO(image), "boundary_marks": io.BytesIO(encode_png(marks)), "id": path.stem}


def read_boundaries(root: Path, split: str, name: str) -> np.ndarray:
    """Return what each annotator drew, bool[annotators h w].

    Raises:
      BadInput: there is no such file, it is damaged, or it has more than 16 annotators.

    >>> read_boundaries(Path("nowhere"), "val", "3096")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: there is neither nowhere/groundTruth/val/3096.mat nor nowhere/gt/val/3096.npz
    """
    matlab, packed = root / "groundTruth" / split / f"{name}.mat", root / "gt" / split / f"{name}.npz"
    path = matlab if matlab.is_file() else packed
    if not path.is_file():
        raise BadInput(f"there is neither {matlab} nor {packed}")
    try:
        drawn = _of_matlab(path) if path is matlab else _of_bits(path)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise BadInput(f"{path} is damaged or holds no boundaries ({error})") from None
    if not 1 <= len(drawn) <= 16:
        raise BadInput(f"{path} has the boundaries of {len(drawn)} annotators; there may be 1 to 16")
    return drawn


def _of_matlab(path: Path) -> np.ndarray:
    people = loadmat(path)["groundTruth"].reshape(-1)
    return np.stack([person["Boundaries"][0, 0] > 0 for person in people])


def _of_bits(path: Path) -> np.ndarray:
    with np.load(path) as file:
        count, height, width = file["shape"].tolist()
        drawn = np.unpackbits(file["boundaries"], axis=-1)[..., :width]
    if drawn.shape != (count, height, width):
        raise ValueError(f"boundaries of shape {list(drawn.shape)}, not {[count, height, width]}")
    return drawn > 0
