"""Keypoints: find every person's box and joints, or other objects with joints."""

from dataclasses import dataclass
from typing import Any

from jax import Array
from typing_extensions import override

from jaxseg.errors import BadInput
from jaxseg.metrics import CocoKeypoints
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.regions import keypoint_term
from jaxseg.tasks.table import for_models

COCO_JOINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow"),
    *("right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee"),
    *("left_ankle", "right_ankle"),
)
"""The joints of a person in COCO, in its order."""


@for_models("keypoints")
@dataclass(frozen=True)
class Keypoints(Detection):
    """Detect objects and their joints, with a network that returns ``keypoints``.

    Attributes:
      joints: names of the joints.
      keypoint_weight: factor of the keypoint loss.

    >>> list(Keypoints(1).metrics())
    ['boxes', 'keypoints']
    """

    joints: tuple[str, ...] = COCO_JOINTS
    keypoint_weight: float = 1.0

    @override
    def check_facts(self, facts: Any) -> None:
        """Raise if the objects of the data set have other classes or joints."""
        super().check_facts(facts)
        if tuple(facts.joints) != self.joints:
            raise BadInput(
                f"the task has {len(self.joints)} joints ({', '.join(self.joints[:3])}, ...), but data set "
                f"{facts.name!r} has {len(facts.joints)} ({', '.join(facts.joints[:3])}, ...)"
            )

    @override
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the terms of both stages, and ``keypoints``."""
        regions = self.regions(outputs, batch)
        points = keypoint_term(outputs, batch, regions)
        return {**self._staged(outputs, batch, regions), "keypoints": points._replace(weight=self.keypoint_weight)}

    @override
    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return what :class:`Detection` returns, and ``keypoints``: x, y, score."""
        return {**super().predict(outputs, batch), "keypoints": outputs["keypoints"]}

    @override
    def metrics(self) -> dict[str, Metric]:
        """Return the average precision of the boxes and of the keypoints."""
        return {**super().metrics(), "keypoints": CocoKeypoints(self.names, self.joints)}
