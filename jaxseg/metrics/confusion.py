"""The confusion matrix of a whole split and the four figures of semantic segmentation that follow from it."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int

from jaxseg.ops.crop import centre_crop


@dataclass(frozen=True)
class Confusion:
    """Counts of pixels by true and predicted class, in exact integers, and what follows from them.

    Results (Long et al. 2015, sec. 5; the means are over the classes for which the figure is defined):

    ``miou``
      mean over classes of intersection over union, void pixels ignored.
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
    """

    num_classes: int
    classes: tuple[str, ...] = ()

    def init(self) -> np.ndarray:
        """A zero matrix [num_classes + 1, num_classes]: rows truth, the last row void; columns prediction."""
        return np.zeros((self.num_classes + 1, self.num_classes), np.int64)

    def observe(self, predictions: Any, batch: Any) -> Int[Array, "k1 k"]:
        """The batch's matrix from ``label`` of both; a larger truth is cropped to the middle. Int32 on the device."""
        predicted = predictions["label"]
        return confusion_matrix(
            predicted, centre_crop(batch["label"], *predicted.shape[1:3]), self.num_classes, real=batch.get("real")
        )

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """The sum of both."""
        return state + np.asarray(observation).astype(np.int64)

    def result(self, state: np.ndarray) -> dict[str, float]:
        """The figures above, as fractions of 1."""
        inner, void = state[:-1].astype(np.float64), state[-1].astype(np.float64)
        hit, truth, predicted = np.diag(inner), inner.sum(1), inner.sum(0)
        union = truth + predicted - hit
        iou = _ratio(hit, union)
        names = self.classes or tuple(str(c) for c in range(self.num_classes))
        return {
            "miou": _mean(iou),
            "miou_void_counted": _mean(_ratio(hit, union + void)),
            "pixel_accuracy": float(_ratio(hit.sum(), inner.sum())),
            "mean_accuracy": _mean(_ratio(hit, truth)),
            "fw_iou": float(_ratio(np.nansum(truth * iou), truth.sum())),
            **{f"iou/{name}": float(v) for name, v in zip(names, iou, strict=True) if not np.isnan(v)},
        }


def confusion_matrix(
    predicted: Int[Array, "b h w"], label: Int[Array, "b h w"], num_classes: int, *, real: Any = None
) -> Int[Array, "k1 k"]:
    """Counts of pixels [num_classes + 1, num_classes] by true class (last row: void) and predicted class, int32."""
    void = (label < 0) | (label >= num_classes)
    cell = jnp.where(void, num_classes, label) * num_classes + predicted
    cells = (num_classes + 1) * num_classes
    if real is not None:
        cell = jnp.where(real[:, None, None], cell, cells)
    return jnp.bincount(cell.reshape(-1), length=cells + 1)[:cells].astype(jnp.int32).reshape(-1, num_classes)


def _ratio(a: Any, b: Any) -> Any:
    """``a / b``, NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(np.asarray(a, np.float64), np.nan), where=np.asarray(b) > 0)


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
