"""Dice loss: overlap of soft masks per image (Milletari et al. 2016, with plain instead of squared sums)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxseg.losses.cross_entropy import labelled


def softmax_dice(logits: Float[Array, "b h w k"], label: Int[Array, "b h w"]) -> Float[Array, " b"]:
    """Return ``1 - 2 sum(p t) / (sum p + sum t)`` per image, averaged over the classes that it contains.

    Sums run over labelled pixels. The ratio is per image, not per batch, so that the loss does not depend on how
    images are batched. 0 for an image without labelled pixels.

    >>> softmax_dice(jnp.zeros((1, 1, 2, 2)), jnp.array([[[0, 1]]])).tolist()
    [0.5]
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
    """Return ``1 - (2 sum(p t) + s) / (sum p + sum t + s)`` per image, where p is the sigmoid of the logits.

    >>> binary_dice(jnp.zeros((1, 1, 2)), jnp.array([[[1.0, 0.0]]]), smooth=0.0).tolist()
    [0.5]

    Args:
      logits: scores before the sigmoid.
      target: t, from 0 to 1.
      smooth: s; makes the loss of two empty masks 0.
    """
    p, t = jax.nn.sigmoid(logits.astype(jnp.float32)), target.astype(jnp.float32)
    both, size = jnp.sum(p * t, axis=(1, 2)), jnp.sum(p + t, axis=(1, 2))
    return 1 - (2 * both + smooth) / (size + smooth)


def mean_over_present(values: Float[Array, "b k"], present: Array) -> Float[Array, " b"]:
    """Return the mean of each row over the classes that are present; 0 where none is.

    >>> mean_over_present(jnp.array([[1.0, 3.0, 9.0]]), jnp.array([[True, True, False]])).tolist()
    [2.0]
    """
    total = jnp.sum(jnp.where(present, values, 0.0), axis=-1)
    return total / jnp.maximum(jnp.sum(present, axis=-1).astype(jnp.float32), 1.0)


@dataclass(frozen=True)
class Dice:
    """Dice loss, averaged over the images that have labelled pixels. Pixel weights are ignored.

    >>> values, counts = Dice()(jnp.zeros((1, 1, 2, 2)), jnp.array([[[0, 1]]]))
    >>> values.tolist(), counts.tolist()
    ([0.5], [1.0])

    Attributes:
      weight: factor of this loss in the total.
    """

    weight: float = 1.0

    name: ClassVar[str] = "dice"

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        pixel_weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Return values and counts per image."""
        return softmax_dice(logits, label), has_label(label, logits.shape[-1])


def has_label(label: Int[Array, "b h w"], num_classes: int) -> Float[Array, " b"]:
    """Return 1 for each image with a labelled pixel, else 0.

    >>> has_label(jnp.array([[[0, 255]], [[255, 255]]]), num_classes=2).tolist()
    [1.0, 0.0]
    """
    return jnp.any(labelled(label, num_classes), axis=(1, 2)).astype(jnp.float32)
