"""Shades of grey for maps of one number."""

from typing import Any

import numpy as np


def shade_variance(variance: Any) -> np.ndarray:
    """Return a map of variances as grey, uint8 [h w 3]: white where there is none, the darker the larger.

    Shades are linear in the standard deviation; black is the largest of the map, so that two maps compare by their
    figures and not by their shades.

    Args:
      variance: not negative, [h w].

    >>> shade_variance([[0.0, 0.04]])[0, :, 0].tolist()
    [255, 0]
    """
    deviation = np.sqrt(np.maximum(np.asarray(variance, np.float64), 0))
    share = deviation / max(float(deviation.max()), 1e-12)
    grey = np.rint(255 * (1 - share)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def shade_share(share: Any) -> np.ndarray:
    """Return a map of shares or probabilities as grey, uint8 [h w 3]: black is 0 and white is 1.

    >>> shade_share([[0.0, 1.0]])[0].tolist()
    [[0, 0, 0], [255, 255, 255]]
    """
    grey = np.clip(np.rint(255 * np.nan_to_num(np.asarray(share, np.float64))), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
