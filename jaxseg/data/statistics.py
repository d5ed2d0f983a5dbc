"""Statistics of a split: class frequencies, for the weights of losses, and each band's mean and standard deviation."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record
from jaxseg.errors import BadInput
from jaxseg.types import VOID


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Pixels of a split by class.

    Attributes:
      pixels: i64[k], pixels of each class.
      void: pixels of no class.
      images: i64[k], number of images that contain the class.
      around: i64[k], pixels, void included, of the images that contain the class.

    >>> ClassCounts(np.asarray([3, 1]), 4, np.asarray([1, 1]), np.asarray([8, 8])).fractions.tolist()
    [0.375, 0.125]
    """

    pixels: np.ndarray
    void: int
    images: np.ndarray
    around: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """Share f64[k] of each class among all pixels, void included in the total."""
        return self.pixels / (self.pixels.sum() + self.void)


def count_classes(records: Iterable[Record], num_classes: int) -> ClassCounts:
    """Count the pixels of each class, going through the labels of a split once.

    >>> count_classes([{"label": np.asarray([[0, 0, 1, 255]])}], 2).fractions.tolist()
    [0.5, 0.25]
    """
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


@dataclass(frozen=True, eq=False)
class BandStatistics:
    """Values of a split by band, in the images' own units.

    Attributes:
      mean: f64[c].
      std: f64[c], over all pixels of the split.
      low: f64[c], smallest value.
      high: f64[c], largest value.
      pixels: number of pixels seen.

    >>> measure_bands([{"image": np.full((2, 2, 1), 5.0)}]).pixels
    4
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    pixels: int


def measure_bands(records: Iterable[Record]) -> BandStatistics:
    """Measure every band of the images of a split, going through it once.

    The means and deviations of images are merged (Chan, Golub, LeVeque 1983), which loses no digits however many pixels
    there are.

    Raises:
      BadInput: the split is empty, or its images have different numbers of bands.

    >>> image = np.asarray([[[0, 10], [2, 10]]], np.uint16)
    >>> found = measure_bands([{"image": image}])
    >>> found.mean.tolist(), found.std.tolist()
    ([1.0, 10.0], [1.0, 0.0])
    """
    count, mean, spread = 0, np.zeros(()), np.zeros(())
    low, high = np.asarray(np.inf), np.asarray(-np.inf)
    for record in records:
        values = record["image"].reshape(-1, record["image"].shape[-1]).astype(np.float64)
        if count and len(mean) != values.shape[1]:
            raise BadInput(f"images of one split have {len(mean)} and {values.shape[1]} bands")
        own = values.mean(0)
        total = count + len(values)
        spread = spread + ((values - own) ** 2).sum(0) + (own - mean) ** 2 * count * len(values) / total
        mean = mean + (own - mean) * len(values) / total
        count, low, high = total, np.minimum(low, values.min(0)), np.maximum(high, values.max(0))
    if not count:
        raise BadInput("there is no image to measure")
    return BandStatistics(mean, np.sqrt(spread / count), low, high, count)
