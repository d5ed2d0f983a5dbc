"""Instance segmentation: find every object's box, class and mask."""

from dataclasses import dataclass
from typing import Literal

from jax import Array
from typing_extensions import override

from jaxseg.errors import BadInput
from jaxseg.metrics import CocoMasks, MaskAPr
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.regions import mask_term
from jaxseg.tasks.table import for_models


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

    >>> list(Instance(2).metrics())
    ['boxes', 'masks']
    """

    mask_targets: Literal["soft", "binary"] = "soft"
    paste: Literal["torchvision", "detectron2"] = "torchvision"
    mask_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        if self.mask_targets not in ("soft", "binary"):
            raise BadInput(f"mask_targets are 'soft' or 'binary', not {self.mask_targets!r}")
        if self.paste not in ("torchvision", "detectron2"):
            raise BadInput(f"masks are pasted as 'torchvision' or 'detectron2' does it, not {self.paste!r}")

    @override
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the terms of both stages, and ``masks``."""
        regions = self.regions(outputs, batch)
        classes = self._outputs_of(batch["classes"])
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
