"""Make an image of any bands and numbers visible: uint8 RGB."""

from typing import Any

import numpy as np


def visible(image: Any) -> np.ndarray:
    """Return an image as uint8 RGB ``[h w 3]``.

    Bytes stay as they are; other numbers are stretched from their 2nd to their 98th percentile, all bands alike. One
    band is grey, of more than three the first three are red, green and blue, and of two the third is black.

    Args:
      image: ``[h w]`` or ``[h w c]``.

    >>> visible(np.full((1, 1, 1), 7, np.uint8)).tolist()
    [[[7, 7, 7]]]
    >>> visible(np.asarray([[0.0, 0.5, 1.0]]))[0, :, 0].tolist()
    [0, 128, 255]
    """
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    image = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image[..., :3]
    if image.shape[-1] == 2:
        image = np.concatenate([image, np.zeros_like(image[..., :1])], axis=-1)
    if image.dtype == np.uint8:
        return image
    values = np.nan_to_num(image.astype(np.float64))
    low, high = np.percentile(values, (2, 98)) if values.size else (0.0, 1.0)
    return np.clip(np.rint(255 * (values - low) / max(high - low, 1e-12)), 0, 255).astype(np.uint8)
