"""Dice loss (Milletari et al. 2016, with plain instead of squared sums): overlap of soft masks, image by image."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxseg.losses.cross_entropy import labelled


def softmax_dice(logits: Float[Array, "b h w k"], label: Int[Array, "b h w"]) -> Float[Array, " b"]:
    """``1 - 2 sum(p t) / (sum p + sum t)`` over an image's labelled pixels, averaged over the classes it contains.

    One value per image: a ratio of sums over the whole batch could not be summed up from its parts, and would
    depend on the batch. 0 for an image without a labelled pixel.
    """
    k = logits.shape[-1]
    known = labelled(label, k)
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1) * known[..., None].astype(jnp.float32)
    t = jax.nn.one_hot(jnp.where(known, label, k), k, dtype=jnp.float32)
    both, size = jnp.sum(p * t, axis=(1, 2)), jnp.sum(t, axis=(1, 2))
    loss = 1 - 2 * both / jnp.maximum(jnp.sum(p, axis=(1, 2)) + size, 1e-7)
    return mean_over_present(loss, size > 0)


def binary_dice(
    logits: Float[Array, "b h w"], target: Float[Array, "b h w"], *, smooth: float = 1.0
) -> Float[Array, " b"]:
    """``1 - (2 sum(p t) + s) / (sum p + sum t + s)`` of each image, p the sigmoid; ``smooth`` s defines empty masks."""
    p, t = jax.nn.sigmoid(logits.astype(jnp.float32)), target.astype(jnp.float32)
    both, size = jnp.sum(p * t, axis=(1, 2)), jnp.sum(p + t, axis=(1, 2))
    return 1 - (2 * both + smooth) / (size + smooth)


def mean_over_present(values: Float[Array, "b k"], present: Array) -> Float[Array, " b"]:
    """The mean of each row over the classes that are present; 0 where none is."""
    total = jnp.sum(jnp.where(present, values, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(present, axis=-1).astype(jnp.float32), 1.0)


@dataclass(frozen=True)
class Dice:
    """Dice loss of every image, averaged over the images that have a labelled pixel. Pixel weights do not enter.

    Attributes:
      scale: factor of this loss in the total.
    """

    scale: float = 1.0

    name: ClassVar[str] = "dice"

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Values and counts of every image."""
        return softmax_dice(logits, label), has_label(label, logits.shape[-1])


def has_label(label: Int[Array, "b h w"], num_classes: int) -> Float[Array, " b"]:
    """1 for each image with a labelled pixel, else 0."""
    return jnp.any(labelled(label, num_classes), axis=(1, 2)).astype(jnp.float32)
