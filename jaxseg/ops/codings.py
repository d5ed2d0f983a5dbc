"""Codings of boxes by what a width is: three conventions of the years, over half-open boxes.

Boxes are half-open everywhere; a coding says what the network's numbers mean.

- :data:`HALF_OPEN`, torchvision's and detectron2's: widths between the edges.
- :data:`INCLUSIVE`, py-faster-rcnn's: ``x1`` is the last pixel and widths count it, which is the same numbers; but what
  is decoded ends one pixel further, and nothing bounds the logarithms.
- :data:`CORNERS`, R-CNN's and Fast R-CNN's: widths from the first pixel's centre to the last's, one less.
"""

import math

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxseg.errors import BadInput
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.boxes import Weights

HALF_OPEN, INCLUSIVE, CORNERS = "half_open", "inclusive", "corners"

CODINGS = (HALF_OPEN, INCLUSIVE, CORNERS)

ONE: Weights = (1.0, 1.0, 1.0, 1.0)


def encode(
    boxes: Float[Array, "*n 4"], anchors: Float[Array, "*#n 4"], weights: Weights = ONE, *, coding: str = HALF_OPEN
) -> Float[Array, "*n 4"]:
    """Return the regression targets that lead from each anchor to its box.

    >>> box, anchor = jnp.array([0.0, 0.0, 9.0, 9.0]), jnp.array([0.0, 0.0, 5.0, 5.0])
    >>> [round(float(encode(box, anchor, coding=name)[0]), 2) for name in CODINGS]
    [0.4, 0.4, 0.5]

    Args:
      boxes: to be reached, half-open.
      anchors: from which, half-open.
      weights: factors of the codes.
      coding: one of :data:`CODINGS`.

    Raises:
      BadInput: there is no such coding.
    """
    if coding == CORNERS:
        return box_ops.encode(_corners(boxes), _corners(anchors), weights)
    _check(coding)
    return box_ops.encode(boxes, anchors, weights)


def decode(
    deltas: Float[Array, "*n 4"], anchors: Float[Array, "*#n 4"], weights: Weights = ONE, *, coding: str = HALF_OPEN
) -> Float[Array, "*n 4"]:
    """Return the half-open boxes that codes lead to from their anchors.

    >>> anchor = jnp.array([0.0, 0.0, 4.0, 4.0])
    >>> [decode(jnp.zeros(4), anchor, coding=name).tolist()[2] for name in CODINGS]
    [4.0, 5.0, 4.0]

    Args:
      deltas: codes; those of several classes, [p k 4], go with anchors [p 1 4].
      anchors: from which, half-open.
      weights: as they were encoded.
      coding: one of :data:`CODINGS`.

    Raises:
      BadInput: there is no such coding.

    Reference: py-faster-rcnn, ``bbox_transform_inv``; fast-rcnn, ``_bbox_pred``.
    """
    if coding == CORNERS:
        return to_half_open(box_ops.decode(deltas, _corners(anchors), weights, max_log_ratio=math.inf))
    if coding == INCLUSIVE:
        found = box_ops.decode_inclusive(deltas, to_last_pixel(anchors), weights, last_pixel=False)
        return to_half_open(found)
    _check(coding)
    return box_ops.decode(deltas, anchors, weights)


def to_last_pixel(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return half-open boxes by their first and last pixels.

    >>> to_last_pixel(jnp.array([0.0, 0.0, 4.0, 2.0])).tolist()
    [0.0, 0.0, 3.0, 1.0]
    """
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] - 1], axis=-1)


def to_half_open(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return boxes given by their first and last pixels as half-open ones.

    >>> to_half_open(jnp.array([0.0, 0.0, 3.0, 1.0])).tolist()
    [0.0, 0.0, 4.0, 2.0]
    """
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] + 1], axis=-1)


def _corners(boxes: Array) -> Array:
    """Return the boxes up to their last pixel, not quite without width (the authors' EPS)."""
    last = boxes[..., 2:] - 1
    return jnp.concatenate([boxes[..., :2], jnp.maximum(last, boxes[..., :2] + 1e-3)], axis=-1)


def _check(coding: str) -> None:
    if coding not in CODINGS:
        raise BadInput(f"coding {coding!r} of boxes; there are {', '.join(map(repr, CODINGS))}")
