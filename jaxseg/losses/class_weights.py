"""Class weights against imbalance, computed once from pixel counts with NumPy and stored in recipes as tuples."""

from collections.abc import Sequence

import numpy as np

Counts = Sequence[int] | np.ndarray


def median_frequency(pixels: Counts, image_pixels: Counts | None = None) -> tuple[float, ...]:
    """Return median-frequency weights: the median class frequency divided by each class's frequency.

    Two definitions of frequency are in use. With ``pixels`` alone it is the class's share of all training pixels, as
    in the SegNet paper; with ``image_pixels`` it is the share of the pixels of the images that contain the class.

    >>> median_frequency([10, 20, 40])
    (2.0, 1.0, 0.5)

    Args:
      pixels: number of training pixels per class.
      image_pixels: per class, the number of pixels (any class, void included) of the images that contain it.

    Returns:
      One weight per class; 0 for a class without pixels, which is left out of the median.

    Reference:
      Eigen and Fergus 2015, arXiv:1411.4734, sec. 4.1; Badrinarayanan et al. 2015, arXiv:1511.00561, sec. 4.
    """
    count = np.asarray(pixels, np.float64)
    of = np.asarray(image_pixels, np.float64) if image_pixels is not None else np.full_like(count, count.sum())
    seen = count > 0
    frequency = count[seen] / of[seen]
    weights = np.zeros_like(count)
    weights[seen] = np.median(frequency) / frequency
    return tuple(weights.tolist())


def inverse_log(pixels: Counts, k: float = 1.02, *, void: int = 0) -> tuple[float, ...]:
    """Return ENet's class weights ``1 / ln(k + p)``, where p is the class's share of the training pixels.

    >>> [round(weight, 2) for weight in inverse_log([10, 90])]
    [8.82, 1.53]

    Args:
      pixels: number of training pixels per class.
      k: bounds the weights: 1.02 (decoder) keeps them within 1..50; the released code trains the encoder with 1.2.
      void: number of void pixels, if they count towards the total.

    Reference:
      Paszke et al. 2016, arXiv:1606.02147, sec. 5.2.
    """
    count = np.asarray(pixels, np.float64)
    return tuple((1.0 / np.log(k + count / (count.sum() + void))).tolist())
