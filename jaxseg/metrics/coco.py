"""COCO's average precision of boxes, masks and keypoints, by the official evaluation.

The evaluator is hotcoco, which gives the numbers of pycocotools bit for bit in a fraction of the time. Where it cannot
be imported, pycocotools takes its place.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.metrics.objects import ImageObjects, Objects, in_order, observe_objects, unpack
from jaxseg.ops.paste import PasteRule
from jaxseg.types import Figure

Kind = Literal["bbox", "segm", "keypoints"]
"""What is compared, in the evaluator's words."""

SIGMAS = tuple(
    s / 1000 for s in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
)  # nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles
"""How far people are apart about each of COCO's 17 joints, as a share of an object's size."""

SIGMA = 0.05
"""The same of joints about which nothing is known."""


@dataclass(frozen=True)
class CocoBoxes:
    """Average precision of boxes, COCO's twelve numbers and the precision of each class.

    ``box_ap`` is the mean over IoU thresholds 0.5, 0.55, ..., 0.95 and classes, ``box_ap50`` and ``box_ap75`` that of
    one threshold, ``box_ap_small`` (below 32^2 pixels), ``_medium`` and ``_large`` (from 96^2) those of objects of a
    size; ``box_ar1``, ``box_ar10``, ``box_ar100`` the recall by so many detections an image, and ``box_ar_small``, ...
    Crowds are matched any number of times and count for nothing. Figures without a true object are left out.

    Sizes are those of ``area``, else of masks in ``instance_ids`` or ``rle``, else of boxes, in pixels of the image as
    it was read where the batch has ``original_size`` and ``size``.

    Attributes:
      classes: names of the things that ``classes`` index.
      max_detections: the best so many of each image and class count; COCO's is 100.

    >>> truth = {"boxes": [[[2.0, 2, 12, 22]]], "classes": [[1]], "valid": [[True]]}
    >>> truth = {key: jnp.asarray(value) for key, value in truth.items()}
    >>> metric = CocoBoxes(("cat", "dog"))
    >>> seen = metric.observe({**truth, "scores": jnp.asarray([[0.9]])}, truth)
    >>> result = metric.result(metric.fold(metric.init(), seen))
    >>> round(result["box_ap"], 3), round(result["box_ap/dog"], 3), "box_ap/cat" in result, "box_ap_large" in result
    (1.0, 1.0, False, False)

    Reference: Lin et al. 2014, *Microsoft COCO: common objects in context*; https://cocodataset.org/#detection-eval.
    """

    classes: tuple[str, ...]
    max_detections: int = 100

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
        tables = evaluate_coco(state, self.classes, "bbox", _counts(self.max_detections))
        return _figures(tables, "box", self.classes, _counts(self.max_detections))

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        return _described("box", _counts(self.max_detections))


@dataclass(frozen=True)
class CocoMasks:
    """Average precision of masks: as :class:`CocoBoxes`, but the IoU is that of masks; figures ``mask_ap``, ...

    With ``rle`` and ``original_size`` in the batch, masks are pasted into the image as it was read and compared with
    the exact truth there; otherwise on the canvas with ``instance_ids`` and ``hidden_ids``.

    Attributes:
      classes: names of the things that ``classes`` index.
      max_detections: the best so many of each image and class count; COCO's is 100.
      paste: how masks come into the image, see :func:`jaxseg.ops.paste.paste_window`.

    >>> truth = {"boxes": [[[0.0, 0, 8, 8]]], "classes": [[0]], "valid": [[True]]}
    >>> truth = {key: jnp.asarray(value) for key, value in truth.items()}
    >>> ids = jnp.zeros((1, 16, 16), jnp.uint16).at[:, :8, :8].set(1)
    >>> metric = CocoMasks(("cat",), paste="detectron2")
    >>> found = {**truth, "scores": jnp.asarray([[0.9]]), "masks": jnp.ones((1, 1, 4, 4))}
    >>> seen = metric.observe(found, {**truth, "instance_ids": ids})
    >>> round(metric.result(metric.fold(metric.init(), seen))["mask_ap"], 3)
    1.0
    """

    classes: tuple[str, ...]
    max_detections: int = 100
    paste: PasteRule = "torchvision"

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
        tables = evaluate_coco(state, self.classes, "segm", _counts(self.max_detections))
        return _figures(tables, "mask", self.classes, _counts(self.max_detections))

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        return _described("mask", _counts(self.max_detections))


@dataclass(frozen=True)
class CocoKeypoints:
    """Average precision of keypoints by object keypoint similarity, COCO's ten numbers: ``keypoint_ap``, ...

    The similarity of two objects is the mean of ``exp(-d^2 / (8 sigma^2 area))`` over the joints that are annotated.
    Objects without annotated joints count for nothing. There are no figures of small objects.

    Attributes:
      classes: names of the things that ``classes`` index.
      joints: names of the joints.
      sigmas: of each joint; empty for COCO's, if there are 17 joints, and 0.05 for each of others.
      max_detections: the best so many of each image and class count; COCO's is 20.

    >>> truth = {"boxes": [[[0.0, 0, 40, 40]]], "classes": [[0]], "valid": [[True]], "keypoints": [[[[5.0, 5, 2]]]]}
    >>> truth = {key: jnp.asarray(value) for key, value in truth.items()}
    >>> metric = CocoKeypoints(("cat",), ("nose",))
    >>> seen = metric.observe({**truth, "scores": jnp.asarray([[0.9]])}, truth)
    >>> round(metric.result(metric.fold(metric.init(), seen))["keypoint_ap"], 3)
    1.0

    Raises:
      BadInput: not one sigma for each joint.

    Reference: https://cocodataset.org/#keypoints-eval.
    """

    classes: tuple[str, ...]
    joints: tuple[str, ...]
    sigmas: tuple[float, ...] = ()
    max_detections: int = 20

    def __post_init__(self):
        if self.sigmas and len(self.sigmas) != len(self.joints):
            raise BadInput(f"{len(self.sigmas)} sigmas for {len(self.joints)} joints; give one for each, or none")

    def init(self) -> list[ImageObjects]:
        """Return no images."""
        return []

    def observe(self, predictions: Any, batch: Any) -> dict[str, Any]:
        """Return the slots of what was found and of the truth, with their keypoints."""
        return observe_objects(predictions, batch, keypoints=True)

    def fold(self, state: list[ImageObjects], observation: Any) -> list[ImageObjects]:
        """Append the objects of the real rows."""
        return state + unpack(observation)

    def result(self, state: list[ImageObjects]) -> dict[str, float]:
        """Return the figures, fractions of 1."""
        coco = len(self.joints) == len(SIGMAS)
        sigmas = self.sigmas or (SIGMAS if coco else (SIGMA,) * len(self.joints))
        tables = evaluate_coco(state, self.classes, "keypoints", (self.max_detections,), sigmas)
        return _figures(tables, "keypoint", self.classes, (self.max_detections,))

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        return _described("keypoint", (self.max_detections,))


def evaluate_coco(
    images: list[ImageObjects],
    classes: tuple[str, ...],
    kind: Kind,
    max_detections: tuple[int, ...],
    sigmas: tuple[float, ...] = SIGMAS,
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision [t r k a m] and recall [t k a m] as the official evaluator accumulates them, -1 where undefined.

    Axes: 10 IoU thresholds, 101 recalls, classes, ranges of area, numbers of detections.

    Args:
      images: in any order; those with an index are sorted by it.
      classes: names.
      kind: what is compared.
      max_detections: numbers of detections of an image and class that are looked at, rising.
      sigmas: of the joints.

    >>> precision, recall = evaluate_coco([], ("cat",), "bbox", (1, 10, 100))
    >>> precision.shape, recall.shape, float(recall.max())
    ((10, 101, 1, 4, 3), (10, 1, 4, 3), -1.0)
    """
    images = in_order(images)
    info = {
        "info": {},
        "images": [{"id": i, "height": im.size[0], "width": im.size[1]} for i, im in enumerate(images, 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, 1)],
    }
    make, evaluation = _evaluator()
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for which, row in (("true", _true), ("found", _found)):
            side = make()
            rows = [
                {"id": 0, "image_id": i, "category_id": int(objects.classes[n]) + 1, **row(objects, n, im.size, kind)}
                for i, im in enumerate(images, 1)
                for objects in [im.true if which == "true" else im.found]
                for n in range(len(objects.boxes))
            ]
            side.dataset = {**info, "annotations": [{**a, "id": number} for number, a in enumerate(rows, 1)]}
            side.createIndex()
            sides.append(side)
        judge = evaluation(*sides, kind)
        judge.params.maxDets = list(max_detections)
        if kind == "keypoints":
            judge.params.kpt_oks_sigmas = np.asarray(sigmas)
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"]), np.asarray(judge.eval["recall"])


def _evaluator() -> tuple[Any, Any]:
    """Return the classes ``COCO`` and ``COCOeval``."""
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        try:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        except ImportError:
            raise BadInput("COCO's average precision needs hotcoco or pycocotools: pip install hotcoco") from None
    return COCO, COCOeval


def _true(objects: Objects, n: int, size: tuple[int, int], kind: Kind) -> dict[str, Any]:
    row = {
        "bbox": _bbox(objects.boxes[n]),
        "area": float(objects.area[n]),
        "iscrowd": int(objects.crowd[n]),
    }
    if kind == "segm":
        row["segmentation"] = {"size": list(size), "counts": objects.masks[n]}
    if kind == "keypoints":
        row["keypoints"] = objects.keypoints[n].ravel().tolist()
        row["num_keypoints"] = int((objects.keypoints[n, :, 2] > 0).sum())
    return row


def _found(objects: Objects, n: int, size: tuple[int, int], kind: Kind) -> dict[str, Any]:
    """As ``loadRes`` completes a result: its area is that of its box, its mask, or what its joints span."""
    box = _bbox(objects.boxes[n])
    row: dict[str, Any] = {"score": float(objects.scores[n]), "iscrowd": 0, "bbox": box, "area": box[2] * box[3]}
    if kind == "segm":
        row["segmentation"] = {"size": list(size), "counts": objects.masks[n]}
        row["area"] = float(objects.area[n])
    if kind == "keypoints":
        points = objects.keypoints[n]
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        row["keypoints"] = points.ravel().tolist()
        row["bbox"] = [*low.tolist(), *(high - low).tolist()]
        row["area"] = float((high - low).prod())
    return row


def _bbox(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _counts(max_detections: int) -> tuple[int, ...]:
    """The numbers of detections for which COCO gives a recall."""
    return (*(n for n in (1, 10) if n < max_detections), max_detections)


def _figures(
    tables: tuple[np.ndarray, np.ndarray], name: str, classes: tuple[str, ...], counts: tuple[int, ...]
) -> dict[str, float]:
    """Return the summary numbers and each class's precision, without those that nothing defines."""
    precision, recall = tables
    found = {f"{name}_ap": precision[..., 0, -1]}
    found |= {f"{name}_ap50": precision[0, ..., 0, -1], f"{name}_ap75": precision[5, ..., 0, -1]}
    sizes = ("medium", "large") if name == "keypoint" else ("small", "medium", "large")
    found |= {f"{name}_ap_{size}": precision[..., a, -1] for a, size in enumerate(sizes, 1)}
    if name == "keypoint":
        found |= {"keypoint_ar": recall[..., 0, -1]}
        found |= {"keypoint_ar50": recall[0, ..., 0, -1], "keypoint_ar75": recall[5, ..., 0, -1]}
    else:
        found |= {f"{name}_ar{count}": recall[..., 0, m] for m, count in enumerate(counts)}
    found |= {f"{name}_ar_{size}": recall[..., a, -1] for a, size in enumerate(sizes, 1)}
    found |= {f"{name}_ap/{label}": precision[:, :, k, 0, -1] for k, label in enumerate(classes)}
    known = {key: value[value > -1] for key, value in found.items()}
    return {key: float(np.mean(value)) for key, value in known.items() if value.size}


def _described(name: str, counts: tuple[int, ...]) -> tuple[Figure, ...]:
    sizes = ("medium", "large") if name == "keypoint" else ("small", "medium", "large")
    by = "OKS" if name == "keypoint" else "IoU"
    rows = [("ap", "AP"), ("ap50", f"AP at {by} 0.5"), ("ap75", f"AP at {by} 0.75")]
    rows += [(f"ap_{size}", f"AP of {size} objects") for size in sizes]
    if name == "keypoint":
        rows += [("ar", "recall"), ("ar50", "recall at OKS 0.5"), ("ar75", "recall at OKS 0.75")]
    else:
        rows += [(f"ar{n}", f"recall by {n} detection{'s' * (n > 1)}") for n in counts]
    rows += [(f"ar_{size}", f"recall of {size} objects") for size in sizes]
    overlap = {"box": "IoU of boxes", "mask": "IoU of masks", "keypoint": "object keypoint similarity"}[name]
    precision = "Area under the curve of precision over recall (101 points), mean over classes and, but for "
    precision += f"ap50 and ap75, over thresholds of the {overlap} from 0.5 to 0.95."
    recall = f"Largest recall, mean over classes and thresholds of the {overlap}."
    return tuple(
        Figure(f"{name}_{end}", f"{name} {title}", "%", definition=precision if end.startswith("ap") else recall)
        for end, title in rows
    )
