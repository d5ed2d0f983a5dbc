"""Boundary F1: compare the contours of predicted and true classes within a tolerance of a few pixels."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Int, UInt32

from jaxseg.ops.crop import centre_crop
from jaxseg.types import VOID, Figure

WORD = 32
"""Classes are kept as bits of a word, so that all of them widen in one go."""


@dataclass(frozen=True)
class BoundaryF1:
    """The boundary F1 of Csurka et al. (2013) as the SegNet paper averages it, result ``boundary_f1``.

    A pixel is on the boundary of its class when one of its four neighbours belongs to another class. For one class of
    one image, precision is the share of predicted boundary pixels that lie within the tolerance (Euclidean, inclusive)
    of a true boundary pixel of the class, recall the share of true ones within it of a predicted one, and F1 their
    harmonic mean, 0 where nothing of the class is found. An image's score is the mean over the classes that have a
    boundary in its truth; the result is the mean over the images that have a score.

    Void pixels take no part: they are void in the prediction as well, and the border to them is no boundary.

    Attributes:
      num_classes: labels outside ``0..num_classes-1`` are void.
      tolerance: as a share of the image's diagonal, 0.75 % in both papers.

    >>> metric, label = BoundaryF1(2), jnp.repeat(jnp.asarray([[[0, 0, 1, 1]]]), 4, axis=1)
    >>> metric.result(metric.fold(metric.init(), metric.observe({"label": label}, {"label": label})))
    {'boundary_f1': 1.0}
    """

    num_classes: int
    tolerance: float = 0.0075

    def init(self) -> np.ndarray:
        """Return the scores of no images."""
        return np.zeros(0, np.float64)

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Count per image and class the boundary pixels of prediction and truth, and those of each within reach."""
        predicted = predictions["label"]
        size = predicted.shape[1:3]
        truth = centre_crop(batch["label"], *size)
        void = (truth < 0) | (truth >= self.num_classes)
        radius = self.tolerance * math.hypot(*size)
        ours, theirs = jnp.where(void, VOID, predicted), jnp.where(void, VOID, truth)
        counts = boundary_counts(ours, theirs, self.num_classes, radius=radius)
        real = batch.get("real", jnp.ones(truth.shape[0], bool))
        return {"counts": counts, "real": real}

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Append the scores of the real rows."""
        counts = np.asarray(observation["counts"], np.float64)[np.asarray(observation["real"], bool)]
        predicted, true, found, met = (counts[:, i] for i in range(4))
        precision = found / np.maximum(predicted, 1)
        recall = met / np.maximum(true, 1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        occurs = true > 0
        scored = occurs.any(axis=1)
        scores = np.where(occurs, f1, 0.0).sum(axis=1)[scored] / occurs.sum(axis=1)[scored]
        return np.concatenate([state, scores])

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the mean over images; nothing where none has a boundary."""
        return {"boundary_f1": math.fsum(state.tolist()) / len(state)} if len(state) else {}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figure, a fraction of 1."""
        text = (
            "Harmonic mean of the shares of predicted and of true boundary pixels that have the other within the "
            "tolerance; mean over the classes of an image, then over images."
        )
        return (Figure("boundary_f1", "boundary F1", "%", definition=text),)


def boundary_counts(
    predicted: Int[Array, "b h w"], truth: Int[Array, "b h w"], num_classes: int, *, radius: float
) -> Int[Array, "b 4 k"]:
    """Count pixels on class boundaries: of the prediction, of the truth, of each within ``radius`` of the other's.

    Args:
      predicted: classes; labels that are no class are void in both.
      truth: true classes.
      num_classes: number of classes.
      radius: in pixels, Euclidean, inclusive.

    Returns:
      Counts [b 4 k]: prediction, truth, prediction near the truth's boundary, truth near the prediction's.

    >>> boundary_counts(jnp.asarray([[[0, 1, 1]]]), jnp.asarray([[[0, 0, 1]]]), 2, radius=1.0)[0].tolist()
    [[1, 1], [1, 1], [1, 1], [1, 1]]
    """
    ours, theirs = on_boundary(predicted, num_classes), on_boundary(truth, num_classes)
    words = range(-(-num_classes // WORD))
    found = met = jnp.zeros(truth.shape, bool)
    for word in words:
        found |= ours & _has_bit(near(_bits(truth, theirs, word), radius), predicted, word)
        met |= theirs & _has_bit(near(_bits(predicted, ours, word), radius), truth, word)
    pairs = ((predicted, ours), (truth, theirs), (predicted, found), (truth, met))
    return jnp.stack([_by_class(label, chosen, num_classes) for label, chosen in pairs], axis=1)


def on_boundary(label: Int[Array, "b h w"], num_classes: int) -> Bool[Array, "b h w"]:
    """Return True for pixels with one of their four neighbours in another class; void belongs to no class.

    >>> on_boundary(jnp.asarray([[[0, 0, 1, 1, 255]]]), 2).tolist()
    [[[False, True, True, False, False]]]
    """
    known = (label >= 0) & (label < num_classes)
    edge = jnp.zeros(label.shape, bool)
    for axis in (1, 2):
        n = label.shape[axis]
        first, second = (slice(0, n - 1), slice(1, n))
        at = (slice(None),) * axis
        differs = (label[(*at, first)] != label[(*at, second)]) & known[(*at, first)] & known[(*at, second)]
        edge = edge.at[(*at, first)].set(edge[(*at, first)] | differs)
        edge = edge.at[(*at, second)].set(edge[(*at, second)] | differs)
    return edge


def near(bits: UInt32[Array, "b h w"], radius: float) -> UInt32[Array, "b h w"]:
    """Return the union of the bits of all pixels within a Euclidean radius of each pixel.

    >>> near(jnp.asarray([[[1, 0, 0, 2]]], jnp.uint32), 1.0).tolist()
    [[[1, 1, 2, 2]]]
    """
    reach = int(radius)
    widths = {dy: int(math.sqrt(radius * radius - dy * dy)) for dy in range(reach + 1)}
    wide, widened = bits, {0: bits}
    for dx in range(1, reach + 1):
        wide = wide | _shift(bits, dx, 2) | _shift(bits, -dx, 2)
        widened[dx] = wide
    out = widened[widths[0]]
    for dy in range(1, reach + 1):
        out = out | _shift(widened[widths[dy]], dy, 1) | _shift(widened[widths[dy]], -dy, 1)
    return out


def _shift(x: Array, by: int, axis: int) -> Array:
    """Return the map moved along an axis, zeros moving in."""
    n = x.shape[axis]
    by = max(-n, min(n, by))
    pad = [(0, 0)] * x.ndim
    pad[axis] = (max(by, 0), max(-by, 0))
    start = max(-by, 0)
    return jnp.pad(x, pad)[(slice(None),) * axis + (slice(start, start + n),)]


def _bits(label: Array, chosen: Array, word: int) -> Array:
    """Return the bit of the class at the chosen pixels whose class lies in this word."""
    bit = jnp.uint32(1) << (label % WORD).astype(jnp.uint32)
    return jnp.where(chosen & (label // WORD == word), bit, jnp.uint32(0))


def _has_bit(bits: Array, label: Array, word: int) -> Array:
    """Return True if the pixel's word holds the bit of its class."""
    bit = (bits >> (label % WORD).astype(jnp.uint32)) & jnp.uint32(1)
    return (bit > 0) & (label // WORD == word)


def _by_class(label: Array, chosen: Array, num_classes: int) -> Array:
    """Return how many of the chosen pixels of each image belong to each class, int32 [b k]."""
    b = label.shape[0]
    row = jnp.arange(b, dtype=jnp.int32)[:, None, None]
    cell = jnp.where(chosen, row * num_classes + label, b * num_classes)
    counts = jnp.bincount(cell.reshape(-1), length=b * num_classes + 1)[:-1]
    return counts.astype(jnp.int32).reshape(b, num_classes)
