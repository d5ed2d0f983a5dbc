"""Object detection: find every object's box and class."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.metrics import CocoBoxes, VocAP
from jaxseg.tasks.anchors import AnchorLoss, CountsClasses, NamesItsLoss, OneStageLoss
from jaxseg.tasks.grid import YOLOv1Loss, YOLOv3Loss
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.regions import (
    STAGE_LOSSES,
    ProposalLoss,
    RegionLoss,
    Regions,
    proposal_terms,
    region_terms,
    targets_of,
)
from jaxseg.tasks.table import for_models

NO_CLASS = ("N/A", "__background__")
"""Names, in the tables of published weights, of outputs that stand for no class."""

ONE_STAGE_LOSSES: dict[str, OneStageLoss] = {
    "multibox": MultiboxLoss(),
    "multibox_sigmoid": MultiboxLoss(forced="best", scores="sigmoid"),
}
"""Losses by the names that networks tell."""


def named_loss(model: Any) -> OneStageLoss | None:
    """Return the loss that a one-stage network names; None where its outputs tell enough.

    >>> named_loss(None) is None
    True
    """
    return ONE_STAGE_LOSSES[model.natural_loss] if isinstance(model, NamesItsLoss) else None


@for_models("detection")
@dataclass(frozen=True)
class Detection:
    """Detect objects, with any network that returns boxes in slots.

    In training a two-stage network samples regions by the boxes, and the losses of both its stages are taken; a
    one-stage network returns the scores of all its anchors.

    Attributes:
      num_classes: outputs of the network, background not counted.
      classes: names of the classes, for reports.
      unused: outputs that stand for no class, as ten of torchvision's 90 on COCO do. Objects and predictions are
        numbered without them.
      proposal_loss: of a two-stage network's first stage.
      region_loss: of its second stage.
      anchor_loss: of a one-stage network; None takes its paper's, by what it returns.
      max_detections: the best so many of each image and class count in COCO's AP; where there are more objects, more.
      evaluation: COCO's AP, or VOC's: ``"voc"`` is the area under the curve, ``"voc2007"`` the mean of 11 points.

    >>> task = Detection(3, unused=(1,))
    >>> found = {"boxes": jnp.zeros((1, 2, 4)), "scores": jnp.ones((1, 2)), "valid": jnp.ones((1, 2), bool)}
    >>> predictions = task.predict({**found, "classes": jnp.asarray([[2, 1]])}, {})
    >>> predictions["classes"].tolist(), predictions["valid"].tolist()
    ([[1, 0]], [[True, False]])
    """

    num_classes: int
    classes: tuple[str, ...] = ()
    unused: tuple[int, ...] = ()
    proposal_loss: ProposalLoss = ProposalLoss()
    region_loss: RegionLoss = RegionLoss()
    anchor_loss: OneStageLoss | None = None
    max_detections: int = 100
    evaluation: Literal["coco", "voc", "voc2007"] = "coco"

    def __post_init__(self):
        if len(set(self.unused)) < len(self.unused) or not set(self.unused) <= set(range(self.num_classes)):
            raise BadInput(f"unused outputs are numbers from 0 to {self.num_classes - 1}, each once, not {self.unused}")
        if self.classes and len(self.classes) != self.num_things:
            raise BadInput(
                f"{len(self.classes)} class names for {self.num_classes} outputs, {len(self.unused)} of them unused: "
                f"give {self.num_things} names or none"
            )
        if self.evaluation not in ("coco", "voc", "voc2007"):
            raise BadInput(f"evaluation is 'coco', 'voc' or 'voc2007', not {self.evaluation!r}")

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Detection":
        """Return the task of a model whose outputs have these names, ``N/A`` those that stand for no class."""
        unused = tuple(i for i, name in enumerate(classes) if name in NO_CLASS)
        names = tuple(name for name in classes if name not in NO_CLASS)
        losses = STAGE_LOSSES[model.coding] if hasattr(model, "coding") else {}
        return cls(len(classes), names, unused, anchor_loss=named_loss(model), **losses)

    @property
    def num_things(self) -> int:
        """Number of classes that objects have."""
        return self.num_classes - len(self.unused)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, numbers where none are known."""
        return self.classes or tuple(str(i) for i in range(self.num_things))

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image, the part that is no padding and proposals where the batch has them; in training objects."""
        given = {key: batch[key] for key in ("image", "size", "proposals", "proposal_valid") if key in batch}
        return {**given, "targets": targets_of(batch)} if train else given

    def check_facts(self, facts: Any) -> None:
        """Raise if the objects of the data set have other classes.

        Raises:
          BadInput: so it is; both counts, or the first name that differs, are told.
        """
        known = tuple(facts.things)
        if not known:
            raise BadInput(f"data set {facts.name!r} has no objects, only label maps: choose one with objects")
        if len(known) != self.num_things:
            raise BadInput(
                f"the task has {self.num_things} classes of objects, but data set {facts.name!r} has {len(known)}: "
                f"set num_classes of task and model to {len(known)}"
            )
        for ours, theirs in zip(self.classes, known, strict=False):
            if ours != theirs:
                raise BadInput(
                    f"the task's class {ours!r} is {theirs!r} in data set {facts.name!r}: "
                    "give the task the data set's names, in its order"
                )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return two terms for each stage, or those of the one stage."""
        if "roi_logits" in outputs:
            return self._staged(outputs, batch, self.regions(outputs, batch))
        how = natural_loss(outputs) if self.anchor_loss is None else self.anchor_loss
        if isinstance(how, CountsClasses):
            self._check_outputs(how.classes_of(outputs))
        real = {"real": batch["real"]} if "real" in batch else {}
        targets = {**targets_of(batch), "classes": self._outputs_of(batch["classes"]), **real}
        return how.terms(outputs, targets)

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``boxes``, ``scores``, ``classes`` and ``valid``, best first."""
        numbers = np.zeros(self.num_classes, np.int32)
        numbers[self._used()] = np.arange(self.num_things)
        known = jnp.asarray(np.isin(np.arange(self.num_classes), self._used()))[outputs["classes"]]
        return {
            "boxes": outputs["boxes"],
            "scores": outputs["scores"],
            "classes": jnp.where(outputs["valid"] & known, jnp.asarray(numbers)[outputs["classes"]], 0),
            "valid": outputs["valid"] & known,
        }

    def metrics(self) -> dict[str, Metric]:
        """Return the average precision of the boxes."""
        if self.evaluation == "coco":
            return {"boxes": CocoBoxes(self.names, max_detections=self.max_detections)}
        return {"boxes": VocAP(self.names, rule="area" if self.evaluation == "voc" else "11 points")}

    def regions(self, outputs: Outputs, batch: Batch) -> Regions:
        """Return the sampled regions, matched with the objects again."""
        return Regions.of(outputs, batch, self.region_loss.overlap)

    def _staged(self, outputs: Outputs, batch: Batch, regions: Regions) -> dict[str, Term]:
        """Return the terms of both stages."""
        self._check_outputs(outputs["roi_logits"].shape[-1] - 1)
        classes = self._outputs_of(batch["classes"])
        proposing = proposal_terms(outputs, batch, self.proposal_loss) if "objectness" in outputs else {}
        return {
            **proposing,
            **region_terms(outputs, batch, regions, classes, self.region_loss),
        }

    def _used(self) -> list[int]:
        return [i for i in range(self.num_classes) if i not in self.unused]

    def _outputs_of(self, classes: Array) -> Array:
        """Return the network's output for each class."""
        return jnp.asarray(np.asarray(self._used(), np.int32))[jnp.clip(classes, 0, self.num_things - 1)]

    def _check_outputs(self, found: int) -> None:
        """Raise, while tracing, if the network has another number of classes than the task."""
        if found != self.num_classes:
            raise BadInput(
                f"the network has outputs for {found} classes, but the task for {self.num_classes}: "
                f"set the model's num_classes to {self.num_classes}"
            )


def natural_loss(outputs: Outputs) -> OneStageLoss:
    """Return the loss that the paper of a one-stage network has, by what the network returns in training.

    >>> natural_loss({"cell_logits": jnp.zeros((1, 7, 7, 20))})
    YOLOv1Loss(coordinates=5.0, no_object=0.5, least=0.005, weight=1.0)
    """
    if "cell_logits" in outputs:
        return YOLOv1Loss()
    return YOLOv3Loss() if "cells" in outputs else AnchorLoss()
