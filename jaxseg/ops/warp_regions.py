"""Regions of an image warped to one size with some context, as R-CNN gives them to its network.

Girshick et al. 2014 (arXiv:1311.2524), appendix A: every box becomes a square, whatever its shape; it is widened first,
so that in the square it is surrounded by ``context`` pixels; what lies outside the image is left zero.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


def warp_regions(
    image: Float[Array, "h w c"],
    boxes: Float[Array, "p 4"],
    *,
    size: int = 227,
    context: int = 16,
    height: int | Array | None = None,
    width: int | Array | None = None,
) -> Float[Array, "p s s c"]:
    """Return each box as a square of ``size`` pixels, bilinear without smoothing.

    The widened corners are rounded to whole pixels. The part within the image is resized into its share of the square,
    also rounded, as the authors' ``rcnn_im_crop`` does.

    Args:
      image: standardised, so that zero is the mean.
      boxes: half-open; one without area gives whatever is at its place.
      size: side of the squares.
      context: pixels of the square around the box.
      height: rows of the image that count; None for all.
      width: likewise.

    >>> image = jnp.arange(16.0).reshape(4, 4, 1)
    >>> warp_regions(image, jnp.asarray([[0.0, 0.0, 2.0, 2.0]]), size=2, context=0)[0, :, :, 0].tolist()
    [[0.0, 1.0], [4.0, 5.0]]
    """
    rows = jnp.asarray(image.shape[0] if height is None else height, jnp.float32)
    columns = jnp.asarray(image.shape[1] if width is None else width, jnp.float32)
    grow = size / (size - 2 * context)

    def one(box: Array) -> Array:
        top = _axis(box[1], box[3], rows, size, grow)
        left = _axis(box[0], box[2], columns, size, grow)
        across = _between(image, top, axis=0)
        shown = (top[3][:, None] & left[3][None, :])[..., None]
        return jnp.where(shown, _between(across, left, axis=1), 0)

    return jax.vmap(one)(boxes.astype(jnp.float32))


Axis = tuple[Array, Array, Array, Array]
"""Of each pixel of a side: the source pixels before and after, the weight of the latter, whether it shows the image."""


def _axis(low: Array, high: Array, length: Array, size: int, grow: float) -> Axis:
    """Where the pixels of one side come from."""
    centre, half = (low + high) / 2, (high - low) / 2 * grow
    first, end = jnp.floor(centre - half + 0.5), jnp.floor(centre + half + 0.5)
    whole = jnp.maximum(end - first, 1)
    inner_first, inner_end = jnp.clip(first, 0, length - 1), jnp.clip(end, 1, length)
    inner = jnp.maximum(inner_end - inner_first, 1)
    scale = size / whole
    before = jnp.floor((inner_first - first) * scale + 0.5)
    shown = jnp.minimum(jnp.maximum(jnp.floor(inner * scale + 0.5), 1), size - before)
    at = jnp.arange(size, dtype=jnp.float32) - before
    source = jnp.clip(inner_first + (at + 0.5) * inner / jnp.maximum(shown, 1) - 0.5, inner_first, inner_end - 1)
    below = jnp.floor(source)
    above = jnp.minimum(below + 1, inner_end - 1)
    return below.astype(jnp.int32), above.astype(jnp.int32), source - below, (at >= 0) & (at < shown)


def _between(image: Array, axis_of: Axis, *, axis: int) -> Array:
    below, above, weight, _ = axis_of
    shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
    weight = weight.astype(image.dtype).reshape(shape)
    return jnp.take(image, below, axis=axis) * (1 - weight) + jnp.take(image, above, axis=axis) * weight
