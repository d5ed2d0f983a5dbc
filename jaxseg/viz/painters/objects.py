"""Objects: boxes with class and score, instance masks, keypoints; a list of what was found."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.masks import instance_map
from jaxseg.viz.objects import draw_boxes, draw_instances
from jaxseg.viz.painter import Arrays, Painter, Pictures, painter
from jaxseg.viz.palettes import class_name
from jaxseg.viz.png import encode

LEGIBLE = 256
"""A smaller image is enlarged by a whole factor to at least so many pixels, so that words on it can be read."""


@painter("boxes", uses=("classes", "scores", "valid"))
class Boxes(Painter):
    """Frames with class and score; ``objects``, a list in the order of the slots."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return draw_boxes(
            image,
            predictions["boxes"],
            classes=predictions.get("classes"),
            names=_names(facts),
            scores=predictions.get("scores"),
            valid=predictions.get("valid"),
            zoom=_zoom(image),
        )

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        rows = []
        for slot in _slots(predictions):
            row: dict[str, Any] = {"slot": slot}
            if "classes" in predictions:
                number = int(predictions["classes"][slot])
                row |= {"class": number, "name": class_name(_names(facts), number)}
            if "scores" in predictions:
                row["score"] = float(predictions["scores"][slot])
            rows.append({**row, "box": [float(x) for x in predictions["boxes"][slot]]})
        return {"objects": rows}

    @override
    def summarize(self, predictions: Arrays, facts: Any) -> str:
        rows = self.describe(predictions, facts)["objects"]
        counts: dict[str, int] = {}
        for row in rows:
            name = row.get("name", "object")
            counts[name] = counts.get(name, 0) + 1
        return ", ".join(f"{count} {name}" for name, count in counts.items()) or "no object"


@painter("masks", "boxes", uses=("scores", "valid"), name="instances")
class Instances(Painter):
    """A film of its own colour over each object, and ``instance_ids``: 1 + slot of the object in front, 16 bits."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return draw_instances(image, _ids(image, predictions))

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        ids = _ids(image, predictions)
        return {"instances": draw_instances(image, ids), "instance_ids": encode(ids)}

    @override
    def truth(self, batch: Arrays) -> Arrays | None:
        return {"instance_ids": batch["instance_ids"]} if "instance_ids" in batch else None


@painter("keypoints", uses=("boxes", "valid"))
class Keypoints(Painter):
    """Discs in the object's colour; ``keypoints``, by the joint's name x, y and score of each object."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        points = predictions["keypoints"].copy()
        points[..., 2] = np.where(points[..., 2] > 0, 2, 0)
        boxes = predictions.get("boxes", np.zeros((len(points), 4)))
        return draw_boxes(image, boxes, valid=predictions.get("valid"), keypoints=points, zoom=_zoom(image))

    @override
    def describe(self, predictions: Arrays, facts: Any) -> dict[str, Any]:
        rows = []
        for slot in _slots({**predictions, "boxes": predictions["keypoints"]}):
            points = predictions["keypoints"][slot].tolist()
            rows.append({"slot": slot, "joints": {class_name(facts.joints, j): xys for j, xys in enumerate(points)}})
        return {"keypoints": rows}


def _slots(predictions: Arrays) -> list[int]:
    """Return the numbers of the slots that hold an object."""
    count = len(predictions["boxes"])
    return np.flatnonzero(predictions.get("valid", np.ones(count, bool))).tolist()


def _names(facts: Any) -> tuple[str, ...]:
    """Return the names of the classes that objects index."""
    return facts.things


def _zoom(image: np.ndarray) -> int:
    """Return the whole factor that brings a small image to :data:`LEGIBLE` pixels."""
    return max(1, -(-LEGIBLE // max(1, min(image.shape[:2]))))


def _ids(image: np.ndarray, predictions: Arrays) -> np.ndarray:
    """Return the map of objects: predicted, or the truth's own."""
    if "instance_ids" in predictions:
        return predictions["instance_ids"]
    scores, valid = predictions.get("scores"), predictions.get("valid")
    return instance_map(predictions["masks"], predictions["boxes"], image.shape[:2], scores=scores, valid=valid)
