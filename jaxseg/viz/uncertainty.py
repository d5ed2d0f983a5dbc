"""How sure a network is, as shades of grey."""

from typing import Any

import numpy as np


def shade_variance(variance: Any) -> np.ndarray:
    """A map of variances as grey, uint8 [h w 3]: white where there is none, the darker the larger.

    Shades are linear in the standard deviation; black is the largest of the map, so that two maps compare by their
    figures and not by their shades.

    Args:
      variance: not negative, [h w].
    """
    deviation = np.sqrt(np.maximum(np.asarray(variance, np.float64), 0))
    share = deviation / max(float(deviation.max()), 1e-12)
    grey = np.rint(255 * (1 - share)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
