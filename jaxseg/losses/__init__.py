"""Losses: pure functions of logits and labels, and frozen dataclasses that configure them in a task.

Losses are not reduced over the batch. They return values and counts, per pixel or, where whole masks are compared, per
image; the task sums both before it divides, so the loss does not depend on placement or on the split into batches.
"""

from jaxseg.losses.balanced import BalancedCrossEntropy, balanced_cross_entropy
from jaxseg.losses.boxes import giou_loss, smooth_l1
from jaxseg.losses.class_weights import inverse_log, median_frequency
from jaxseg.losses.cross_entropy import (
    CrossEntropy,
    binary_cross_entropy,
    class_weight,
    labelled,
    softmax_cross_entropy,
)
from jaxseg.losses.depth import BerHu, DepthLoss, L1Log, ScaleInvariant
from jaxseg.losses.dice import Dice, binary_dice, softmax_dice
from jaxseg.losses.focal import Focal, sigmoid_focal, softmax_focal
from jaxseg.losses.lovasz import Lovasz, lovasz_hinge, lovasz_softmax
from jaxseg.losses.normals import NormalCosine, NormalLoss
from jaxseg.losses.ohem import Ohem, hard_pixels, kth_largest
from jaxseg.losses.protocol import Loss

__all__ = [
    "BalancedCrossEntropy",
    "BerHu",
    "CrossEntropy",
    "DepthLoss",
    "Dice",
    "Focal",
    "L1Log",
    "Loss",
    "Lovasz",
    "NormalCosine",
    "NormalLoss",
    "Ohem",
    "ScaleInvariant",
    "balanced_cross_entropy",
    "binary_cross_entropy",
    "binary_dice",
    "class_weight",
    "giou_loss",
    "hard_pixels",
    "inverse_log",
    "kth_largest",
    "labelled",
    "lovasz_hinge",
    "lovasz_softmax",
    "median_frequency",
    "sigmoid_focal",
    "smooth_l1",
    "softmax_cross_entropy",
    "softmax_dice",
    "softmax_focal",
]
