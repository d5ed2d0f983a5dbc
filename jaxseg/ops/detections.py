"""From the decoded boxes and scores of a head to detections in slots: torchvision's post-processing, with a proof.

Of all boxes of all classes only the best few hundred to thousand enter suppression. Whether that changed anything can
be told afterwards, and is: ``exact``.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Float32, Int32

from jaxseg.errors import BadInput
from jaxseg.ops.backend import current, using
from jaxseg.ops.boxes import large_enough
from jaxseg.ops.nms import nms, top_k


class Detections(NamedTuple):
    """Slots of detections, best first; free slots are zero.

    Attributes:
      boxes: of the class that was found.
      scores: confidence.
      classes: column of the scores.
      rows: row of the boxes and scores, to look up what else is known of it.
      valid: whether the slot is taken.
      exact: whether no candidate that was left out for want of slots could have been among these.

    >>> detections(jnp.zeros((5, 1, 4)), jnp.ones((5, 3)), count=2).valid.tolist()
    [False, False]
    """

    boxes: Float32[Array, "d 4"]
    scores: Float32[Array, " d"]
    classes: Int32[Array, " d"]
    rows: Int32[Array, " d"]
    valid: Bool[Array, " d"]
    exact: Bool[Array, ""]


def detections(
    boxes: Float[Array, "p q 4"],
    scores: Float[Array, "p k"],
    *,
    valid: Bool[Array, " p"] | None = None,
    score_threshold: float = 0.05,
    min_size: float = 1e-2,
    nms_threshold: float = 0.5,
    count: int = 100,
    slots: int = 2000,
) -> Detections:
    """Return the best boxes that stay after thresholds and suppression within each class; one image.

    Args:
      boxes: decoded and clipped; one for each class, or one for all (``q`` is 1).
      scores: of the object classes alone, without background.
      valid: which rows hold a proposal; all by default.
      score_threshold: scores must be above it.
      min_size: least width and height, pixels.
      nms_threshold: IoU above which the worse of two boxes of a class goes.
      count: slots of the result.
      slots: candidates that enter suppression, the best ones. Softmax heads on COCO need up to 1000 for 100 detections;
        sigmoid heads, with their many low scores, up to 4000.

    Raises:
      BadInput: there are neither one nor ``k`` boxes a row.

    >>> boxes = jnp.array([[[0.0, 0.0, 10.0, 10.0]], [[0.0, 0.0, 10.0, 9.0]], [[20.0, 0.0, 30.0, 10.0]]])
    >>> found = detections(boxes, jnp.array([[0.8, 0.01], [0.9, 0.6], [0.7, 0.02]]), count=4)
    >>> found.rows.tolist(), found.classes.tolist(), found.valid.tolist(), bool(found.exact)
    ([1, 2, 1, 0], [0, 0, 1, 0], [True, True, True, False], True)

    Reference: torchvision, ``RoIHeads.postprocess_detections``.
    """
    k, q = scores.shape[1], boxes.shape[1]
    if q not in (1, k):
        raise BadInput(f"{q} boxes a row for {k} classes; give one box, or one for each class")
    return _detections(boxes, scores, valid, score_threshold, min_size, nms_threshold, count, slots, current())


@partial(jax.jit, static_argnums=(3, 4, 5, 6, 7, 8))
def _detections(
    boxes: Array,
    scores: Array,
    valid: Array | None,
    score_threshold: float,
    min_size: float,
    nms_threshold: float,
    count: int,
    slots: int,
    backend: str,
) -> Detections:
    k, q = scores.shape[1], boxes.shape[1]
    boxes, scores = lax.stop_gradient(boxes), lax.stop_gradient(scores).astype(jnp.float32)
    candidate = (scores > score_threshold) & large_enough(boxes, min_size)
    if valid is not None:
        candidate = candidate & valid[:, None]
    best = top_k(scores.reshape(-1), slots, valid=candidate.reshape(-1))
    rows, classes = best.index // k, best.index % k
    corners = boxes[rows, classes if q == k else 0]
    with using(backend):
        kept = nms(corners, best.value, threshold=nms_threshold, count=count, valid=best.valid, classes=classes)
    taken, all_in = kept.valid, jnp.sum(candidate) <= slots

    def slot(x: Array) -> Array:
        x = x[kept.index]
        return jnp.where(taken.reshape(-1, *[1] * (x.ndim - 1)), x, 0)

    return Detections(
        boxes=slot(corners.astype(jnp.float32)),
        scores=slot(best.value),
        classes=slot(classes),
        rows=slot(rows),
        valid=taken,
        exact=all_in | taken[-1],
    )


def detections_of_each_class(
    boxes: Float[Array, "a 4"],
    scores: Float[Array, "a k"],
    *,
    score_threshold: float,
    candidates: int,
    nms_threshold: float,
    count: int,
) -> Detections:
    """Return the best boxes of all classes, each class having its own candidates; one image.

    As one-stage networks of the line of SSD end: of each class the best ``candidates`` are suppressed among themselves,
    and the best ``count`` of what remains of all are taken.

    Args:
      boxes: decoded and clipped, one for all classes.
      scores: of the object classes alone, without background.
      score_threshold: what counts scores above it.
      candidates: of each class that enter suppression.
      nms_threshold: IoU above which the worse of two boxes of a class goes.
      count: slots of the result.

    Returns:
      Slots; ``exact`` is always true, for the candidates are a part of the definition.

    >>> boxes = jnp.asarray([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 7.0], [9.0, 0.0, 12.0, 8.0]])
    >>> scores = jnp.asarray([[0.9, 0.1], [0.8, 0.3], [0.2, 0.0]])
    >>> found = detections_of_each_class(
    ...     boxes, scores, score_threshold=0.1, candidates=3, nms_threshold=0.5, count=4
    ... )
    >>> found.rows.tolist(), found.classes.tolist(), found.valid.tolist()
    ([0, 1, 2, 0], [0, 1, 0, 0], [True, True, True, False])
    """
    scores = lax.stop_gradient(scores).astype(jnp.float32)
    each = min(candidates, scores.shape[0])
    value, row = lax.top_k(jnp.where(scores > score_threshold, scores, -jnp.inf).T, each)
    kind = jnp.broadcast_to(jnp.arange(scores.shape[1], dtype=jnp.int32)[:, None], row.shape).reshape(-1)
    value, row = value.reshape(-1), row.reshape(-1)
    corners = lax.stop_gradient(boxes)[row].astype(jnp.float32)
    there = value > score_threshold
    kept = nms(corners, value, threshold=nms_threshold, count=count, valid=there, classes=kind)
    taken = kept.valid

    def slot(x: Array) -> Array:
        x = x[kept.index]
        return jnp.where(taken.reshape(-1, *[1] * (x.ndim - 1)), x, 0)

    return Detections(slot(corners), slot(value), slot(kind), slot(row), taken, jnp.asarray(True))
