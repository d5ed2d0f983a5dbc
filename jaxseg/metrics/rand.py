"""Rand scores of cells that membranes separate: compare which pixels share a cell, not where membranes run.

Definitions and history: Arganda-Carreras et al. 2015, *Crowdsourcing the creation of image segmentation algorithms for
connectomics*, Front. Neuroanat. 9:142, which re-evaluates the ISBI 2012 challenge, and its scripts for Fiji
(https://imagej.net/plugins/tws/, "Segmentation evaluation after border thinning").
"""

from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import ndimage

from jaxseg.ops.crop import centre_crop
from jaxseg.types import Figure

THRESHOLDS = tuple(i / 10 for i in range(1, 10))
"""Where the challenge cuts the probability of a cell; at 0 and 1 everything or nothing is cell."""


@dataclass(frozen=True)
class Rand:
    """Compare the cells that a probability map outlines with the true ones, at its best threshold.

    Cells are the connected components (4-neighbourhood) of the pixels whose probability exceeds the threshold. Only
    pixels that are cell in the truth count (foreground restriction); those that the prediction takes for membrane are
    cells of one pixel. Let n_ij be the number of pixels in cell i of the prediction and j of the truth.

    ``rand_error``
      1 - F of the pairs of pixels that share a cell, the challenge's score of 2012: the one in U-Net's Table 1.
    ``v_rand``
      2 sum n_ij^2 / (sum_i n_i^2 + sum_j n_j^2), V^Rand of 2015, after membranes of both were thinned to one pixel:
      1 is perfect. Thinning here gives each pixel of a membrane to the nearest cell (see :func:`thinned`); the
      challenge's floods cells by a watershed.

    Sums run over all slices of the split before they are divided, and each score is that of its best threshold.

    Attributes:
      cell: the class of the cells.
      thresholds: of the probability.

    >>> label = jnp.asarray([[[1, 1, 0, 1, 1]]])
    >>> probability = jax.nn.one_hot(label, 2)
    >>> metric = Rand()
    >>> metric.result(metric.fold(metric.init(), metric.observe({"probability": probability}, {"label": label})))
    {'rand_error': 0.0, 'v_rand': 1.0}
    """

    cell: int = 1
    thresholds: tuple[float, ...] = THRESHOLDS

    def init(self) -> np.ndarray:
        """Return sums of zero, f64[2 thresholds 4], as they are and thinned; see :func:`pair_sums`."""
        return np.zeros((2, len(self.thresholds), 4))

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return the probability of a cell and the truth of each row."""
        return cell_maps(predictions, batch, self.cell)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Add the sums of the real rows."""
        state = state.copy()
        for probability, truth in real_rows(observation):
            cells = numbered(truth == self.cell)
            grown = thinned(cells)
            for t, threshold in enumerate(self.thresholds):
                found = numbered(probability > threshold)
                state[0, t] += pair_sums(found, cells)
                state[1, t] += pair_sums(thinned(found), grown)
        return state

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return both scores, as fractions of 1; nothing where the truth holds no cell."""
        both, found, true, pixels = np.moveaxis(state, -1, 0)
        if not pixels.all():
            return {}
        pairs = 2 * (both - pixels)[0] / np.maximum((found + true - 2 * pixels)[0], 1)
        return {"rand_error": 1 - float(pairs.max()), "v_rand": float((2 * both / (found + true))[1].max())}

    def figures(self) -> tuple[Figure, ...]:
        """Describe both scores, as fractions of 1."""
        rand = "1 - F-score of the pairs of pixels that lie in one cell, cells being cut out at the best threshold."
        v_rand = (
            "2 sum n_ij^2 / (sum n_i^2 + sum n_j^2) of the pixels n_ij that a predicted and a true cell share, after "
        )
        v_rand += "membranes were thinned to one pixel, at the best threshold."
        return (
            Figure("rand_error", "Rand error", higher_is_better=False, definition=rand),
            Figure("v_rand", "V-Rand", definition=v_rand),
        )


def cell_maps(predictions: Any, batch: Any, cell: int) -> dict[str, Array]:
    """Return what both metrics of membranes observe: ``probability`` f32[b h w] of a cell, ``label``, ``real``.

    >>> batch = {"label": jnp.ones((1, 4, 4), jnp.int32)}
    >>> cell_maps({"probability": jnp.ones((1, 2, 2, 3))}, batch, 1)["label"].shape
    (1, 2, 2)
    """
    probability = predictions["probability"][..., cell]
    label = centre_crop(batch["label"], *probability.shape[1:3])
    real = batch.get("real", jnp.ones(label.shape[0], bool))
    return {"probability": probability, "label": label, "real": real}


def real_rows(observation: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return probability and truth of each row that is real.

    >>> maps = np.zeros((2, 1, 1))
    >>> len(real_rows({"probability": maps, "label": maps, "real": [True, False]}))
    1
    """
    rows = zip(*(np.asarray(observation[name]) for name in ("probability", "label", "real")), strict=True)
    return [(probability, label) for probability, label, real in rows if real]


def numbered(cells: np.ndarray) -> np.ndarray:
    """Number the connected components (4-neighbourhood) of a mask from 1; 0 elsewhere.

    >>> numbered(np.asarray([[True, False, True]])).tolist()
    [[1, 0, 2]]
    """
    return cast(tuple[np.ndarray, int], ndimage.label(cells))[0]


def thinned(cells: np.ndarray) -> np.ndarray:
    """Grow numbered cells until borders of one pixel are left between them.

    Each pixel of a membrane goes to the cell whose edge is nearest. Where pixels of two cells then meet side by side,
    the one that was membrane becomes border again (the upper or left one if both were). Membranes that end inside a
    cell vanish.

    >>> thinned(np.asarray([[1, 0, 0, 0, 2]])).tolist()
    [[1, 1, 0, 2, 2]]
    """
    border = cells == 0
    if border.all() or not border.any():
        return cells
    nearest = cast(np.ndarray, ndimage.distance_transform_edt(border, return_distances=False, return_indices=True))
    grown = cells[tuple(nearest)]
    between = np.zeros(cells.shape, bool)
    for first, second in (
        ((slice(0, -1),), (slice(1, None),)),
        ((slice(None), slice(0, -1)), (slice(None), slice(1, None))),
    ):
        meet = grown[first] != grown[second]
        between[first] |= meet & border[first]
        between[second] |= meet & ~border[first]
    return np.where(between, 0, grown)


def pair_sums(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return f64[4]: sums of squares of n_ij, of n_i and of n_j, and the number of pixels that are cell in the truth.

    A sum of squares counts ordered pairs of pixels that share a cell, each pixel with itself among them.

    >>> pair_sums(np.asarray([[1, 1, 2]]), np.asarray([[1, 1, 1]])).tolist()
    [5.0, 5.0, 9.0, 3.0]
    """
    inside = true > 0
    found, true = found[inside].astype(np.int64), true[inside].astype(np.int64)
    alone = int((found == 0).sum())
    base = int(found.max(initial=0)) + 1
    both = np.unique((true * base + found)[found > 0], return_counts=True)[1].astype(np.float64)
    of_found = np.bincount(found)[1:].astype(np.float64)
    of_true = np.bincount(true)[1:].astype(np.float64)
    return np.array([both @ both + alone, of_found @ of_found + alone, of_true @ of_true, len(true)], np.float64)
