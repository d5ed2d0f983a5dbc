"""Losses: pure functions of logits and labels, and the frozen dataclasses by which a task names them.

A loss returns values and counts, per pixel or per image, and reduces nothing over the batch: the task sums.
"""

from jaxseg.losses.class_weights import inverse_log, median_frequency
from jaxseg.losses.cross_entropy import (
    CrossEntropy,
    binary_cross_entropy,
    class_weight,
    labelled,
    softmax_cross_entropy,
)

__all__ = [
    "CrossEntropy",
    "binary_cross_entropy",
    "class_weight",
    "inverse_log",
    "labelled",
    "median_frequency",
    "softmax_cross_entropy",
]
