"""Weights that make up for rare classes: NumPy, computed once from counts of pixels, kept in recipes as tuples."""

from collections.abc import Sequence

import numpy as np

Counts = Sequence[int] | np.ndarray


def median_frequency(pixels: Counts, image_pixels: Counts | None = None) -> tuple[float, ...]:
    """Median frequency balancing: the median over classes of the frequency, divided by the class's frequency.

    Two readings of "frequency" are in circulation. With ``pixels`` alone it is the class's share of all pixels of the
    training set, as the SegNet paper words it; with ``image_pixels`` its share of the pixels of those images that
    contain it (Eigen and Fergus 2015, sec. 4.1).

    Args:
      pixels: number of training pixels of each class.
      image_pixels: for each class, the number of pixels, of any class and void, of the images that contain it.

    Returns:
      one weight per class; 0 for a class without a pixel, which also does not take part in the median.
    """
    count = np.asarray(pixels, np.float64)
    of = np.asarray(image_pixels, np.float64) if image_pixels is not None else np.full_like(count, count.sum())
    seen = count > 0
    frequency = count[seen] / of[seen]
    weights = np.zeros_like(count)
    weights[seen] = np.median(frequency) / frequency
    return tuple(weights.tolist())


def inverse_log(pixels: Counts, k: float = 1.02, *, void: int = 0) -> tuple[float, ...]:
    """ENet's weights ``1 / ln(k + p)``, p the class's share of the training pixels (Paszke et al. 2016, sec. 5.2).

    Args:
      pixels: number of training pixels of each class.
      k: bounds the weights: 1.02 (decoder) keeps them within 1..50; the released code trains the encoder with 1.2.
      void: number of void pixels, where these count in the total.
    """
    count = np.asarray(pixels, np.float64)
    return tuple((1.0 / np.log(k + count / (count.sum() + void))).tolist())
