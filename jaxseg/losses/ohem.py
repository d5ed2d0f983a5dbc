"""Online hard example mining: cross-entropy of the hardest pixels of each image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from jaxseg.errors import BadInput
from jaxseg.losses.cross_entropy import labelled, softmax_cross_entropy, weigh


def kth_largest(values: Float[Array, "b n"], k: Int[Array, " b"]) -> Float[Array, " b"]:
    """Return the k-th largest value of each row, counted from 1; 0 where k exceeds the row's length.

    Exact, without sorting: the bits of non-negative floats order as integers, so 31 counts find it bit by bit.

    >>> kth_largest(jnp.array([[0.5, 3.0, 2.0]]), jnp.array([2])).tolist()
    [2.0]

    Args:
      values: non-negative.
      k: rank per row.
    """
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(values).astype(jnp.float32) + 0.0, jnp.int32)

    def settle(i: Array, found: Array) -> Array:
        trial = found | (1 << (30 - i))
        enough = jnp.sum(bits >= trial[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, trial, found)

    found = jax.lax.fori_loop(0, 31, settle, jnp.zeros(values.shape[0], jnp.int32))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def hard_pixels(
    values: Float[Array, "b h w"], known: Bool[Array, "b h w"], *, threshold: float, keep: float
) -> Bool[Array, "b h w"]:
    """Return True for the known pixels above the threshold, and for at least the share ``keep`` of each image.

    Ties at the cut are all kept.

    >>> values, known = jnp.array([[[0.1, 0.2, 0.9, 0.3]]]), jnp.ones((1, 1, 4), bool)
    >>> hard_pixels(values, known, threshold=0.8, keep=0.5).tolist()
    [[[False, False, True, True]]]

    Args:
      values: losses per pixel, non-negative.
      known: pixels that take part.
      threshold: loss above which a pixel is hard.
      keep: least share of an image's known pixels that is taken.
    """
    flat = jnp.where(known, values, 0.0).reshape(values.shape[0], -1)
    number = jnp.sum(known, axis=(1, 2), dtype=jnp.int32)
    least = jnp.maximum(jnp.ceil(keep * number.astype(jnp.float32)).astype(jnp.int32), 1)
    border = jnp.minimum(kth_largest(flat, least), threshold)[:, None, None]
    return known & ((values >= border) & (values > 0.0))


@dataclass(frozen=True)
class Ohem:
    """Cross-entropy of the hard pixels, averaged over them.

    A pixel is hard if its class has a probability below ``threshold``; the hardest share ``keep`` of each image is
    always taken. Selection is per image, so it does not depend on placement or batch size (common implementations
    select within one device's batch).

    >>> values, counts = Ohem(threshold=0.6)(jnp.array([[[[0.0, 0.0], [9.0, 0.0]]]]), jnp.array([[[0, 0]]]))
    >>> counts.ravel().tolist()
    [1.0, 0.0]

    Attributes:
      threshold: probability of the true class below which a pixel is hard (0.7 in HRNet's and BiSeNet's training).
      keep: least share of an image's labelled pixels that is taken.
      weights: one weight per class; empty for 1. They do not affect the selection.
      weight: factor of this loss in the total.
    """

    threshold: float = 0.7
    keep: float = 0.1
    weights: tuple[float, ...] = ()
    weight: float = 1.0

    name: ClassVar[str] = "ohem"

    def __post_init__(self):
        if not (0 < self.threshold <= 1 and 0 <= self.keep <= 1):
            raise BadInput(f"threshold {self.threshold} and keep {self.keep} must be shares between 0 and 1")

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        pixel_weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
        """Return values and counts per pixel."""
        k = logits.shape[-1]
        nll = softmax_cross_entropy(logits, label)
        hard = hard_pixels(nll, labelled(label, k), threshold=-math.log(self.threshold), keep=self.keep)
        values = jnp.where(hard, weigh(nll, label, k, self.weights, pixel_weight), 0.0)
        return values, hard.astype(jnp.float32)
