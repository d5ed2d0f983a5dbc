"""Class frequencies of a labelled split: what the losses' ``median_frequency`` and ``inverse_log`` work from."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record
from jaxseg.types import VOID


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Pixels of a split by class.

    Attributes:
      pixels: i64[k], pixels of each class.
      void: pixels of no class.
      images: i64[k], number of images that contain the class.
      around: i64[k], pixels, void included, of the images that contain the class.
    """

    pixels: np.ndarray
    void: int
    images: np.ndarray
    around: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """f64[k], share of each class among all pixels, void included in the total."""
        return self.pixels / (self.pixels.sum() + self.void)


def count_classes(records: Iterable[Record], num_classes: int) -> ClassCounts:
    """Go through the labels of a split once."""
    pixels = np.zeros(num_classes, np.int64)
    images, around, void = np.zeros_like(pixels), np.zeros_like(pixels), 0
    for record in records:
        found = np.bincount(record["label"].ravel(), minlength=VOID + 1)
        present = found[:num_classes] > 0
        pixels += found[:num_classes]
        images += present
        around += present * record["label"].size
        void += int(found[VOID])
    return ClassCounts(pixels, void, images, around)
