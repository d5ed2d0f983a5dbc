"""Average precision of PASCAL VOC, of boxes and of masks (mAP^r of simultaneous detection and segmentation)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.metrics.objects import ImageObjects, in_order, observe_objects, unpack
from jaxseg.ops import rle
from jaxseg.ops.paste import PasteRule
from jaxseg.types import Figure

Rule = Literal["area", "11 points"]
"""How precision is averaged over recall: its area (VOC from 2010 on), or the mean at 0, 0.1, ..., 1 (VOC 2007)."""


@dataclass(frozen=True)
class VocAP:
    """Average precision of boxes as PASCAL VOC defines it: ``voc_ap``, the mean over classes, and ``voc_ap/CLASS``.

    Detections are taken by falling score. Each is compared with the true box of its class and image that it overlaps
    most, and is right if the IoU exceeds the threshold and no detection has matched that box before. Difficult objects
    and crowds count for nothing, whether they are matched or not. Classes without other objects are left out.

    Attributes:
      classes: names of the things that ``classes`` index.
      rule: how precision is averaged over recall.
      threshold: IoU above which a detection is right.
      inclusive: take x1 and y1 for the last pixel of a box instead of the edge behind it, and so add 1 to each side, as
        the development kit does to its own files. Half-open boxes give its numbers without.

    >>> truth = {"boxes": [[[2.0, 2, 12, 22]]], "classes": [[1]], "valid": [[True]]}
    >>> truth = {key: jnp.asarray(value) for key, value in truth.items()}
    >>> metric = VocAP(("cat", "dog"))
    >>> metric.result(metric.fold(metric.init(), metric.observe({**truth, "scores": jnp.asarray([[0.9]])}, truth)))
    {'voc_ap': 1.0, 'voc_ap/dog': 1.0}

    Raises:
      BadInput: an unknown rule.

    Reference: Everingham et al. 2010, *The PASCAL visual object classes (VOC) challenge*, section 4.2.
    """

    classes: tuple[str, ...]
    rule: Rule = "area"
    threshold: float = 0.5
    inclusive: bool = False

    def __post_init__(self):
        _check(self.rule)

    def init(self) -> list[ImageObjects]:
        """Return no images."""
        return []

    def observe(self, predictions: Any, batch: Any) -> dict[str, Any]:
        """Return the slots of what was found and of the truth."""
        return observe_objects(predictions, batch)

    def fold(self, state: list[ImageObjects], observation: Any) -> list[ImageObjects]:
        """Append the objects of the real rows."""
        return state + unpack(observation)

    def result(self, state: list[ImageObjects]) -> dict[str, float]:
        """Return the figures, fractions of 1."""
        extra = float(self.inclusive)

        def overlap(image: ImageObjects) -> np.ndarray:
            return box_iou(image.found.boxes, image.true.boxes, extra)

        return _by_class("voc_ap", self.classes, self.rule, hits(state, overlap, self.threshold, strict=True))

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figure, a fraction of 1."""
        text = (
            f"Mean over classes of the average precision ({self.rule}); a detection is right where its box overlaps a "
            f"true one, not yet found, by an IoU above {self.threshold:g}."
        )
        return (Figure("voc_ap", f"VOC AP at IoU {self.threshold:g}", "%", definition=text),)


@dataclass(frozen=True)
class MaskAPr:
    """mAP^r of simultaneous detection and segmentation: VOC's average precision with the IoU of masks.

    ``mask_apr50`` and ``mask_apr70`` are means over classes at IoU 0.5 and 0.7, ``mask_apr50/CLASS`` those of a class.
    A detection is right if its IoU is at least the threshold; see :class:`VocAP` for the rest, and
    ``CocoMasks`` for where masks are compared.

    Attributes:
      classes: names of the things that ``classes`` index.
      thresholds: of the IoU.
      rule: how precision is averaged over recall; published numbers have "11 points".
      paste: how masks come into the image, see :func:`jaxseg.ops.paste.paste_window`.

    >>> truth = {"boxes": [[[0.0, 0, 8, 8]]], "classes": [[0]], "valid": [[True]]}
    >>> truth = {key: jnp.asarray(value) for key, value in truth.items()}
    >>> ids = jnp.zeros((1, 16, 16), jnp.uint16).at[:, :8, :5].set(1)
    >>> metric = MaskAPr(("cat",), paste="detectron2")
    >>> found = {**truth, "scores": jnp.asarray([[0.9]]), "masks": jnp.ones((1, 1, 4, 4))}
    >>> result = metric.result(metric.fold(metric.init(), metric.observe(found, {**truth, "instance_ids": ids})))
    >>> round(result["mask_apr50"], 6), result["mask_apr70"]
    (1.0, 0.0)

    Reference: Hariharan et al. 2014, *Simultaneous detection and segmentation*.
    """

    classes: tuple[str, ...]
    thresholds: tuple[float, ...] = (0.5, 0.7)
    rule: Rule = "11 points"
    paste: PasteRule = "torchvision"

    def __post_init__(self):
        _check(self.rule)

    def init(self) -> list[ImageObjects]:
        """Return no images."""
        return []

    def observe(self, predictions: Any, batch: Any) -> dict[str, Any]:
        """Return the slots of what was found and of the truth, box-relative masks, and the true masks as they come."""
        return observe_objects(predictions, batch, masks=True)

    def fold(self, state: list[ImageObjects], observation: Any) -> list[ImageObjects]:
        """Paste the masks of the real rows and append their objects."""
        return state + unpack(observation, masks=True, rule=self.paste)

    def result(self, state: list[ImageObjects]) -> dict[str, float]:
        """Return the figures, fractions of 1."""
        done: dict[str, float] = {}
        for threshold in self.thresholds:
            found = hits(state, _mask_overlap, threshold, strict=False)
            done |= _by_class(_apr(threshold), self.classes, self.rule, found)
        return done

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        text = (
            "Mean over classes of the average precision; a detection is right where the IoU of its mask is at least {}."
        )
        return tuple(
            Figure(_apr(t), f"mAP^r at IoU {t:g}", "%", definition=text.format(f"{t:g}")) for t in self.thresholds
        )


Hits = dict[int, tuple[np.ndarray, int]]
"""For each class: of the detections that count, by falling score, which are right; and the number of true objects."""


def hits(
    images: list[ImageObjects], overlap: Callable[[ImageObjects], np.ndarray], threshold: float, *, strict: bool
) -> Hits:
    """Match detections to the truth, VOC's way.

    Args:
      images: in any order; those with an index are sorted by it, so that ties of scores are always broken alike.
      overlap: gives the IoU ``[found true]`` of an image.
      threshold: of the IoU.
      strict: whether the IoU must exceed it.

    >>> from jaxseg.metrics.objects import Objects
    >>> no = np.zeros(1, bool)
    >>> cat = Objects(np.asarray([[0.0, 0, 4, 4]]), np.asarray([0]), np.asarray([0.9]), crowd=no, difficult=no)
    >>> image = ImageObjects(0, (8, 8), cat, cat)
    >>> right, number = hits([image], lambda image: np.ones((1, 1)), 0.5, strict=True)[0]
    >>> right.tolist(), number
    ([True], 1)
    """
    images = in_order(images)
    overlaps = [overlap(image) for image in images]
    classes = np.unique(np.concatenate([np.zeros(0, int), *(image.true.classes for image in images)]))
    done: Hits = {}
    for k in classes.tolist():
        ignored = [image.true.difficult | image.true.crowd for image in images]
        number = sum(int(((im.true.classes == k) & ~skip).sum()) for im, skip in zip(images, ignored, strict=True))
        where = [(i, n) for i, image in enumerate(images) for n in np.flatnonzero(image.found.classes == k).tolist()]
        scores = np.asarray([images[i].found.scores[n] for i, n in where])
        taken = [np.zeros(len(skip), bool) for skip in ignored]
        right: list[bool] = []
        for at in np.argsort(-scores, kind="stable").tolist():
            i, n = where[at]
            candidates = np.flatnonzero(images[i].true.classes == k)
            best = overlaps[i][n, candidates]
            place = candidates[best.argmax()] if len(candidates) else -1
            iou = best.max(initial=-1.0)
            if not (iou > threshold or (iou == threshold and not strict)):
                right.append(False)
            elif not ignored[i][place]:
                right.append(not taken[i][place])
                taken[i][place] = True
        done[k] = np.asarray(right, bool), number
    return done


def average_precision(right: np.ndarray, number: int, rule: Rule) -> float:
    """Return the average precision of detections that are right or wrong, by falling score.

    >>> average_precision(np.asarray([True, False, True]), 2, "area")
    0.8333333333333333
    >>> round(average_precision(np.asarray([True, False, True]), 2, "11 points"), 4)
    0.8485

    Args:
      right: bool[n].
      number: of true objects.
      rule: how precision is averaged over recall.

    Raises:
      BadInput: an unknown rule.
    """
    _check(rule)
    found = np.cumsum(right)
    recall = found / number
    precision = found / np.arange(1, len(right) + 1)
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or more
    if rule == "area":
        return float((np.diff(recall, prepend=0.0) * ceiling).sum())
    at = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1))
    return float(np.append(ceiling, 0.0)[at].sum() / 11)


def box_iou(first: np.ndarray, second: np.ndarray, extra: float = 0.0) -> np.ndarray:
    """Return the IoU of boxes ``[n 4]`` with boxes ``[m 4]``, f64[n m]; ``extra`` is added to every side.

    >>> box_iou(np.asarray([[0, 0, 1, 1]]), np.asarray([[0, 0, 1, 3]])).tolist()
    [[0.3333333333333333]]
    """
    side = lambda boxes: np.maximum(boxes[..., 2:] - boxes[..., :2] + extra, 0)  # noqa: E731
    pairs = (first[:, None], second[None])
    low, high = (rule(*(boxes[..., part] for boxes in pairs)) for rule, part in _CORNERS)
    common = side(np.concatenate([low, high], -1)).prod(-1)
    whole = side(first).prod(-1)[:, None] + side(second).prod(-1)[None] - common
    return np.where(common > 0, common / np.where(whole > 0, whole, 1), 0.0)


_CORNERS = ((np.maximum, slice(0, 2)), (np.minimum, slice(2, 4)))


def _mask_overlap(image: ImageObjects) -> np.ndarray:
    found, true = ([rle.from_string(text, *image.size) for text in side.masks] for side in (image.found, image.true))
    return rle.iou(found, true)


def _apr(threshold: float) -> str:
    return f"mask_apr{round(100 * threshold)}"


def _by_class(name: str, classes: tuple[str, ...], rule: Rule, found: Hits) -> dict[str, float]:
    each = {
        classes[k]: average_precision(right, number, rule) for k, (right, number) in sorted(found.items()) if number
    }
    mean = {name: float(np.mean(list(each.values())))} if each else {}
    return mean | {f"{name}/{label}": value for label, value in each.items()}


def _check(rule: str) -> None:
    if rule not in ("area", "11 points"):
        raise BadInput(f"precision is not averaged by {rule!r}; the rules are 'area' and '11 points'")
