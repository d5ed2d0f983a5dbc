"""Masks of objects between the image and their boxes: cropping ground truth to boxes, pasting predictions back.

A mask within its box has m by m cells, whatever the size of the box. All functions treat one image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Integer, Shaped

from jaxseg.ops.roi_samples import span_axis

FARTHEST = 2.0**29
"""Corners of boxes are clipped to so many pixels, so that integers hold them."""


def crop_masks(
    masks: Shaped[Array, "n h w"],
    boxes: Float[Array, "p 4"],
    index: Int[Array, "p"],
    *,
    size: int,
    sampling_ratio: int = 0,
    aligned: bool = False,
) -> Float[Array, "p m m"]:
    """Return what of each box's mask lies in each of its cells, from 0 to 1: Mask R-CNN's targets.

    This is RoIAlign of the mask at full resolution. With the defaults it equals torchvision's
    ``project_masks_on_boxes``; with ``aligned`` and a threshold of 0.5 it is detectron2's ``BitMasks.crop_and_resize``.

    >>> mask = jnp.asarray([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]])
    >>> box = jnp.asarray([[0.0, 0.0, 4.0, 4.0]])
    >>> crop_masks(mask, box, jnp.asarray([0]), size=2, aligned=True)[0].tolist()
    [[1.0, 0.0], [0.0, 0.0]]

    Args:
      masks: binary, of all objects of an image.
      boxes: ``x0 y0 x1 y1``, pixels; one that is not finite gives zeros.
      index: the mask of each box.
      size: m.
      sampling_ratio: as of ``roi_align``.
      aligned: as of ``roi_align``.
    """
    read = lambda i: lax.dynamic_index_in_dim(masks, i, keepdims=False)  # noqa: E731
    return _crop(read, masks.shape[1:], boxes, index, size, sampling_ratio, aligned)


def crop_instances(
    instance_ids: Integer[Array, "h w"],
    boxes: Float[Array, "p 4"],
    index: Int[Array, "p"],
    *,
    size: int,
    sampling_ratio: int = 0,
    aligned: bool = False,
    hidden_ids: Integer[Array, "h w"] | None = None,
) -> Float[Array, "p m m"]:
    """Return the same as ``crop_masks`` of masks that travel as one map, or as two where they overlap.

    >>> ids = jnp.asarray([[1, 1, 2, 2], [1, 1, 2, 2]])
    >>> crop_instances(ids, jnp.asarray([[0.0, 0.0, 4.0, 2.0]]), jnp.asarray([1]), size=2, aligned=True)[0].tolist()
    [[0.0, 1.0], [0.0, 1.0]]

    Args:
      instance_ids: 1 + slot of the object that owns the pixel, 0 for none.
      boxes: as of ``crop_masks``.
      index: the slot of each box.
      size: m.
      sampling_ratio: as of ``roi_align``.
      aligned: as of ``roi_align``.
      hidden_ids: the same of the object behind the one that owns the pixel.
    """

    def read(i: Array) -> Array:
        owns = instance_ids.astype(jnp.int32) == i.astype(jnp.int32) + 1
        return owns if hidden_ids is None else owns | (hidden_ids.astype(jnp.int32) == i.astype(jnp.int32) + 1)

    return _crop(read, instance_ids.shape, boxes, index, size, sampling_ratio, aligned)


def paste_masks(
    masks: Float[Array, "d m m"],
    boxes: Float[Array, "d 4"],
    valid: Bool[Array, "d"] | None = None,
    *,
    height: int,
    width: int,
    threshold: float = 0.5,
) -> Bool[Array, "d h w"]:
    """Return the masks in the image, torchvision's way: above the threshold, on boxes of whole pixels.

    The mask gets a border of zeros, the box grows with it and its corners are truncated to whole pixels (both belong
    to it); the mask is then resized bilinearly.

    >>> box = jnp.asarray([[4.0, 4.0, 8.0, 8.0]])
    >>> paste_masks(jnp.ones((1, 2, 2)), box, height=12, width=12)[0, 6].astype(int).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]

    Args:
      masks: probabilities within the boxes.
      boxes: ``x0 y0 x1 y1``, pixels.
      valid: which slots hold a detection; the others stay empty, and so do boxes that are not finite.
      height: rows of the image.
      width: columns of the image.
      threshold: probability above which a pixel belongs to the object.
    """
    side = masks.shape[-1]
    padded = jnp.pad(masks.astype(jnp.float32), ((0, 0), (1, 1), (1, 1)))
    boxes, counts = _sane(boxes, valid)
    grown = np.float32((side + 2) / side)

    def taps(first: Array, last: Array, length: int) -> Taps:
        middle, half = (last + first) * 0.5, (last - first) * 0.5 * grown
        lo, hi = ((middle + sign * half).astype(jnp.int32)[:, None] for sign in (-1, 1))
        pixel = np.arange(length, dtype=np.int32)[None]
        scale = (side + 2) / jnp.maximum(hi - lo + 1, 1).astype(jnp.float32)
        at = jnp.maximum(((pixel - lo).astype(jnp.float32) + 0.5) * scale - 0.5, 0)
        inside = (pixel >= lo) & (pixel <= hi) & counts[:, None]
        return _bilinear(jnp.clip(at, 0, side + 1), inside, side + 2)

    return _paste(padded, taps(boxes[:, 1], boxes[:, 3], height), taps(boxes[:, 0], boxes[:, 2], width)) > threshold


def paste_masks_aligned(
    masks: Float[Array, "d m m"],
    boxes: Float[Array, "d 4"],
    valid: Bool[Array, "d"] | None = None,
    *,
    height: int,
    width: int,
    threshold: float = 0.5,
) -> Bool[Array, "d h w"]:
    """Return the masks in the image, detectron2's way: at least the threshold, on boxes as they are.

    Every pixel samples the mask at its centre, bilinearly, with zeros around the mask.

    >>> box = jnp.asarray([[1.0, 0.0, 3.0, 2.0]])
    >>> paste_masks_aligned(jnp.ones((1, 2, 2)), box, height=2, width=4)[0].astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]

    Args:
      masks: as of ``paste_masks``.
      boxes: as of ``paste_masks``; one without area gives an empty mask.
      valid: as of ``paste_masks``.
      height: rows of the image.
      width: columns of the image.
      threshold: probability from which on a pixel belongs to the object.
    """
    side = masks.shape[-1]
    boxes, counts = _sane(boxes, valid)

    def taps(first: Array, last: Array, length: int) -> Taps:
        centre = np.arange(length, dtype=np.float32)[None] + np.float32(0.5)
        relative = (centre - first[:, None]) / (last - first)[:, None] * 2 - 1
        at = ((relative + 1) * side - 1) / 2
        inside = (at > -1) & (at < side) & counts[:, None]
        return _bilinear(jnp.where(inside, at, 0), inside, side)

    rows, columns = taps(boxes[:, 1], boxes[:, 3], height), taps(boxes[:, 0], boxes[:, 2], width)
    inside = counts & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return (_paste(masks.astype(jnp.float32), rows, columns) >= threshold) & inside[:, None, None]


def _crop(
    read: Callable[[Array], Array],
    image: tuple[int, ...],
    boxes: Array,
    index: Array,
    size: int,
    sampling_ratio: int,
    aligned: bool,
) -> Array:
    """RoIAlign is separable: two products with the weights of rows and columns, one box a step."""
    boxes, counts = _sane(boxes, None)
    axes = []
    for axis, (first, last) in enumerate(((1, 3), (0, 2))):
        length = jnp.full((1, len(boxes)), image[axis], jnp.int32)
        lo, hi = boxes[None, :, first], boxes[None, :, last]
        axes.append(span_axis(lo, hi, length, size, sampling_ratio, aligned=aligned, longest=image[axis]).weights[0])

    def one(box: tuple[Array, Array, Array]) -> Array:
        i, rows, columns = box
        mask = read(i).astype(jnp.float32)
        narrow = jnp.einsum("hw,xw->hx", mask, columns, precision=lax.Precision.HIGHEST)
        return jnp.einsum("yh,hx->yx", rows, narrow, precision=lax.Precision.HIGHEST)

    cropped = lax.map(one, (index, axes[0], axes[1]))
    return jnp.where(counts[:, None, None], jnp.clip(cropped, 0, 1), 0)


def _sane(boxes: Array, valid: Array | None) -> tuple[Array, Array]:
    """Boxes of finite numbers, and which count."""
    finite = jnp.isfinite(boxes).all(-1)
    boxes = jnp.where(finite[:, None], jnp.clip(boxes.astype(jnp.float32), -FARTHEST, FARTHEST), 0)
    return boxes, finite if valid is None else finite & valid


Taps = tuple[Array, Array, Array, Array]
"""Two cells of the mask for each pixel of an axis, ``[d length]``, and their weights."""


def _bilinear(at: Array, inside: ArrayLike, side: int) -> Taps:
    """Return the cells around a place that is more than -1 and less than ``side``; those that the mask lacks weigh
    nothing.
    """
    low = jnp.floor(at)
    rest, cell = at - low, low.astype(jnp.int32)
    near = jnp.where((cell >= 0) & inside, 1 - rest, 0)
    far = jnp.where((cell + 1 < side) & inside, rest, 0)
    return jnp.maximum(cell, 0), jnp.minimum(cell + 1, side - 1), near, far


def _paste(masks: Array, rows: Taps, columns: Taps) -> Array:
    """Resize along rows by a small product, then take two rows for each pixel: no canvas is made but the result."""
    low, high, near, far = columns
    cell = np.arange(masks.shape[-1], dtype=np.int32)[None, None]
    to_columns = jnp.where(cell == low[..., None], near[..., None], 0) + jnp.where(
        cell == high[..., None], far[..., None], 0
    )
    wide = jnp.einsum("dkl,dxl->dkx", masks, to_columns, precision=lax.Precision.HIGHEST)
    low, high, near, far = rows
    take = jax.vmap(lambda table, at: table.at[at].get(mode="promise_in_bounds"))
    return near[..., None] * take(wide, low) + far[..., None] * take(wide, high)
