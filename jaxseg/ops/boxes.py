"""Boxes ``x0 y0 x1 y1`` in pixels, half-open: areas, overlaps, clipping, conversions and regression codes.

Everything is computed and returned in float32 (float64 stays): at pixel 1333 bfloat16 would be off by four. Overlaps
are 0 where there is nothing to divide by, so boxes without area neither match nor suppress, and gradients stay finite.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Weights = tuple[int | float, int | float, int | float, int | float]
"""Factors of the codes of x, y, width and height."""

REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Those of the second stage of Faster R-CNN, in the network and in its loss."""

AGNOSTIC_WEIGHTS = (5.0, 5.0, 2.0, 2.0)
"""Those of the second stage of FCIS, whose codes are of no class in particular."""

MAX_LOG_RATIO = math.log(1000 / 16)
"""By which factor a decoded box may at most exceed its anchor, as a logarithm (Detectron's, torchvision's)."""


class Columns(NamedTuple):
    """Corners of boxes and their areas, each an array, of any shapes that broadcast.

    Loops compute the areas before they begin: multiplied where they are added, they may be rounded otherwise (FMA).

    >>> float(columns(jnp.array([1.0, 2.0, 3.0, 5.0])).area)
    6.0
    """

    x0: Array
    y0: Array
    x1: Array
    y1: Array
    area: Array


def columns(boxes: Float[Array, "*n 4"]) -> Columns:
    """Return corners and areas apart.

    >>> [float(c) for c in columns(jnp.array([1.0, 2.0, 3.0, 5.0]))]
    [1.0, 2.0, 3.0, 5.0, 6.0]
    """
    return Columns(*_corners(boxes), area(boxes))


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return width times height, in square pixels; negative where one side is inverted.

    >>> float(area(jnp.array([1.0, 2.0, 3.0, 5.0])))
    6.0
    """
    x0, y0, x1, y1 = _corners(boxes)
    return (x1 - x0) * (y1 - y0)


def intersection_and_union(first: Columns, second: Columns) -> tuple[Array, Array]:
    """Return the areas of intersection and union of two sets of boxes, in square pixels.

    Matching and suppression call this on columns of their own: one body, so that their overlaps are equal to the bit.

    Args:
      first: columns, as ``columns`` gives them.
      second: columns that broadcast against the first's.

    >>> first, second = (columns(jnp.array(box)) for box in ([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]))
    >>> [float(a) for a in intersection_and_union(first, second)]
    [2.0, 6.0]
    """
    width = jnp.maximum(jnp.minimum(first.x1, second.x1) - jnp.maximum(first.x0, second.x0), 0)
    height = jnp.maximum(jnp.minimum(first.y1, second.y1) - jnp.maximum(first.y0, second.y0), 0)
    shared = width * height
    return shared, first.area + second.area - shared


def iou_of_columns(first: Columns, second: Columns) -> Array:
    """Return the intersection over union of columns that broadcast; 0 where both have no area.

    >>> box = columns(jnp.array([0.0, 0.0, 2.0, 2.0]))
    >>> float(iou_of_columns(box, box))
    1.0
    """
    return _ratio(*intersection_and_union(first, second))


def iou(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return the intersection over union of each box with its partner; 0 where both have no area.

    >>> float(iou(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 2.0, 1.0])))
    0.5
    """
    return iou_of_columns(columns(first), columns(second))


def pairwise_iou(first: Float[Array, "n 4"], second: Float[Array, "a 4"]) -> Float[Array, "n a"]:
    """Return the intersection over union of every box with every other; 0 where both have no area.

    >>> boxes = jnp.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]])
    >>> pairwise_iou(boxes, boxes).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    return iou_of_columns(*_pairs(first, second))


def giou(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return the generalised IoU of each box with its partner: IoU less the empty part of the box around both.

    Between -1 and 1, with a gradient also where the boxes do not meet.

    >>> float(giou(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 0.0, 4.0, 1.0])))
    -0.5

    Reference: Rezatofighi et al. 2019, arXiv:1902.09630, algorithm 1.
    """
    return _giou(columns(first), columns(second))


def pairwise_giou(first: Float[Array, "n 4"], second: Float[Array, "a 4"]) -> Float[Array, "n a"]:
    """Return the generalised IoU of every box with every other, as ``giou`` does of pairs.

    >>> box = jnp.array([[0.0, 0.0, 1.0, 1.0]])
    >>> pairwise_giou(box, box + jnp.array([[3.0, 0.0, 3.0, 0.0]])).tolist()
    [[-0.5]]
    """
    return _giou(*_pairs(first, second))


def pairwise_ioa(boxes: Float[Array, "p 4"], crowds: Float[Array, "n 4"]) -> Float[Array, "p n"]:
    """Return which part of every box lies in every crowd: intersection over the *first* box's area.

    What COCO's evaluation takes for the overlap with a crowd; 0 for a box without area.

    >>> crowd = jnp.array([[0.0, 0.0, 100.0, 100.0]])
    >>> pairwise_ioa(jnp.array([[90.0, 0.0, 110.0, 10.0]]), crowd).tolist()
    [[0.5]]
    """
    first, second = _pairs(boxes, crowds)
    shared, _ = intersection_and_union(first, second)
    return _ratio(shared, jnp.broadcast_to(first.area, shared.shape))


def clip(boxes: Float[Array, "*n 4"], height: int | float | Array, width: int | float | Array) -> Float[Array, "*n 4"]:
    """Return the boxes with corners moved into the image.

    Args:
      boxes: any boxes; one wholly outside loses its area.
      height: of the image, pixels; a scalar, also a traced one.
      width: likewise.

    >>> clip(jnp.array([-5.0, 1.0, 30.0, 9.0]), 8, 20).tolist()
    [0.0, 1.0, 20.0, 8.0]
    """
    x0, y0, x1, y1 = _corners(boxes)
    w, h = jnp.asarray(width, x0.dtype), jnp.asarray(height, x0.dtype)
    return jnp.stack([jnp.clip(v, 0, end) for v, end in ((x0, w), (y0, h), (x1, w), (y1, h))], axis=-1)


def large_enough(boxes: Float[Array, "*n 4"], min_size: int | float) -> Bool[Array, "*n"]:
    """Return True where width and height are both at least ``min_size`` pixels; False for NaN.

    >>> large_enough(jnp.array([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 0.0]]), 1e-2).tolist()
    [True, False]
    """
    x0, y0, x1, y1 = _corners(boxes)
    return (x1 - x0 >= min_size) & (y1 - y0 >= min_size)


def encode(
    boxes: Float[Array, "*n 4"], anchors: Float[Array, "*#n 4"], weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Array, "*n 4"]:
    """Return the regression targets that lead from each anchor to its box.

    ``(x - x_a) / w_a``, likewise y, ``log(w / w_a)`` and ``log(h / h_a)``, times the weights; x and y are centres.
    A box or an anchor without area gives infinities or NaN: mask such slots *before*, with boxes that have one.

    Args:
      boxes: to be reached.
      anchors: from which.
      weights: (1, 1, 1, 1) in region proposal networks, (10, 10, 5, 5) in the second stage; SSD's variances are theirs.

    >>> encode(jnp.array([2.0, 0.0, 6.0, 4.0]), jnp.array([0.0, 0.0, 4.0, 4.0])).tolist()
    [0.5, 0.0, 0.0, 0.0]

    Reference: Girshick et al. 2014, appendix C; torchvision's ``BoxCoder``.
    """
    return _encode(_centres(boxes, 0), _centres(anchors, 0), weights)


def decode(
    deltas: Float[Array, "*n 4"],
    anchors: Float[Array, "*#n 4"],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    *,
    max_log_ratio: float = MAX_LOG_RATIO,
) -> Float[Array, "*n 4"]:
    """Return the boxes that codes lead to from their anchors: the inverse of ``encode``.

    Args:
      deltas: codes; those of several classes, [p k 4], go with anchors [p 1 4].
      anchors: from which.
      weights: as they were encoded.
      max_log_ratio: bound on the codes of width and height, so that the exponential stays finite.

    >>> decode(jnp.array([0.5, 0.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 4.0, 4.0])).tolist()
    [2.0, 0.0, 6.0, 4.0]
    """
    x, y, w, h = _decode(_corners(deltas), _centres(anchors, 0), weights, max_log_ratio)
    half_w, half_h = 0.5 * w, 0.5 * h
    return jnp.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=-1)


def encode_inclusive(
    boxes: Float[Array, "*n 4"], anchors: Float[Array, "*#n 4"], weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Array, "*n 4"]:
    """Return the regression targets of the years in which ``x1`` was the last pixel *inside* the box: widths ``+ 1``.

    Weights trained then (py-faster-rcnn, Caffe's FCIS and MNC, Detectron) need these, and boxes of that kind.

    >>> encode_inclusive(jnp.array([2.0, 0.0, 5.0, 3.0]), jnp.array([0.0, 0.0, 3.0, 3.0])).tolist()
    [0.5, 0.0, 0.0, 0.0]

    Reference: py-faster-rcnn, ``bbox_transform``.
    """
    return _encode(_centres(boxes, 1), _centres(anchors, 1), weights)


def decode_inclusive(
    deltas: Float[Array, "*n 4"],
    anchors: Float[Array, "*#n 4"],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    *,
    last_pixel: bool = True,
    max_log_ratio: float = math.inf,
) -> Float[Array, "*n 4"]:
    """Return the boxes of codes made with widths ``+ 1``.

    Args:
      deltas: codes.
      anchors: from which, ``x1 y1`` being their last pixel.
      weights: as they were encoded.
      last_pixel: end at the last pixel inside, the inverse of ``encode_inclusive`` (Detectron); else one further, as
        py-faster-rcnn decodes, where a code of zeros makes the anchor one pixel larger.
      max_log_ratio: py-faster-rcnn has none; Detectron ``MAX_LOG_RATIO``.

    >>> decode_inclusive(jnp.zeros(4), jnp.array([0.0, 0.0, 3.0, 3.0])).tolist()
    [0.0, 0.0, 3.0, 3.0]
    >>> decode_inclusive(jnp.zeros(4), jnp.array([0.0, 0.0, 3.0, 3.0]), last_pixel=False).tolist()
    [0.0, 0.0, 4.0, 4.0]
    """
    x, y, w, h = _decode(_corners(deltas), _centres(anchors, 1), weights, max_log_ratio)
    half_w, half_h, less = 0.5 * w, 0.5 * h, float(last_pixel)
    return jnp.stack([x - half_w, y - half_h, x + half_w - less, y + half_h - less], axis=-1)


def xyxy_to_xywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return ``x0 y0 width height`` (COCO's files).

    >>> xyxy_to_xywh(jnp.array([1.0, 2.0, 3.0, 5.0])).tolist()
    [1.0, 2.0, 2.0, 3.0]
    """
    x0, y0, x1, y1 = _corners(boxes)
    return jnp.stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def xywh_to_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return corners from ``x0 y0 width height``.

    >>> xywh_to_xyxy(jnp.array([1.0, 2.0, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0, 5.0]
    """
    x0, y0, w, h = _corners(boxes)
    return jnp.stack([x0, y0, x0 + w, y0 + h], axis=-1)


def xyxy_to_cxcywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return ``x y`` of the centre and ``width height`` (DETR, YOLO).

    >>> xyxy_to_cxcywh(jnp.array([1.0, 2.0, 3.0, 5.0])).tolist()
    [2.0, 3.5, 2.0, 3.0]
    """
    x0, y0, x1, y1 = _corners(boxes)
    return jnp.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1)


def cxcywh_to_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Return corners from centre, width and height.

    >>> cxcywh_to_xyxy(jnp.array([2.0, 3.5, 2.0, 3.0])).tolist()
    [1.0, 2.0, 3.0, 5.0]
    """
    x, y, w, h = _corners(boxes)
    return jnp.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], axis=-1)


Four = tuple[Array, Array, Array, Array]


def _corners(boxes: Array) -> Four:
    wide = boxes if boxes.dtype in (jnp.float32, jnp.float64) else boxes.astype(jnp.float32)
    return wide[..., 0], wide[..., 1], wide[..., 2], wide[..., 3]


def _pairs(first: Array, second: Array) -> tuple[Columns, Columns]:
    return Columns(*(c[:, None] for c in columns(first))), Columns(*(c[None] for c in columns(second)))


def _ratio(part: Array, whole: Array) -> Array:
    """Return ``part / whole``, 0 where the whole is nothing; the inner ``where`` keeps the gradient finite there."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1), 0)


def _giou(first: Columns, second: Columns) -> Array:
    shared, union = intersection_and_union(first, second)
    width = jnp.maximum(first.x1, second.x1) - jnp.minimum(first.x0, second.x0)
    height = jnp.maximum(first.y1, second.y1) - jnp.minimum(first.y0, second.y0)
    hull = width * height
    return _ratio(shared, union) - _ratio(hull - union, hull)


def _centres(boxes: Array, more: int) -> Four:
    """Centre, width and height, the latter by ``more`` pixels larger than the corners' distance."""
    x0, y0, x1, y1 = _corners(boxes)
    w, h = (x1 - x0, y1 - y0) if not more else (x1 - x0 + more, y1 - y0 + more)
    return x0 + 0.5 * w, y0 + 0.5 * h, w, h


def _encode(boxes: Four, anchors: Four, weights: Weights) -> Array:
    (x, y, w, h), (x_a, y_a, w_a, h_a), (f_x, f_y, f_w, f_h) = boxes, anchors, weights
    codes = [f_x * (x - x_a) / w_a, f_y * (y - y_a) / h_a, f_w * jnp.log(w / w_a), f_h * jnp.log(h / h_a)]
    return jnp.stack(codes, axis=-1)


def _decode(deltas: Four, anchors: Four, weights: Weights, max_log_ratio: float) -> Four:
    (x_a, y_a, w_a, h_a), (f_x, f_y, f_w, f_h) = anchors, weights
    dx, dy, dw, dh = deltas
    w = jnp.exp(jnp.minimum(dw / f_w, max_log_ratio)) * w_a
    h = jnp.exp(jnp.minimum(dh / f_h, max_log_ratio)) * h_a
    return dx / f_x * w_a + x_a, dy / f_y * h_a + y_a, w, h
