"""Mask voting: every detection's mask is the mean of those of its neighbours (Dai et al. 2016, arXiv:1512.04412, 3.3).

Suppression of boxes that overlap throws away masks that know something. Here those of all boxes around a kept one vote,
weighted by what they say of its class; the box is drawn anew around the outcome. Of one image, ``map_images`` over
batches.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Float32, Int32

from jaxseg.errors import BadInput
from jaxseg.ops.boxes import clip, pairwise_iou
from jaxseg.ops.detections import detections


@dataclass(frozen=True)
class Voting:
    """Which masks vote, and how; the defaults are those of MNC and FCIS.

    Attributes:
      nms_threshold: IoU above which the worse of two boxes of a class goes.
      overlap: IoU with a kept box from which on a box's mask votes.
      edge: mean from which on a pixel belongs to the object.
      score_threshold: detections score above it.
      count: slots of detections.
      side: rows and columns of cells of the resulting masks.
      grid: rows and columns of cells, over the hull of all voters, at which masks are averaged.

    >>> Voting().edge
    0.4

    Raises:
      BadInput: ``edge`` is not between 0 and 1.
    """

    nms_threshold: float = 0.3
    overlap: float = 0.5
    edge: float = 0.4
    score_threshold: float = 1e-3
    count: int = 100
    side: int = 28
    grid: int = 56

    def __post_init__(self):
        if not 0 < self.edge < 1:
            raise BadInput(f"masks end where their mean is {self.edge}; it must be between 0 and 1")


class Voted(NamedTuple):
    """Slots of detections with masks, best first; free slots are zero.

    Attributes:
      boxes: tight around the masks.
      scores: of the kept boxes.
      classes: column of the scores.
      masks: within the boxes; an object ends at 0.5, whatever the edge was.
      valid: whether the slot is taken.
      exact: as of :class:`jaxseg.ops.detections.Detections`.

    >>> how = Voting(count=1)
    >>> voted = vote_masks(jnp.zeros((2, 4)), jnp.zeros((2, 7, 7)), jnp.zeros((2, 3)), how=how, size=jnp.array([9, 9]))
    >>> voted.masks.shape, voted.valid.tolist()
    ((1, 28, 28), [False])
    """

    boxes: Float32[Array, "d 4"]
    scores: Float32[Array, " d"]
    classes: Int32[Array, " d"]
    masks: Float32[Array, "d m m"]
    valid: Bool[Array, " d"]
    exact: Bool[Array, ""]


def vote_masks(
    boxes: Float[Array, "p 4"],
    masks: Float[Array, "p m m"],
    scores: Float[Array, "p k"],
    *,
    how: Voting,
    size: Array,
    valid: Bool[Array, " p"] | None = None,
) -> Voted:
    """Keep the best boxes of each class and give each the weighted mean of all masks around it.

    The authors average at the pixels of the image; here it is done at ``how.grid`` cells over the hull of the voters,
    and where the box ends is interpolated between cells.

    >>> box, mask = jnp.asarray([[2.0, 2.0, 10.0, 10.0]]), jnp.zeros((1, 8, 8)).at[:, :, :4].set(1.0)
    >>> voted = vote_masks(box, mask, jnp.asarray([[0.9]]), how=Voting(count=1), size=jnp.array([12, 12]))
    >>> voted.boxes[0].round().tolist(), bool(voted.masks[0].min() > 0.5)
    ([2.0, 2.0, 6.0, 10.0], True)

    Args:
      boxes: of all instances, whatever their class.
      masks: probabilities within the boxes.
      scores: of the object classes alone, without background.
      how: thresholds and sizes.
      size: rows and columns of the image.
      valid: which rows hold an instance; all by default.
    """
    there = jnp.ones(len(boxes), bool) if valid is None else valid
    boxes = jnp.where(there[:, None], clip(boxes, size[0], size[1]), 0)
    best = detections(
        boxes[:, None],
        scores,
        valid=there,
        score_threshold=how.score_threshold,
        min_size=0.0,
        nms_threshold=how.nms_threshold,
        count=how.count,
        slots=min(2000, scores.size),
    )
    masks, scores = masks.astype(jnp.float32), scores.astype(jnp.float32)

    def one(kept: tuple[Array, Array]) -> tuple[Array, Array]:
        box, column = kept
        votes = (pairwise_iou(box[None], boxes)[0] >= how.overlap) & there
        weights = jnp.where(votes, jnp.take(scores, column, axis=1), 0)
        weights = weights / jnp.maximum(weights.sum(), 1e-12)
        hull = jnp.concatenate(
            [
                jnp.where(votes[:, None], boxes[:, :2], box[:2]).min(0),
                jnp.where(votes[:, None], boxes[:, 2:], box[2:]).max(0),
            ]
        )
        rows, columns = (_places(boxes, hull, axis, masks.shape[1], how.grid) for axis in (0, 1))
        mean = jnp.einsum("p,pym,pmn,pxn->yx", weights, rows, masks, columns, precision=lax.Precision.HIGHEST)
        tight = _tight(mean, box, hull, how.edge)
        rows, columns = (_places(hull[None], tight, axis, how.grid, how.side)[0] for axis in (0, 1))
        return tight, jnp.einsum("ym,mn,xn->yx", rows, mean, columns, precision=lax.Precision.HIGHEST)

    tight, means = lax.map(one, (best.boxes, best.classes))
    low, high = means * (0.5 / how.edge), 0.5 + (means - how.edge) * (0.5 / (1 - how.edge))
    shaped = jnp.where(means < how.edge, low, high)
    return Voted(
        boxes=jnp.where(best.valid[:, None], clip(tight, size[0], size[1]), 0),
        scores=best.scores,
        classes=best.classes,
        masks=jnp.where(best.valid[:, None, None], jnp.clip(shaped, 0, 1), 0),
        valid=best.valid,
        exact=best.exact,
    )


def _places(boxes: Array, onto: Array, axis: int, side: int, count: int) -> Array:
    """Return [p count side]: what each of ``count`` cells of one box reads of each cell of masks in other boxes.

    Bilinear, the masks' edge where less than half a cell is left, and nothing outside of their boxes.
    """
    first, last = boxes[:, 1 - axis, None], boxes[:, 3 - axis, None]
    centre = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / count
    at = onto[1 - axis] + centre[None] * (onto[3 - axis] - onto[1 - axis])
    inside = (at >= first) & (at <= last) & (last > first)
    length = jnp.where(last > first, last - first, 1)
    cell = jnp.clip((at - first) / length * side - 0.5, 0, side - 1)
    hats = jnp.maximum(1 - jnp.abs(cell[..., None] - np.arange(side, dtype=np.float32)[None, None]), 0)
    return jnp.where(inside[..., None], hats, 0)


def _tight(mean: Array, box: Array, hull: Array, edge: float) -> Array:
    """Return the box around all that reaches the edge; the kept box where nothing does."""
    sides: list[Any] = [None] * 4
    for axis in (0, 1):
        profile = mean.max(1 - axis)
        n, start, length = profile.shape[0], hull[1 - axis], hull[3 - axis] - hull[1 - axis]
        sides[1 - axis] = start + _crossing(profile, edge) / n * length
        sides[3 - axis] = start + (n - _crossing(profile[::-1], edge)) / n * length
    return jnp.where(mean.max() >= edge, jnp.stack(sides), box)


def _crossing(profile: Array, edge: float) -> Array:
    """Return where a profile first reaches the edge, in cells from its start; 0 where it begins there."""
    first = jnp.argmax(profile >= edge)
    here, before = profile[first], profile[jnp.maximum(first - 1, 0)]
    rest = (edge - before) / jnp.where(here > before, here - before, 1)
    return jnp.where(first == 0, 0.0, first.astype(jnp.float32) - 0.5 + rest)
