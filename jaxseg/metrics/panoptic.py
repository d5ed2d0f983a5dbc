"""Panoptic quality: every pixel belongs to one segment, and segments of prediction and truth are matched."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.types import Figure

NOWHERE = -1
"""The key of pixels that belong to no segment."""


class SegmentMatches(NamedTuple):
    """Matches of predicted segments with true ones: of one image, or of many one after the other.

    >>> SegmentMatches(np.asarray([0]), np.asarray([0.9]), np.asarray([0, 2]), np.asarray([1, 0])).wrong.tolist()
    [0, 2]
    """

    classes: np.ndarray
    """i64[t]: the class of each match."""
    iou: np.ndarray
    """f64[t]: its IoU, more than 0.5."""
    wrong: np.ndarray
    """i64[k]: predicted segments of each class without a match."""
    missed: np.ndarray
    """i64[k]: true segments of each class without a match."""


@dataclass(frozen=True)
class PanopticQuality:
    """Panoptic, segmentation and recognition quality: ``pq``, ``sq`` and ``rq``, means over classes.

    A predicted and a true segment of one class match if their IoU exceeds 0.5, so that each has one match at most. With
    TP matches, FP further predictions and FN further true segments of a class, over the whole split,

        PQ = (sum of IoU) / (TP + FP / 2 + FN / 2),   SQ = (sum of IoU) / TP,   RQ = TP / (TP + FP / 2 + FN / 2).

    Void pixels of the truth are left out of the union. Crowds are never matched or missed, and a prediction of which
    more than half lies on void and on crowds of its class is not counted as wrong. Classes that are neither found nor
    there are left out. ``pq_things``, ``pq_stuff``, ... are means over things and over stuff, ``pq/CLASS`` is that of a
    class. Segments are compared on the canvas.

    Attributes:
      classes: names of the classes that ``panoptic`` holds.
      things: names of those that have instances.

    >>> truth = jnp.asarray([[[[0, 0], [1, 1], [1, 1], [1, 2]]]])
    >>> metric = PanopticQuality(("sky", "cat"), ("cat",))
    >>> state = metric.fold(metric.init(), metric.observe({"panoptic": truth}, {"panoptic": truth}))
    >>> metric.result(state)["pq_things"]
    1.0

    Raises:
      BadInput: a thing is not among the classes.

    Reference: Kirillov et al. 2019, *Panoptic segmentation*, section 4; its evaluation code is panopticapi.
    """

    classes: tuple[str, ...]
    things: tuple[str, ...]

    def __post_init__(self):
        strange = [name for name in self.things if name not in self.classes]
        if strange:
            raise BadInput(f"things that are not among the classes: {', '.join(strange)}")

    def init(self) -> SegmentMatches:
        """Return no matches."""
        none = np.zeros(len(self.classes), np.int64)
        return SegmentMatches(np.zeros(0, np.int64), np.zeros(0), none, none)

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return both maps, and where crowds are."""
        true = batch["panoptic"]
        crowd = _crowd_pixels(batch) if {"crowd", "instance_ids"} <= set(batch) else jnp.zeros(true.shape[:3], bool)
        real = batch.get("real", jnp.ones(true.shape[0], bool))
        return {"found": predictions["panoptic"], "true": true, "crowd": crowd, "real": real}

    def fold(self, state: SegmentMatches, observation: Any) -> SegmentMatches:
        """Match the segments of the real rows."""
        seen = {key: np.asarray(value) for key, value in observation.items()}
        for row in np.flatnonzero(seen["real"]).tolist():
            more = match_segments(seen["found"][row], seen["true"][row], seen["crowd"][row], len(self.classes))
            state = SegmentMatches(
                np.concatenate([state.classes, more.classes]),
                np.concatenate([state.iou, more.iou]),
                state.wrong + more.wrong,
                state.missed + more.missed,
            )
        return state

    def result(self, state: SegmentMatches) -> dict[str, float]:
        """Return the figures, fractions of 1; nothing where no segment is found or there."""
        rows: dict[str, tuple[float, float, float]] = {}
        for k, name in enumerate(self.classes):
            iou = state.iou[state.classes == k]
            weight = len(iou) + (state.wrong[k] + state.missed[k]) / 2
            total = math.fsum(iou.tolist())  # exact: the order of the images does not matter
            if weight:
                rows[name] = total / weight, total / max(len(iou), 1), len(iou) / weight
        done = _means(rows, "") | _means({name: rows[name] for name in rows if name in self.things}, "_things")
        done |= _means({name: rows[name] for name in rows if name not in self.things}, "_stuff")
        return done | {f"pq/{name}": float(quality) for name, (quality, _, _) in rows.items()}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        titles = {"pq": "panoptic quality", "sq": "segmentation quality", "rq": "recognition quality"}
        parts = {"": "", "_things": ", things", "_stuff": ", stuff"}
        texts = {
            "pq": "Sum of the IoU of matched segments / (matches + half of the wrong and of the missed segments)",
            "sq": "Mean IoU of matched segments",
            "rq": "Matches / (matches + half of the wrong and of the missed segments)",
        }
        return tuple(
            Figure(q + end, title + part, "%", definition=f"{texts[q]}, mean over classes{part.replace(', ', ' of ')}.")
            for end, part in parts.items()
            for q, title in titles.items()
        )


def match_segments(found: np.ndarray, true: np.ndarray, crowd: np.ndarray, num_classes: int) -> SegmentMatches:
    """Match the segments of one image.

    Args:
      found: predicted class and instance, i32[h w 2]; pixels of other classes belong to no segment.
      true: class and instance, i32[h w 2]; pixels of other classes are void.
      crowd: bool[h w], true on crowds; a true segment is a crowd if most of it is.
      num_classes: number of classes.

    >>> true = np.asarray([[[0, 0], [0, 0], [1, 7], [255, 0]]])
    >>> found = np.asarray([[[0, 0], [0, 0], [0, 0], [1, 3]]])
    >>> match = match_segments(found, true, np.zeros((1, 4), bool), 2)
    >>> match.iou.round(2).tolist(), match.wrong.tolist(), match.missed.tolist()
    ([0.67], [0, 0], [0, 1])
    """
    ours, mine, our_area = np.unique(_keys(found, num_classes), return_inverse=True, return_counts=True)
    theirs, yours, their_area = np.unique(_keys(true, num_classes), return_inverse=True, return_counts=True)
    mine, yours = mine.ravel(), yours.ravel()
    cells = np.bincount(yours * len(ours) + mine, minlength=len(ours) * len(theirs))
    common = cells.reshape(len(theirs), len(ours))
    void = common[theirs == NOWHERE].sum(0)
    is_crowd = 2 * np.bincount(yours, crowd.ravel(), minlength=len(theirs)) > their_area
    same = (theirs[:, None] >> 32) == (ours[None] >> 32)
    segment, asked = ours != NOWHERE, (theirs != NOWHERE) & ~is_crowd
    iou = common / np.maximum(our_area[None] + their_area[:, None] - common - void[None], 1)
    match = same & asked[:, None] & segment[None] & (iou > 0.5)
    excused = void + np.where(same & is_crowd[:, None], common, 0).sum(0)
    wrong = segment & ~match.any(0) & ~(2 * excused > our_area)
    rows, columns = np.nonzero(match)
    count = lambda keys: np.bincount(keys >> 32, minlength=num_classes)  # noqa: E731
    return SegmentMatches(
        theirs[rows] >> 32, iou[rows, columns], count(ours[wrong]), count(theirs[asked & ~match.any(1)])
    )


def _keys(panoptic: np.ndarray, num_classes: int) -> np.ndarray:
    """One number for each segment, its class in the upper half; -1 for no segment."""
    label, instance = (panoptic[..., i].astype(np.int64) for i in (0, 1))
    known = (label >= 0) & (label < num_classes)
    return np.where(known, (label << 32) | (instance & 0xFFFFFFFF), NOWHERE)


def _crowd_pixels(batch: Mapping[str, Array]) -> Array:
    """True where the object in front is a crowd, bool[b h w]."""
    ids = batch["instance_ids"].astype(jnp.int32)
    crowd = jnp.pad(batch["crowd"] & batch.get("valid", jnp.ones_like(batch["crowd"])), ((0, 0), (1, 0)))
    return jnp.take_along_axis(crowd, ids.reshape(len(ids), -1), axis=1).reshape(ids.shape)


def _means(rows: Mapping[str, tuple[float, float, float]], end: str) -> dict[str, float]:
    if not rows:
        return {}
    columns = zip(*rows.values(), strict=True)
    return {name + end: math.fsum(column) / len(rows) for name, column in zip(("pq", "sq", "rq"), columns, strict=True)}
