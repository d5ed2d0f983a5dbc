"""Targets computed from a record's label."""

from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import ndimage

from jaxseg.data.records import Record
from jaxseg.types import VOID


@dataclass(frozen=True)
class SeparationWeights:
    """Add U-Net's weight of each pixel in the loss (Ronneberger et al. 2015, equation 2), under ``weight``.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), where d1 and d2 are the distances, in pixels, to the
    nearest and the second nearest cell, and w_c balances the classes. Cells are the connected components
    (4-neighbourhood) of class ``cell``; as in the paper the second term stands on the pixels between cells only, and
    needs two cells. w_c is the weight of the class in ``class_weights`` (1 where that is empty). Void weighs 0.

    >>> rng = np.random.default_rng(0)
    >>> label = np.asarray([[1, 0, 1, 255]], np.uint8)
    >>> SeparationWeights()({"label": label}, rng)["weight"].round().tolist()
    [[1.0, 10.0, 1.0, 0.0]]
    """

    w0: float | int = 10.0
    sigma: float | int = 5.0
    cell: int = 1
    class_weights: tuple[float | int, ...] = ()

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with ``weight`` f32[h w]."""
        label = record["label"]
        cells = label == self.cell
        void = label == VOID
        weight = np.ones(label.shape, np.float32)
        if self.class_weights:
            table = np.ones(256, np.float32)
            table[: len(self.class_weights)] = self.class_weights
            weight = table[label]
        weight = np.where(cells | void, weight, weight + self._separation(cells))
        return {**record, "weight": np.where(void, 0, weight).astype(np.float32)}

    def _separation(self, cells: np.ndarray) -> np.ndarray:
        numbered, count = cast(tuple[np.ndarray, int], ndimage.label(cells))
        if count < 2:
            return np.zeros(cells.shape, np.float32)
        # Further than six sigma the term is below 1e-7 of w0: there is no need to look for cells beyond.
        first, second = two_nearest(numbered, reach=int(np.ceil(6 * self.sigma)))
        return (self.w0 * np.exp(-((first + second) ** 2) / (2 * self.sigma**2))).astype(np.float32)


@dataclass(frozen=True)
class MapsOfLabel:
    """Add what a label map says of other tasks: ``boundary``, ``saliency``, and ``{semantic}/label``.

    A pixel is a boundary where its class differs from that of the pixel to its left or above it; void counts as the
    class on its other side. Salient is what is neither background (class 0) nor void. Semantic boundaries are labelled
    with the larger class that meets there, others with 0, void stays void.

    >>> rng = np.random.default_rng(0)
    >>> made = MapsOfLabel()({"label": np.asarray([[0, 0, 5, 255]], np.uint8)}, rng)
    >>> made["boundary"].tolist(), made["saliency"].tolist(), made["sbd/label"].tolist()
    ([[False, False, True, False]], [[False, False, True, False]], [[0, 0, 5, 255]])

    Attributes:
      semantic: the task of semantic boundaries.
    """

    semantic: str = "sbd"

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with three maps more."""
        label = record["label"]
        void, boundary, larger = label == VOID, np.zeros(label.shape, bool), np.zeros(label.shape, np.uint8)
        for here, other in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            differs = (label[here] != label[other]) & ~void[here] & ~void[other]
            boundary[here] |= differs
            meets = np.maximum(label[here], label[other]).astype(np.uint8)
            larger[here] = np.where(differs, np.maximum(larger[here], meets), larger[here])
        return {
            **record,
            "boundary": boundary,
            "saliency": (label != 0) & ~void,
            f"{self.semantic}/label": np.where(void, VOID, larger).astype(np.uint8),
        }


def two_nearest(numbered: np.ndarray, *, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances f64[h w] of each pixel to the nearest and the second nearest numbered component.

    Exact up to ``reach`` pixels; larger distances may be infinite.

    >>> nearest, second = two_nearest(np.asarray([[1, 0, 0, 2]]), reach=10)
    >>> nearest.tolist(), second.tolist()
    ([[0.0, 1.0, 1.0, 0.0]], [[3.0, 2.0, 2.0, 3.0]])
    """
    first = np.full(numbered.shape, np.inf)
    second = np.full(numbered.shape, np.inf)
    for cell, (rows, columns) in enumerate(ndimage.find_objects(numbered), 1):
        window = (_widened(rows, reach), _widened(columns, reach))
        distance = cast(np.ndarray, ndimage.distance_transform_edt(numbered[window] != cell))
        second[window] = np.minimum(second[window], np.maximum(first[window], distance))
        first[window] = np.minimum(first[window], distance)
    return first, second


def _widened(span: slice, reach: int) -> slice:
    return slice(max(span.start - reach, 0), span.stop + reach)
