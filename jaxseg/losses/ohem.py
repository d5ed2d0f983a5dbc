"""Online hard example mining: cross-entropy of the pixels that are still wrong or unsure, image by image."""

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
    """The k-th largest of each row of values that are not negative, counted from 1; 0 where k exceeds their number.

    Exact, without sorting: the bits of such floats order as integers do, so 31 counts find it bit by bit.
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
    """The known pixels of each image whose value exceeds the threshold, at least the share ``keep`` of them.

    Where values tie at the border, all of them are kept.
    """
    flat = jnp.where(known, values, 0.0).reshape(values.shape[0], -1)
    number = jnp.sum(known, axis=(1, 2), dtype=jnp.int32)
    least = jnp.maximum(jnp.ceil(keep * number.astype(jnp.float32)).astype(jnp.int32), 1)
    border = jnp.minimum(kth_largest(flat, least), threshold)[:, None, None]
    return known & ((values >= border) & (values > 0.0))


@dataclass(frozen=True)
class Ohem:
    """Cross-entropy of the hard pixels, divided by their number.

    A pixel is hard where the network gives its class a probability below ``threshold``; the ``keep`` hardest of each
    image are taken in any case. Chosen per image, so that no placement and no batch size changes the choice (the usual
    implementations choose within what one device holds).

    Attributes:
      threshold: probability of the true class below which a pixel is hard (0.7 in HRNet's and BiSeNet's training).
      keep: least share of an image's labelled pixels that is taken.
      weights: weight of each class; empty for 1. They do not enter the choice.
      scale: factor of this loss in the total.
    """

    threshold: float = 0.7
    keep: float = 0.1
    weights: tuple[float, ...] = ()
    scale: float = 1.0

    name: ClassVar[str] = "ohem"

    def __post_init__(self):
        if not (0 < self.threshold <= 1 and 0 <= self.keep <= 1):
            raise BadInput(f"threshold {self.threshold} and keep {self.keep} are shares between 0 and 1")

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
        """Values and counts of every pixel."""
        k = logits.shape[-1]
        nll = softmax_cross_entropy(logits, label)
        hard = hard_pixels(nll, labelled(label, k), threshold=-math.log(self.threshold), keep=self.keep)
        values = jnp.where(hard, weigh(nll, label, k, self.weights, weight), 0.0)
        return values, hard.astype(jnp.float32)
