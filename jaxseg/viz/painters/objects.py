"""Objects: boxes with class and score, instance masks, keypoints; a list of what was found."""

from typing import Any

import numpy as np
from typing_extensions import override

from jaxseg.viz.masks import instance_maps
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


@painter("masks", "boxes", uses=("scores", "valid", "instance_ids"), name="instances")
class Instances(Painter):
    """A film of its own colour over each object, and ``instance_ids``: 1 + slot of the object in front, 16 bits."""

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        return draw_instances(image, *_ids(image, predictions))

    @override
    def draw(self, image: np.ndarray, predictions: Arrays, facts: Any) -> Pictures:
        front, hidden = _ids(image, predictions)
        return {"instances": draw_instances(image, front, hidden), "instance_ids": encode(front)}

    @override
    def truth(self, batch: Arrays) -> Arrays | None:
        if "instance_ids" not in batch:
            return None
        return {key: batch[key] for key in ("instance_ids", "hidden_ids") if key in batch}


@painter("keypoints", uses=("boxes", "scores", "valid"))
class Keypoints(Painter):
    """Joints and limbs in the object's colour; ``keypoints``, by the joint's name x, y and score of each object.

    The limbs are those of ``Facts.skeleton``. Predicted joints are drawn where their score is positive; of the truth
    hidden joints are rings.
    """

    @override
    def paint(self, image: np.ndarray, predictions: Arrays, facts: Any) -> np.ndarray:
        points = predictions["keypoints"].copy()
        if "scores" in predictions:
            points[..., 2] = np.where(points[..., 2] > 0, 2, 0)
        return draw_boxes(
            image,
            predictions.get("boxes", np.zeros((len(points), 4))),
            valid=predictions.get("valid"),
            keypoints=points,
            skeleton=_limbs(facts),
            zoom=_zoom(image),
        )

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


def _limbs(facts: Any) -> list[tuple[int, int]]:
    """Return the skeleton by the joints' numbers."""
    return [(facts.joints.index(a), facts.joints.index(b)) for a, b in facts.skeleton]


def _zoom(image: np.ndarray) -> int:
    """Return the whole factor that brings a small image to :data:`LEGIBLE` pixels."""
    return max(1, -(-LEGIBLE // max(1, min(image.shape[:2]))))


def _ids(image: np.ndarray, predictions: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of objects in front and behind: the truth's own, those of tiles, or of pasted masks."""
    if "instance_ids" not in predictions:
        scores, valid = predictions.get("scores"), predictions.get("valid")
        return instance_maps(predictions["masks"], predictions["boxes"], image.shape[:2], scores=scores, valid=valid)
    front = predictions["instance_ids"]
    if "valid" in predictions:
        front = np.where(np.concatenate([[False], predictions["valid"]])[front], front, 0).astype(np.uint16)
    return front, predictions.get("hidden_ids", np.zeros_like(front))
