"""Lovász losses (Berman, Rannen Triki and Blaschko 2018): a convex stand-in for intersection over union."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from jaxseg.losses.cross_entropy import labelled
from jaxseg.losses.dice import has_label, mean_over_present


def lovasz_slope(errors: Float[Array, "b n"], truth: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """What each error weighs in the Lovász extension of the Jaccard loss (alg. 1), in the order of the errors given.

    The extension's value is ``sum(errors * slope)``, and its gradient is the slope: a constant for differentiation.

    Args:
      errors: not negative; an error of 0 weighs nothing in the sum wherever it stands.
      truth: which of them belong to the object.
    """
    n = errors.shape[-1]
    # The bits of floats that are not negative sort as integers do, and integers sort faster than floats.
    key = ~jax.lax.bitcast_convert_type(jax.lax.stop_gradient(errors).astype(jnp.float32) + 0.0, jnp.uint32)
    place = jax.lax.broadcasted_iota(jnp.int32, key.shape, 1)
    order = jax.lax.sort((key, place), dimension=1, num_keys=1)[1]
    hit = jnp.take_along_axis(truth, order, axis=1).astype(jnp.float32)
    size = jnp.sum(hit, axis=1, keepdims=True)
    missed = jnp.cumsum(hit, axis=1)
    # Intersection size - missed, union size + false positives so far.
    jaccard = 1.0 - (size - missed) / jnp.maximum(size + jnp.arange(1, n + 1, dtype=jnp.float32)[None] - missed, 1.0)
    slope = jnp.diff(jaccard, axis=1, prepend=jnp.zeros_like(size))
    row = jnp.broadcast_to(jnp.arange(key.shape[0])[:, None], order.shape)
    return jnp.zeros_like(slope).at[row, order].set(slope, unique_indices=True)


def lovasz_softmax(logits: Float[Array, "b h w k"], label: Int[Array, "b h w"]) -> Float[Array, " b"]:
    """The Lovász extension of each class's ``1 - IoU`` over an image, averaged over the classes that it contains.

    One value per image (the authors' ``per_image``, ``classes="present"``): the extension sorts all pixels at once, so
    over a batch it could not be put together from parts. 0 for an image without a labelled pixel.
    """
    k = logits.shape[-1]
    known = labelled(label, k).reshape(label.shape[0], -1)
    flat = label.reshape(known.shape)
    p = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).reshape(*known.shape, k)

    def of_class(p: Array, c: Array) -> tuple[Array, Array]:
        truth = flat == c
        errors = jnp.where(known, jnp.abs(truth.astype(jnp.float32) - p), 0.0)
        return jnp.sum(errors * lovasz_slope(errors, truth), axis=1), jnp.any(truth, axis=1)

    values, present = jax.lax.map(lambda x: of_class(*x), (jnp.moveaxis(p, -1, 0), jnp.arange(k, dtype=label.dtype)))
    return mean_over_present(values.T, present.T)


def lovasz_hinge(logits: Float[Array, "b h w"], target: Bool[Array, "b h w"]) -> Float[Array, " b"]:
    """The binary form on hinge errors ``max(0, 1 - y x)``, y being 1 inside the target and -1 outside, per image."""
    b = logits.shape[0]
    sign = 2.0 * target.astype(jnp.float32) - 1.0
    errors = jax.nn.relu(1.0 - logits.astype(jnp.float32) * sign).reshape(b, -1)
    return jnp.sum(errors * lovasz_slope(errors, target.reshape(b, -1)), axis=1)


@dataclass(frozen=True)
class Lovasz:
    """Lovász-softmax of every image, averaged over the images that have a labelled pixel. Pixel weights do not enter.

    Attributes:
      scale: factor of this loss in the total.
    """

    scale: float = 1.0

    name: ClassVar[str] = "lovasz"

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Values and counts of every image."""
        return lovasz_softmax(logits, label), has_label(label, logits.shape[-1])
