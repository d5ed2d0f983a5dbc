"""Non-maximum suppression: exact greedy, per class, and soft; and the detections that it leaves of a head's output.

Slots in, slots out, one image; ``vmap`` over batches. Greedy suppression has two forms that keep the same boxes, one
chosen where the code is compiled. On a CPU a loop over the boxes in the order of their scores, a row of overlaps for
each that is still alive: on 2 cores 1000 boxes take about 1 ms and 4000 about 6, and the loop ends once enough are
kept. Elsewhere, where a step of a loop costs more than a row, blocks of 256 boxes.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Float32, Int, Int32, Num

from jaxseg.errors import BadInput
from jaxseg.ops.backend import choose, current
from jaxseg.ops.boxes import Columns, columns, iou_of_columns
from jaxseg.ops.nms_forms import by_block, by_class, by_row


class Kept(NamedTuple):
    """Slots of what is kept, best first: which box, and whether the slot is taken. Free slots have index 0.

    >>> nms(jnp.eye(4), jnp.arange(4.0), threshold=0.5, count=2)
    Kept(index=Array([3, 2], dtype=int32), valid=Array([ True,  True], dtype=bool))
    """

    index: Int32[Array, " d"]
    valid: Bool[Array, " d"]


def nms(
    boxes: Float[Array, "n 4"],
    scores: Num[Array, " n"],
    *,
    threshold: float,
    count: int,
    valid: Bool[Array, " n"] | None = None,
    classes: Int[Array, " n"] | None = None,
) -> Kept:
    """Keep each box that overlaps no better kept box by more than ``threshold``, at most the ``count`` best of them.

    Exactly what ``torchvision.ops.nms`` keeps, in its order: equal scores by index, NaN scores first. Boxes without
    area or with NaN neither suppress nor are suppressed.

    Args:
      boxes: candidates.
      scores: their confidence.
      threshold: IoU above which the worse box goes.
      count: slots of the result; the CPU's loop ends when they are full.
      valid: which slots hold a candidate; all by default.
      classes: only boxes of equal number suppress each other: classes, or levels of a pyramid. (Not by moving boxes
        apart by an offset for each class, which rounds the overlaps.)

    Raises:
      BadInput: ``count`` is not positive.

    >>> boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [20.0, 0.0, 30.0, 10.0]])
    >>> kept = nms(boxes, jnp.array([0.8, 0.9, 0.7]), threshold=0.5, count=3)
    >>> kept.index.tolist(), kept.valid.tolist()
    ([1, 2, 0], [True, True, False])
    """
    if count < 1:
        raise BadInput(f"count is {count}; at least 1 slot is needed")
    if not len(scores):
        return Kept(jnp.zeros(count, jnp.int32), jnp.zeros(count, bool))
    return _nms(boxes, scores, valid, classes, at_most(threshold), count=count, backend=current())


MANY = 512
"""From so many slots on the CPU's loop goes class by class; for fewer it ends early, which saves more."""


# Compiled as one, so that eager calls neither run op by op nor compile their loops again.
@partial(jax.jit, static_argnames=("count", "backend"))
def _nms(
    boxes: Array,
    scores: Array,
    valid: Array | None,
    classes: Array | None,
    threshold: Array,
    *,
    count: int,
    backend: str,
) -> Kept:
    boxes, scores = lax.stop_gradient(boxes), lax.stop_gradient(scores)
    ranked = top_k(scores, len(scores), valid=valid)
    order = ranked.index
    groups = None if classes is None else classes[order].astype(jnp.int32)
    sorted_ = (columns(boxes[order]), groups, ranked.valid, threshold, jnp.int32(count))
    many = classes is not None and count >= MANY
    alive = choose(*sorted_, cpu=by_class if many else by_row, default=by_block, backend=backend)
    (slots,) = jnp.nonzero(alive, size=count, fill_value=0)
    taken = jnp.arange(count) < jnp.sum(alive)
    return Kept(jnp.where(taken, order[slots], 0), taken)


class Ranked(NamedTuple):
    """The largest values in descending order, where they were, and whether the slot is taken.

    Free slots have value ``-inf`` and index 0.

    >>> top_k(jnp.array([3.0, 5.0]), 3).value.tolist()
    [5.0, 3.0, -inf]
    """

    value: Float32[Array, " d"]
    index: Int32[Array, " d"]
    valid: Bool[Array, " d"]


def top_k(scores: Num[Array, " n"], k: int, *, valid: Bool[Array, " n"] | None = None) -> Ranked:
    """Return the ``k`` largest valid scores, equal ones by index and NaN first, in slots also where ``k`` exceeds them.

    ``lax.top_k`` is fast on a CPU for float32 alone (it sorts everything else whole, 40 times as slowly), so that is
    what it is given; and it puts -0.0 below 0.0, which are equal here.

    Args:
      scores: of any dtype that float32 holds.
      k: slots of the result.
      valid: which scores count; all by default.

    >>> best = top_k(jnp.array([0.1, 0.9, 0.5]), 2, valid=jnp.array([True, False, True]))
    >>> best.index.tolist(), best.valid.tolist()
    ([2, 0], [True, True])
    """
    scores = scores.astype(jnp.float32)
    scores = jnp.where(scores == 0, jnp.float32(0), scores)
    n = len(scores)
    if not n:
        return Ranked(jnp.full(k, -jnp.inf), jnp.zeros(k, jnp.int32), jnp.zeros(k, bool))
    if valid is None:
        valid = jnp.ones(n, bool)
    # Nothing valid ties with what is not.
    ranks = jnp.where(valid, jnp.maximum(scores, jnp.finfo(jnp.float32).min), -jnp.inf)
    _, index = lax.top_k(ranks, min(k, n))
    index = jnp.pad(index, (0, k - min(k, n)))
    taken = jnp.arange(k) < jnp.sum(valid)
    return Ranked(jnp.where(taken, scores[index], -jnp.inf), jnp.where(taken, index, 0), taken)


class Softened(NamedTuple):
    """Slots of soft suppression, best first: which box, its lowered score, and whether the slot is taken.

    >>> soft_nms_gaussian(jnp.eye(4), jnp.arange(4.0), count=4).valid.tolist()
    [True, True, True, False]
    """

    index: Int32[Array, " d"]
    score: Float32[Array, " d"]
    valid: Bool[Array, " d"]


def soft_nms_linear(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    threshold: float,
    count: int,
    min_score: float = 1e-3,
    valid: Bool[Array, " n"] | None = None,
    classes: Int[Array, " n"] | None = None,
) -> Softened:
    """Multiply the scores of boxes that overlap a better one by ``1 - IoU`` instead of dropping them.

    Args:
      boxes: candidates.
      scores: their confidence; gradients reach them.
      threshold: IoU above which a score is lowered (the paper: 0.3).
      count: slots of the result, and steps of the loop.
      min_score: boxes whose score falls to it or below are dropped.
      valid: which slots hold a candidate; all by default.
      classes: only boxes of equal number lower each other's scores.

    >>> boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    >>> soft_nms_linear(boxes, jnp.array([0.75, 0.5]), threshold=0.3, count=2).score.tolist()
    [0.75, 0.25]

    Reference: Bodla et al. 2017, arXiv:1704.04503, equation 2.
    """
    return _soften(boxes, scores, valid, classes, min_score, at_most(threshold), count=count, falloff=_linear)


def soft_nms_gaussian(
    boxes: Float[Array, "n 4"],
    scores: Float[Array, " n"],
    *,
    sigma: float = 0.5,
    count: int,
    min_score: float = 1e-3,
    valid: Bool[Array, " n"] | None = None,
    classes: Int[Array, " n"] | None = None,
) -> Softened:
    """Multiply the scores of boxes that overlap a better one by ``exp(-IoU^2 / sigma)`` instead of dropping them.

    Args: as ``soft_nms_linear``, and
      sigma: the smaller, the harder.

    >>> boxes = jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    >>> [round(float(score), 3) for score in soft_nms_gaussian(boxes, jnp.array([0.75, 0.5]), count=2).score]
    [0.75, 0.303]

    Reference: Bodla et al. 2017, arXiv:1704.04503, equation 3.
    """
    return _soften(boxes, scores, valid, classes, min_score, jnp.float32(sigma), count=count, falloff=_gaussian)


def _linear(iou: Array, threshold: Array) -> Array:
    return jnp.where(iou > threshold, 1 - iou, 1)


def _gaussian(iou: Array, sigma: Array) -> Array:
    return jnp.exp(-jnp.square(iou) / sigma)


@partial(jax.jit, static_argnames=("count", "falloff"))
def _soften(
    boxes: Array,
    scores: Array,
    valid: Array | None,
    classes: Array | None,
    min_score: Array | float,
    parameter: Array,
    *,
    count: int,
    falloff: Callable[[Array, Array], Array],
) -> Softened:
    corners = columns(lax.stop_gradient(boxes))
    scores = scores.astype(jnp.float32)
    place = jnp.arange(len(scores), dtype=jnp.int32)
    waiting = scores > min_score if valid is None else valid & (scores > min_score)

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array, Array]]:
        scores, waiting = state
        best = jnp.argmax(jnp.where(waiting, scores, -jnp.inf)).astype(jnp.int32)
        factors = falloff(iou_of_columns(Columns(*(c[best] for c in corners)), corners), parameter)
        if classes is not None:
            factors = jnp.where(classes == classes[best], factors, 1)
        taken = waiting[best]
        lowered = jnp.where(taken, scores * factors, scores)
        return (lowered, waiting & (place != best) & (lowered > min_score)), (best, scores[best], taken)

    steps = min(count, len(scores))
    _, (index, score, taken) = lax.scan(step, (scores, waiting), None, length=steps)
    index, score, taken = (jnp.pad(x, (0, count - steps)) for x in (index, score, taken))
    return Softened(jnp.where(taken, index, 0), jnp.where(taken, score, 0), taken)


def at_most(threshold: float) -> Float32[Array, ""]:
    """Return the largest float32 that is not above the threshold.

    ``iou > 0.6`` in torchvision compares a float with a double. Rounded to float32, 0.6 is above 0.6, and boxes whose
    overlap is just that, as those of whole pixels often have, would be kept.

    >>> float(at_most(0.5)), float(at_most(0.6)) < 0.6
    (0.5, True)
    """
    near = np.float32(threshold)
    return jnp.float32(near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf)))
