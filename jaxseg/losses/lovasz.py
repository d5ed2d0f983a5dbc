"""Lovász losses (Berman, Rannen Triki and Blaschko 2018): a convex stand-in for intersection over union."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from jaxseg.losses.cross_entropy import labelled
from jaxseg.losses.dice import has_label, mean_over_present

STEPS = 32768
"""Into how many steps errors are sorted on CPU."""


def lovasz_slope(errors: Float[Array, "b n"], truth: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """What each error weighs in the Lovász extension of the Jaccard loss (alg. 1), in the order of the errors given.

    The extension's value is ``sum(errors * slope)``, and its gradient is the slope: a constant for differentiation.

    Args:
      errors: not negative; an error of 0 weighs nothing in the sum wherever it stands.
      truth: which of them belong to the object.
    """
    fixed = jax.lax.stop_gradient(errors).astype(jnp.float32)
    return jax.lax.platform_dependent(fixed, truth, cpu=_slope_by_counting, default=_slope_by_sorting)


def _slope_by_sorting(errors: Array, truth: Array) -> Array:
    """Exactly; equal errors in the order of their places."""
    # The bits of floats that are not negative sort as integers do, and integers sort faster than floats.
    key = ~jax.lax.bitcast_convert_type(errors + 0.0, jnp.uint32)
    place = jax.lax.broadcasted_iota(jnp.int32, key.shape, 1)
    order = jax.lax.sort((key, place), dimension=1, num_keys=1)[1]
    hit = jnp.take_along_axis(truth, order, axis=1).astype(jnp.int32)
    slope = _rise(hit, 1 - hit)
    row = jnp.broadcast_to(jnp.arange(key.shape[0])[:, None], order.shape)
    return jnp.zeros_like(slope).at[row, order].set(slope, unique_indices=True)


def _slope_by_counting(errors: Array, truth: Array) -> Array:
    """As if errors within one of 32768 equal steps up to the largest were equal; the loss moves by less than a step.

    On CPU 29 times as fast as sorting (4 rows of 360 x 480).
    """
    b = errors.shape[0]
    largest = jnp.maximum(jnp.max(errors, axis=1, keepdims=True), 1e-30)
    step = ((1.0 - errors / largest) * (STEPS - 1)).astype(jnp.int32)
    group = 2 * step + (~truth).astype(jnp.int32)
    row = jnp.arange(b, dtype=jnp.int32)[:, None]
    count = jnp.bincount((group + row * (2 * STEPS)).reshape(-1), length=b * 2 * STEPS).reshape(b, 2 * STEPS)
    hits = jnp.arange(2 * STEPS)[None] % 2 == 0
    rise = _rise(jnp.where(hits, count, 0), jnp.where(hits, 0, count))
    slope = jax.lax.optimization_barrier(rise / jnp.maximum(count, 1).astype(jnp.float32))
    return jnp.take_along_axis(slope, group, axis=1)


def _rise(hits: Array, others: Array) -> Array:
    """By how much the Jaccard loss grows with each group of pixels that joins the mispredicted ones, int32 [b n]."""
    missed, false = jnp.cumsum(hits, axis=1), jnp.cumsum(others, axis=1)
    size = missed[:, -1:]
    union = (size + false).astype(jnp.float32)
    loss = jnp.where(union > 0, 1.0 - (size - missed).astype(jnp.float32) / jnp.maximum(union, 1.0), 0.0)
    return jnp.diff(loss, axis=1, prepend=jnp.zeros_like(loss[:, :1]))


def lovasz_softmax(logits: Float[Array, "b h w k"], label: Int[Array, "b h w"]) -> Float[Array, " b"]:
    """The Lovász extension of each class's ``1 - IoU`` over an image, averaged over the classes that it contains.

    One value per image (the authors' ``per_image``, ``classes="present"``): the extension sorts all pixels at once, so
    over a batch it could not be summed up from parts. 0 for an image without a labelled pixel.
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
