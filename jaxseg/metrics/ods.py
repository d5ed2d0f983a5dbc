"""Boundary detection: F at one threshold for all images (ODS) and at the best of each (OIS), average precision."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.ops import edges
from jaxseg.types import Figure

COUNTS = 4
"""Found pixels that have a partner, found pixels, true pixels that have one, true pixels."""


@dataclass(frozen=True)
class BoundaryODS:
    """Berkeley's boundary benchmark: results ``ods``, ``ois`` and ``boundary_ap``.

    The probability of a boundary is thinned by non-maximum suppression, cut at every threshold, thinned to one pixel,
    and matched one to one with what each annotator drew. A found pixel is right if any annotator's has it as a partner;
    recall is over the pixels of all annotators. ``ods`` is the best F over thresholds of the counts of all images
    (between two thresholds precision and recall are interpolated), ``ois`` that of the counts at every image's own best
    threshold.

    Attributes:
      thresholds: how many, evenly between 0 and 1; 99 in the benchmark.
      tolerance: how far partners may lie apart, as a share of the image's diagonal.
      suppress: whether to thin the probability across its edges first.
      thin_truth: whether to reduce the truth to lines of one pixel as well, where it is drawn two pixels wide.

    >>> metric, edge = BoundaryODS(thresholds=3, suppress=False), jnp.eye(8)[None]
    >>> seen = metric.observe({"boundary": edge}, {"boundary": edge > 0})
    >>> metric.result(metric.fold(metric.init(), seen))
    {'ods': 1.0, 'ois': 1.0, 'boundary_ap': 1.0}

    Reference: Arbelaez et al. 2011, *Contour detection and hierarchical image segmentation*,
      doi:10.1109/TPAMI.2010.161, section 2.3; the benchmark's programs.
    """

    thresholds: int = 33
    tolerance: float = 0.0075
    suppress: bool = True
    thin_truth: bool = True

    @property
    def levels(self) -> np.ndarray:
        """The thresholds."""
        return np.linspace(0.0, 1.0, self.thresholds + 2)[1:-1]

    def init(self) -> np.ndarray:
        """Return the counts of no images, i64[images thresholds 4]."""
        return np.zeros((0, self.thresholds, COUNTS), np.int64)

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return the probability and the truth of each row; ``boundary_marks`` rather than ``boundary``."""
        truth = batch["boundary_marks"] if "boundary_marks" in batch else batch["boundary"]
        kept = {"probability": predictions["boundary"], "truth": truth}
        kept |= {"size": batch["size"]} if "size" in batch else {}
        return {**kept, "real": batch.get("real", jnp.ones(truth.shape[0], bool))}

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Append the counts of the real rows."""
        host = {key: np.asarray(value) for key, value in observation.items()}
        rows = np.flatnonzero(host["real"]).tolist()
        counts = [self._counts({key: value[row] for key, value in host.items()}) for row in rows]
        return np.concatenate([state, np.asarray(counts, np.int64).reshape(-1, self.thresholds, COUNTS)])

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the figures; nothing where no boundary was drawn."""
        total = state.sum(0)
        if not len(state) or not total[0, 3]:
            return {}
        recall, precision, f = _scores(total)
        best = _scores(state)[2].argmax(-1)
        own = np.take_along_axis(state, best[:, None, None], axis=1)[:, 0].sum(0)
        return {
            "ods": _best_between(recall, precision),
            "ois": float(_scores(own)[2]),
            "boundary_ap": _area(recall, precision) if f.any() else 0.0,
        }

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures, fractions of 1."""
        text = (
            "Harmonic mean of the shares of found and of drawn boundary pixels that are matched one to one within "
            f"{100 * self.tolerance:g} % of the diagonal, "
        )
        return (
            Figure("ods", "boundary F (ODS)", "%", definition=text + "at the best threshold for all images."),
            Figure("ois", "boundary F (OIS)", "%", definition=text + "at the best threshold of every image."),
            Figure(
                "boundary_ap", "boundary AP", "%", definition="Area under precision over recall of boundary pixels."
            ),
        )

    def _counts(self, row: dict[str, np.ndarray]) -> np.ndarray:
        """Return i64[thresholds 4] of an image."""
        rows, columns = row["size"].tolist() if "size" in row else row["truth"].shape
        probability = np.asarray(row["probability"], np.float32)[:rows, :columns]
        drawn = [self._drawn(mask) for mask in annotations(row["truth"][:rows, :columns])]
        if self.suppress:
            probability = edges.suppress(probability)
        radius = self.tolerance * math.hypot(*probability.shape)
        counts = np.zeros((self.thresholds, COUNTS), np.int64)
        for number, level in enumerate(self.levels):
            found = edges.thin(probability >= level)
            right = np.zeros(found.shape, bool)
            counts[number, 1] = found.sum()
            for true in drawn:
                ours, theirs = edges.match(found, true, radius)
                right |= ours
                counts[number, 2:] += theirs.sum(), true.sum()
            counts[number, 0] = right.sum()
        return counts

    def _drawn(self, mask: np.ndarray) -> np.ndarray:
        return edges.thin(mask) if self.thin_truth else mask


def annotations(truth: np.ndarray) -> list[np.ndarray]:
    """Return what each annotator drew: of bits, one mask for each that is set anywhere; of a mask, itself.

    >>> [mask.astype(int).tolist() for mask in annotations(np.asarray([[0, 1, 5]], np.uint16))]
    [[[0, 1, 1]], [[0, 0, 1]]]
    """
    if truth.dtype == bool:
        return [truth]
    bits = int(np.bitwise_or.reduce(truth, axis=None, initial=0))
    return [(truth >> bit & 1).astype(bool) for bit in range(16) if bits >> bit & 1]


def _scores(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return recall, precision and F of counts [... 4]."""
    right, found, met, true = (counts[..., i].astype(np.float64) for i in range(COUNTS))
    recall, precision = (np.asarray(a / np.maximum(b, 1)) for a, b in ((met, true), (right, found)))
    return recall, precision, _f(recall, precision)


def _f(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return np.asarray(2 * recall * precision / np.maximum(recall + precision, 1e-300))


def _best_between(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the best F of the thresholds and of 100 steps between neighbours, as the benchmark's program does."""
    step = np.linspace(0.0, 1.0, 100)[:, None]
    between = [x[:-1] + step * (x[1:] - x[:-1]) for x in (recall, precision)]
    return float(max(_f(*between).max(initial=0.0), _f(recall, precision).max()))


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area under precision over recall at 101 levels of recall, zero beyond the largest."""
    order = np.argsort(recall, kind="stable")
    unique, first = np.unique(recall[order], return_index=True)
    if len(unique) == 1:
        return float(precision.max() * unique[0])
    levels = np.linspace(0.0, 1.0, 101)
    return float(np.interp(levels, unique, precision[order][first], left=0.0, right=0.0).sum() * 0.01)
