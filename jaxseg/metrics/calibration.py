"""Calibration: do probabilities say how often the prediction is right?"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.ops.crop import centre_crop
from jaxseg.types import Figure

LEVELS = 1024
"""Levels of confidence within a bin: pixels are counted by level, so that counts are exact and means nearly so."""


class Bins(NamedTuple):
    """Pixels by confidence, see :meth:`Calibration.bins`.

    >>> Bins(np.asarray([4]), np.asarray([0.9]), np.asarray([0.75])).accuracy.tolist()
    [0.75]
    """

    pixels: np.ndarray
    """i64[bins]: labelled pixels."""
    confidence: np.ndarray
    """f64[bins]: their mean confidence, NaN in empty bins."""
    accuracy: np.ndarray
    """f64[bins]: the share that is right, NaN in empty bins."""


@dataclass(frozen=True)
class Calibration:
    """Compare the confidence of each pixel, the probability of its most probable class, with how often it is right.

    ``ece``, the expected calibration error, is the mean over labelled pixels of ``|accuracy - confidence|``, both
    averaged within bins of equal width::

        ECE = sum over bins of (pixels of the bin / all pixels) * |accuracy of the bin - mean confidence of the bin|.

    Attributes:
      num_classes: labels outside ``0..num_classes-1`` are void and do not count.
      num_bins: of confidence, from 0 to 1.

    >>> metric = Calibration(2)
    >>> found = {"label": jnp.zeros((1, 1, 4), int), "probability": jnp.full((1, 1, 4, 2), jnp.asarray([0.9, 0.1]))}
    >>> seen = metric.observe(found, {"label": jnp.asarray([[[0, 0, 0, 1]]])})
    >>> round(metric.result(metric.fold(metric.init(), seen))["ece"], 3)
    0.15

    Reference: Guo et al. 2017, *On calibration of modern neural networks*, arXiv:1706.04599, section 2.
    """

    num_classes: int
    num_bins: int = 15

    def init(self) -> np.ndarray:
        """Return no pixels, i64[2 levels]: the wrong ones and the right ones."""
        return np.zeros((2, self.num_bins * LEVELS), np.int64)

    def observe(self, predictions: Any, batch: Any) -> Array:
        """Count the pixels of the real rows by whether they are right and by confidence, i32[2 levels]."""
        predicted = predictions["label"]
        label = centre_crop(batch["label"], *predicted.shape[1:3]).astype(predicted.dtype)
        known = (label >= 0) & (label < self.num_classes)
        if "real" in batch:
            known = known & batch["real"][:, None, None]
        levels = self.num_bins * LEVELS
        confidence = predictions["probability"].max(-1)
        level = jnp.clip((confidence * levels).astype(jnp.int32), 0, levels - 1)
        cell = jnp.where(known, jnp.where(predicted == label, level + levels, level), 2 * levels)
        return jnp.bincount(cell.reshape(-1), length=2 * levels + 1)[:-1].astype(jnp.int32).reshape(2, levels)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Return the sum of both."""
        return state + np.asarray(observation).astype(np.int64)

    def bins(self, state: np.ndarray) -> Bins:
        """Return pixels, mean confidence and accuracy of each bin: the reliability diagram.

        >>> metric = Calibration(2, num_bins=2)
        >>> metric.bins(metric.init()).pixels.tolist()
        [0, 0]
        """
        both = state.sum(0).reshape(self.num_bins, LEVELS)
        middle = (np.arange(self.num_bins * LEVELS) + 0.5).reshape(both.shape) / both.size
        count, right = both.sum(1), state[1].reshape(both.shape).sum(1)
        with np.errstate(invalid="ignore"):
            return Bins(count, (both * middle).sum(1) / count, right / count)

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the error, a fraction of 1; nothing where no pixel is labelled."""
        bins = self.bins(state)
        if not bins.pixels.any():
            return {}
        gap = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
        return {"ece": float((bins.pixels * gap).sum() / bins.pixels.sum())}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the error."""
        text = (
            f"Mean over labelled pixels of |accuracy - confidence|, both averaged within {self.num_bins} bins of the "
            "confidence, which is the probability of the most probable class."
        )
        return (Figure("ece", "expected calibration error", "%", higher_is_better=False, definition=text),)
