"""Compute the figures of semantic segmentation from the confusion matrix of a whole split: IoU and accuracies."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int

from jaxseg.ops.crop import centre_crop
from jaxseg.types import Figure


@dataclass(frozen=True)
class Confusion:
    """Count pixels by true and predicted class, in exact integers, and compute IoU and accuracies.

    Results (Long et al. 2015, sec. 5; the means are over the classes for which the figure is defined):

    ``miou``
      mean over classes of intersection over union, void pixels ignored. Where a network predicts void on a pixel that
      has a class, it has missed that class, here and in all that follows.
    ``miou_void_counted``
      the same where a void pixel counts as an error of the class predicted there, the stricter of the two conventions
      that papers use: union + predictions on void.
    ``pixel_accuracy``, ``mean_accuracy``
      share of labelled pixels that are right, over all and averaged over classes.
    ``fw_iou``
      IoU averaged with the classes' frequencies.
    ``iou/<class>``
      IoU of each class that occurs in truth or prediction.

    Attributes:
      num_classes: labels outside ``0..num_classes-1`` are void.
      classes: names for the results; numbers where there are none.

    >>> metric, label = Confusion(2), jnp.asarray([[[0, 0, 0, 1]]])
    >>> state = metric.fold(metric.init(), metric.observe({"label": jnp.zeros_like(label)}, {"label": label}))
    >>> metric.result(state)["pixel_accuracy"], metric.result(state)["miou"]
    (0.75, 0.375)
    """

    num_classes: int
    classes: tuple[str, ...] = ()

    def init(self) -> np.ndarray:
        """Return a zero matrix, a side of num_classes + 1: rows truth, columns prediction, the last of both void."""
        return np.zeros((self.num_classes + 1, self.num_classes + 1), np.int64)

    def observe(self, predictions: Any, batch: Any) -> Int[Array, "k1 k1"]:
        """Return the matrix of a batch from ``label`` of both, int32; a larger truth is cropped to the middle."""
        predicted = predictions["label"]
        return confusion_matrix(
            predicted, centre_crop(batch["label"], *predicted.shape[1:3]), self.num_classes, real=batch.get("real")
        )

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Return the sum of both."""
        return state + np.asarray(observation).astype(np.int64)

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the figures above, as fractions of 1."""
        labelled, void = state[:-1].astype(np.float64), state[-1, :-1].astype(np.float64)
        hit, truth, predicted = np.diag(labelled), labelled.sum(1), labelled[:, :-1].sum(0)
        union = truth + predicted - hit
        iou = _ratio(hit, union)
        names = self.classes or tuple(str(c) for c in range(self.num_classes))
        return {
            "miou": _mean(iou),
            "miou_void_counted": _mean(_ratio(hit, union + void)),
            "pixel_accuracy": float(_ratio(hit.sum(), truth.sum())),
            "mean_accuracy": _mean(_ratio(hit, truth)),
            "fw_iou": float(_ratio(np.nansum(truth * iou), truth.sum())),
            **{f"iou/{name}": float(v) for name, v in zip(names, iou, strict=True) if not np.isnan(v)},
        }

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, as fractions of 1."""
        return tuple(Figure(name, title, "%", definition=text) for name, title, text in DESCRIBED)


DESCRIBED = (
    (
        "miou",
        "mean IoU, void ignored",
        "Mean over the classes that occur in truth or prediction of intersection / union of their pixels in the whole "
        "split; pixels whose truth is void do not count.",
    ),
    (
        "miou_void_counted",
        "mean IoU, void counted as errors",
        "The same where a void pixel is an error of the class predicted there: the stricter of two conventions.",
    ),
    ("pixel_accuracy", "pixel accuracy", "Share of the labelled pixels whose class is predicted."),
    ("mean_accuracy", "mean class accuracy", "That share for the pixels of each class, averaged over the classes."),
    ("fw_iou", "frequency-weighted IoU", "Mean of the IoU weighted by how many pixels each class has in the truth."),
    ("iou", "IoU", "Intersection / union of a class's true and predicted pixels in the whole split, void ignored."),
)
"""Name, title and definition of each figure."""


def confusion_matrix(
    predicted: Int[Array, "b h w"], label: Int[Array, "b h w"], num_classes: int, *, real: Any = None
) -> Int[Array, "k1 k1"]:
    """Count pixels by true (rows) and predicted class (columns), int32 [num_classes + 1, num_classes + 1].

    The last row and column are void: whatever lies outside ``0..num_classes-1``.

    Args:
      predicted: classes.
      label: true classes.
      num_classes: number of classes without void.
      real: bool [b]; rows where it is false are not counted.

    >>> confusion_matrix(jnp.asarray([[[0, 1]]]), jnp.asarray([[[1, 1]]]), 2).tolist()
    [[0, 0, 0], [1, 1, 0], [0, 0, 0]]
    """
    side = num_classes + 1
    truth, found = (jnp.where((x < 0) | (x >= num_classes), num_classes, x) for x in (label, predicted))
    cell = truth * side + found
    cells = side * side
    if real is not None:
        cell = jnp.where(real[:, None, None], cell, cells)
    return jnp.bincount(cell.reshape(-1), length=cells + 1)[:cells].astype(jnp.int32).reshape(side, side)


def _ratio(a: Any, b: Any) -> Any:
    """Return ``a / b``, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(np.asarray(a, np.float64), np.nan), where=np.asarray(b) > 0)


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
