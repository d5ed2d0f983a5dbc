"""Instance segmentation: find every object's box, class and mask."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

from jax import Array
from typing_extensions import override

from jaxseg.errors import BadInput
from jaxseg.metrics import CocoMasks, MaskAPr
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.fcis import FCISLoss
from jaxseg.tasks.mnc import MNCLoss
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS, Regions, mask_term, proposal_terms
from jaxseg.tasks.table import for_models


@runtime_checkable
class JointLoss(Protocol):
    """Loss of a network whose boxes, classes and masks are no separate heads on the regions."""

    def terms(self, outputs: Outputs, batch: Batch, regions: Regions, classes: Array) -> dict[str, Term]:
        """Return the parts of the loss by name, but for those of the proposal network.

        Args:
          outputs: of the network in training.
          batch: the truth.
          regions: the sampled regions, matched with the objects.
          classes: i32[b n], the network's output for each object, background not counted.
        """
        ...


JOINT: Mapping[str, JointLoss] = {"fcis": FCISLoss(), "mnc": MNCLoss()}
"""By the name that a network has for it."""


@runtime_checkable
class NamesLoss(Protocol):
    """A network that is trained with a loss of :data:`JOINT`."""

    @property
    def loss(self) -> str:
        """Its name."""
        ...


@for_models("instance")
@dataclass(frozen=True)
class Instance(Detection):
    """Detect objects and their masks, with a network that returns ``masks`` within the boxes.

    With ``evaluation`` other than COCO's, masks have VOC's mAP^r.

    Attributes:
      mask_targets: ``"soft"``, the share of each cell that the object covers (torchvision), or ``"binary"`` by a half
        (detectron2).
      paste: how masks are put on the image, in either one's way, where they are evaluated.
      mask_weight: factor of the mask loss.
      joint_loss: in place of ``region_loss`` and the mask loss, for networks that have it (FCIS, MNC).

    >>> list(Instance(2).metrics())
    ['boxes', 'masks']
    """

    mask_targets: Literal["soft", "binary"] = "soft"
    paste: Literal["torchvision", "detectron2"] = "torchvision"
    mask_weight: float = 1.0
    joint_loss: JointLoss | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.mask_targets not in ("soft", "binary"):
            raise BadInput(f"mask_targets are 'soft' or 'binary', not {self.mask_targets!r}")
        if self.paste not in ("torchvision", "detectron2"):
            raise BadInput(f"masks are pasted as 'torchvision' or 'detectron2' does it, not {self.paste!r}")

    @classmethod
    @override
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Instance":
        """Return the task of a model, with its own loss and masks pasted as its authors do."""
        task = super().for_model(model, classes)
        assert isinstance(task, Instance)
        if not isinstance(model, NamesLoss):
            return task
        proposal_loss = FASTER_RCNN_PROPOSAL_LOSS
        return replace(task, joint_loss=JOINT[model.loss], proposal_loss=proposal_loss, paste="detectron2")

    @override
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the terms of both stages, and ``masks``."""
        regions = self.regions(outputs, batch)
        classes = self._outputs_of(batch["classes"])
        if self.joint_loss is not None:
            self._check_outputs(outputs["roi_logits"].shape[-1] - 1)
            proposals = proposal_terms(outputs, batch, self.proposal_loss)
            return {**proposals, **self.joint_loss.terms(outputs, batch, regions, classes)}
        masks = mask_term(outputs, batch, regions, classes, targets=self.mask_targets)
        return {**self._staged(outputs, batch, regions), "masks": masks._replace(weight=self.mask_weight)}

    @override
    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return what :class:`Detection` returns, and ``masks``, probabilities within the boxes."""
        return {**super().predict(outputs, batch), "masks": outputs["masks"]}

    @override
    def metrics(self) -> dict[str, Metric]:
        """Return the average precision of the boxes and of the masks."""
        return {**super().metrics(), "masks": self._masks()}

    def _masks(self) -> Metric:
        if self.evaluation == "coco":
            return CocoMasks(self.names, paste=self.paste, max_detections=self.max_detections)
        return MaskAPr(self.names, rule="area" if self.evaluation == "voc" else "11 points", paste=self.paste)
