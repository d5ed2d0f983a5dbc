"""Crops that show rare classes more often than chance would. Reached through ``transforms``."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.geometry import RandomCrop
from jaxseg.data.transforms.moves import crop, pad
from jaxseg.errors import BadInput
from jaxseg.types import VOID


@dataclass(frozen=True)
class BalancedCrop:
    """Cut out ``height x width``, a share of the time around a pixel of a class drawn with equal probability.

    With probability ``share`` a class is drawn among those that the image has, then one of its pixels, and the crop
    lies so that it contains it, at any place with equal probability. Otherwise it is :class:`RandomCrop`. nnU-Net has
    a share of one third. Sides that are too short are padded.

    Attributes:
      height: of the crop.
      width: of the crop.
      share: of crops that are placed by class.
      classes: to draw from; () for all, background included.

    >>> label = np.zeros((1, 64, 64), np.uint8)[0]
    >>> label[50, 60] = 1
    >>> cut = BalancedCrop(8, 8, share=1.0, classes=(1,))
    >>> int(cut({"label": label}, np.random.default_rng(0))["label"].sum())
    1

    Reference:
      Isensee et al. 2021, nnU-Net, doi:10.1038/s41592-020-01008-z, supplementary note 2 (oversampling of foreground).
    """

    height: int
    width: int
    share: float | int = 1 / 3
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadInput(f"share of BalancedCrop is {self.share}, but must lie between 0 and 1")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return a record of exactly that size."""
        if rng.random() >= self.share:
            return RandomCrop(self.height, self.width)(record, rng)
        label = record["label"]
        present = np.flatnonzero(np.bincount(label.ravel(), minlength=VOID + 1)[:VOID])
        known = [k for k in present.tolist() if not self.classes or k in self.classes]
        if not known:
            return RandomCrop(self.height, self.width)(record, rng)
        places = np.flatnonzero(label.ravel() == known[rng.integers(len(known))])
        y, x = divmod(int(places[rng.integers(len(places))]), label.shape[1])
        height, width = size(record)
        top, before_y, after_y = _placed(y, height, self.height, rng)
        left, before_x, after_x = _placed(x, width, self.width, rng)
        record = crop(record, top, left, min(height, self.height), min(width, self.width))
        return pad(record, before_y, after_y, before_x, after_x)


def _placed(at: int, length: int, wanted: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return where a crop of a side that contains a place begins, and what is missing before and behind it."""
    if length <= wanted:
        before = int(rng.integers(wanted - length + 1))
        return 0, before, wanted - length - before
    low, high = max(0, at - wanted + 1), min(at, length - wanted)
    return int(rng.integers(low, high + 1)), 0, 0
