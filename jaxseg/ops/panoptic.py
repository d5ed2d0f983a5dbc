"""Merge instances and stuff into one map that gives every pixel one segment."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jaxseg.ops.masks import paste_masks
from jaxseg.types import VOID

Paste = Callable[..., Array]


class Segments(NamedTuple):
    """The map, and which detections are on it.

    >>> Segments(jnp.zeros((2, 2, 2), jnp.int32), jnp.zeros(3, bool)).placed.shape
    (3,)
    """

    panoptic: Int[Array, "h w 2"]
    placed: Bool[Array, " d"]


def merge_panoptic(
    masks: Float[Array, "d m m"],
    boxes: Float[Array, "d 4"],
    scores: Float[Array, " d"],
    classes: Int[Array, " d"],
    valid: Bool[Array, " d"],
    label: Int[Array, "h w"],
    *,
    num_classes: int,
    score_threshold: float = 0.5,
    overlap: float = 0.5,
    stuff_area: int = 4096,
    paste: Paste = paste_masks,
) -> Segments:
    """Place instances best first on free pixels, then fill what is left with stuff; one image.

    An instance is left out if it is empty, if its score is below the threshold, or if more than ``overlap`` of it is
    taken already. Stuff of less than ``stuff_area`` free pixels becomes void.

    Args:
      masks: probabilities within the boxes.
      boxes: ``x0 y0 x1 y1``, pixels.
      scores: falling.
      classes: of the instances, as ``label`` counts them.
      valid: which slots hold a detection.
      label: most probable stuff of each pixel, 255 where that is a thing.
      num_classes: of ``label``.
      score_threshold: of instances.
      overlap: share of an instance that others may hold.
      stuff_area: pixels of the least stuff segment.
      paste: puts masks on the image, ``paste_masks`` or ``paste_masks_aligned``.

    Returns:
      Class and instance number of each pixel, 255 and 0 for void, the number 0 for stuff; numbers count the instances
      placed from 1.

    >>> label = jnp.zeros((4, 4), jnp.int32)
    >>> found = merge_panoptic(
    ...     jnp.ones((1, 2, 2)), jnp.asarray([[0.0, 0.0, 2.0, 2.0]]), jnp.asarray([0.9]), jnp.asarray([1]),
    ...     jnp.asarray([True]), label, num_classes=2, stuff_area=1,
    ... )
    >>> found.panoptic[1, 1].tolist(), found.panoptic[3, 3].tolist()
    ([1, 1], [0, 0])

    Reference:
      Kirillov et al. 2019, arXiv:1801.00868, section 7; detectron2's ``combine_semantic_and_instance_outputs``.
    """
    height, width = label.shape

    def place(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        of_pixel, number, placed = state
        one = lambda x: lax.dynamic_slice_in_dim(x, i, 1)  # noqa: E731
        mask = paste(one(masks), one(boxes), one(valid), height=height, width=width)[0]
        area, taken = (x.sum().astype(jnp.float32) for x in (mask, mask & (number > 0)))
        fits = valid[i] & (scores[i] >= score_threshold) & (area > 0) & (taken <= overlap * area)
        new = mask & (number == 0) & fits
        count = placed.sum() + 1
        return jnp.where(new, classes[i], of_pixel), jnp.where(new, count, number), placed.at[i].set(fits)

    start = (jnp.full(label.shape, VOID, jnp.int32), jnp.zeros(label.shape, jnp.int32), jnp.zeros(len(valid), bool))
    of_pixel, number, placed = lax.fori_loop(0, len(valid), place, start)
    free = (number == 0) & (label >= 0) & (label < num_classes)
    areas = jnp.zeros(num_classes, jnp.int32).at[jnp.where(free, label, num_classes)].add(1, mode="drop")
    large = free & (areas >= stuff_area)[jnp.clip(label, 0, num_classes - 1)]
    return Segments(jnp.stack([jnp.where(large, label, of_pixel), number], -1), placed)
