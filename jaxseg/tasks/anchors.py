"""Losses of one-stage detectors: what they are, and RetinaNet's.

Everything lies in fixed slots, one image at a time under ``vmap``, and comes back as sums and counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses import giou_loss, sigmoid_focal, smooth_l1
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.match import BETWEEN
from jaxseg.tasks.protocol import Outputs, Term
from jaxseg.tasks.regions import count_true, match_anchors, over_rows


@runtime_checkable
class OneStageLoss(Protocol):
    """Loss of a network that says for every anchor or cell what is there, and samples nothing.

    One that is also :class:`CountsClasses` lets the task refuse a network of another number of classes.
    """

    def terms(self, outputs: Outputs, targets: Mapping[str, Array]) -> dict[str, Term]:
        """Return the parts of the loss by name.

        Args:
          outputs: of the network in training.
          targets: ``boxes`` [b n 4], ``valid`` [b n], ``crowd`` [b n] and ``classes`` [b n], the network's number of
            each object's class, background not counted; ``real`` [b] where the batch holds rows that are no images.
        """
        ...


@runtime_checkable
class CountsClasses(Protocol):
    """A loss that tells how many classes a network has outputs for, background not counted."""

    def classes_of(self, outputs: Outputs) -> int:
        """Return the number of classes."""
        ...


@runtime_checkable
class NamesItsLoss(Protocol):
    """A network that tells which loss its outputs are made for."""

    @property
    def natural_loss(self) -> str:
        """Name in :data:`jaxseg.tasks.detection.ONE_STAGE_LOSSES`."""
        ...


@dataclass(frozen=True)
class AnchorLoss:
    """Loss of a one-stage detector on all anchors: focal, and of the boxes (Lin et al. 2017, arXiv:1708.02002).

    The defaults are torchvision's RetinaNet; its second version has ``AnchorLoss(box="giou")``.

    Attributes:
      high: overlap from which an anchor stands for an object; so do each object's best anchors.
      low: overlap below which it is background.
      gamma: focusing parameter.
      alpha: weight of what is there, against what is not.
      box: ``"smooth_l1"`` of the codes, or ``"giou"`` of the boxes.
      beta: of the smooth L1 loss; 0 is L1.
      crowd_overlap: as of :class:`ProposalLoss`.
      weight: factor of both terms.

    >>> AnchorLoss(box="giou").low
    0.4
    """

    high: float = 0.5
    low: float = 0.4
    gamma: float = 2.0
    alpha: float = 0.25
    box: Literal["smooth_l1", "giou"] = "smooth_l1"
    beta: float = 0.0
    crowd_overlap: float = 0.7
    weight: float = 1.0

    def __post_init__(self):
        if self.box not in ("smooth_l1", "giou"):
            raise BadInput(f"the box loss is 'smooth_l1' or 'giou', not {self.box!r}")

    def terms(self, outputs: Outputs, targets: Mapping[str, Array]) -> dict[str, Term]:
        """Return the terms ``anchor_classes`` and ``anchor_boxes``, each divided by its image's matched anchors.

        >>> box = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]])
        >>> outputs = {"anchors": box[0], "class_logits": jnp.zeros((1, 1, 2)), "anchor_deltas": jnp.ones((1, 1, 4))}
        >>> targets = {"boxes": box, "valid": jnp.ones((1, 1), bool), "crowd": jnp.zeros((1, 1), bool)}
        >>> terms = AnchorLoss().terms(outputs, {**targets, "classes": jnp.zeros((1, 1), jnp.int32)})
        >>> terms["anchor_boxes"].sum.item(), terms["anchor_boxes"].count.item()
        (4.0, 1.0)
        """
        anchors = outputs["anchors"]

        def one(logits: Array, deltas: Array, truth: Mapping[str, Array]) -> tuple[Array, Array]:
            index = match_anchors(anchors, truth, high=self.high, low=self.low, crowd_overlap=self.crowd_overlap)
            positive = index >= 0
            own = jnp.maximum(index, 0)
            target = jax.nn.one_hot(jnp.where(positive, truth["classes"][own], -1), logits.shape[-1])
            focal = sigmoid_focal(logits, target, gamma=self.gamma, alpha=self.alpha).sum(-1)
            boxes = jnp.where(positive[:, None], truth["boxes"][own], anchors)
            if self.box == "giou":
                codes = giou_loss(box_ops.decode(deltas, anchors), boxes)
            else:
                codes = smooth_l1(deltas, box_ops.encode(boxes, anchors), beta=self.beta).sum(-1)
            most = jnp.maximum(count_true(positive), 1)
            return jnp.where(index == BETWEEN, 0, focal).sum() / most, jnp.where(positive, codes, 0).sum() / most

        found = jax.vmap(one)(outputs["class_logits"], outputs["anchor_deltas"], objects_in(targets))
        scores, codes = (over_rows(x, targets) for x in found)
        images = over_rows(jnp.ones(len(outputs["class_logits"])), targets)
        return {"anchor_classes": Term(scores, images, self.weight), "anchor_boxes": Term(codes, images, self.weight)}

    def classes_of(self, outputs: Outputs) -> int:
        """Return how many classes the network has outputs for.

        >>> AnchorLoss().classes_of({"class_logits": jnp.zeros((1, 9, 3))})
        3
        """
        return outputs["class_logits"].shape[-1]


def objects_in(targets: Mapping[str, Array]) -> dict[str, Array]:
    """Return what belongs to the objects, one row an image: all but ``real``.

    >>> sorted(objects_in({"boxes": jnp.zeros((1, 2, 4)), "real": jnp.ones(1, bool)}))
    ['boxes']
    """
    return {key: value for key, value in targets.items() if key != "real"}
