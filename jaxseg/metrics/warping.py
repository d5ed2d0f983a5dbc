"""Warping error: pixels that differ although the true membranes may be moved without changing their topology.

V. Jain et al., *Boundary learning by optimization with topological constraints*, CVPR 2010; simple points by the
topological numbers of G. Bertrand and G. Malandain, Pattern Recognition Letters 15 (1994) 169-175.
"""

import functools
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jax import Array
from scipy import ndimage

from jaxseg.metrics.rand import THRESHOLDS, cell_maps, real_rows
from jaxseg.types import VOID, Figure

NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""Offsets of the eight neighbours; neighbour i is bit i of a neighbourhood's code."""


@dataclass(frozen=True)
class Warping:
    """Count wrong pixels of cells and membranes, with and without those that are only displacements.

    ``warping_error``
      pixels that still differ, as a share of all, after the truth was warped to the prediction: pixels of the truth
      that differ from the prediction are flipped one after the other as long as the flip is that of a simple point,
      which neither splits, merges, makes nor removes a cell or a hole (cells 4-connected, membranes 8-connected,
      membrane all around the image). The smallest over the thresholds. A membrane shifted by less than its width
      costs nothing; one with a gap does. The challenge's table counts only splits and mergers of what remains, each
      once: its figures are smaller.
    ``pixel_error``
      1 - F of the cells' pixels, at its best threshold: the challenge's.

    Attributes:
      cell: the class of the cells.
      thresholds: of the probability of a cell.

    >>> label = jnp.asarray([[[1, 1, 0, 1, 1]]])
    >>> probability = jax.nn.one_hot(label, 2)
    >>> metric = Warping()
    >>> metric.result(metric.fold(metric.init(), metric.observe({"probability": probability}, {"label": label})))
    {'warping_error': 0.0, 'pixel_error': 0.0}
    """

    cell: int = 1
    thresholds: tuple[float, ...] = THRESHOLDS

    def init(self) -> np.ndarray:
        """Return zeros, i64[thresholds 5]: left after warping, all; cells in both, in the prediction, in the truth."""
        return np.zeros((len(self.thresholds), 5), np.int64)

    def observe(self, predictions: Any, batch: Any) -> dict[str, Array]:
        """Return the probability of a cell and the truth of each row."""
        return cell_maps(predictions, batch, self.cell)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Add the counts of the real rows; void pixels never count as different."""
        state = state.copy()
        for probability, truth in real_rows(observation):
            known = truth != VOID
            true = truth == self.cell
            for t, threshold in enumerate(self.thresholds):
                found = np.where(known, probability > threshold, true)
                left = warped(true, found) != found
                sums = (known, found & true & known, found & known, true & known)
                state[t] += [int(x.sum()) for x in (left, *sums)]
        return state

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return both errors, as fractions of 1; nothing where there are no pixels."""
        left, pixels, both, found, true = state.T
        if not pixels.all():
            return {}
        f = 2 * both / np.maximum(found + true, 1)
        return {"warping_error": float((left / pixels).min()), "pixel_error": 1 - float(f.max())}

    def figures(self) -> tuple[Figure, ...]:
        """Describe both errors, as fractions of 1."""
        return (
            Figure(
                "warping_error",
                "warping error",
                higher_is_better=False,
                definition="Share of pixels that differ after the truth was warped towards the prediction without a "
                "change of topology, at the best threshold.",
            ),
            Figure(
                "pixel_error",
                "pixel error",
                higher_is_better=False,
                definition="1 - F-score of the pixels, at the best threshold.",
            ),
        )


def warped(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Flip simple points of the mask ``source`` bool[h w] towards ``target``, greedily, until none is left.

    Pixels are visited in four interleaved grids. Those of one grid are no neighbours of one another, so that flipping
    them at once is the same as one after the other; sweeps are repeated until nothing moves.

    >>> between = np.asarray([[True, True, False, True]])
    >>> warped(between, np.asarray([[True, False, True, True]])).astype(int).tolist()  # a border that moves
    [[1, 0, 1, 1]]
    >>> warped(between, np.asarray([[True, True, True, True]])).astype(int).tolist()  # a border that must stay
    [[1, 1, 0, 1]]
    """
    now, goal = np.pad(source, 1).astype(np.uint8), np.pad(target, 1).astype(np.uint8)
    width, flat, simple = now.shape[1], now.reshape(-1), simple_points()
    steps = [dy * width + dx for dy, dx in NEIGHBOURS]
    moved = True
    while moved:
        moved = False
        rows, columns = np.nonzero(now != goal)
        for grid in range(4):
            chosen = (rows % 2 == grid // 2) & (columns % 2 == grid % 2)
            at = rows[chosen] * width + columns[chosen]
            code = np.zeros(len(at), np.uint8)
            for bit, step in enumerate(steps):
                code |= flat[at + step] << np.uint8(bit)
            at = at[simple[code]]
            flat[at] ^= 1
            moved |= len(at) > 0
    return now[1:-1, 1:-1].astype(bool)


@functools.cache
def simple_points() -> np.ndarray:
    """Return bool[256]: for each code of eight neighbours, True if the pixel between them is simple.

    It is if one 4-connected group of its neighbours in the cell touches its sides, and its neighbours in the membrane
    are one 8-connected group. The pixel's own value does not matter.

    >>> int(simple_points().sum())
    116
    """
    table = np.zeros(256, bool)
    for code in range(256):
        patch = np.zeros((3, 3), bool)
        for bit, (dy, dx) in enumerate(NEIGHBOURS):
            patch[1 + dy, 1 + dx] = code >> bit & 1
        cells, _ = cast(tuple[np.ndarray, int], ndimage.label(patch))
        sides = {int(cells[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        patch[1, 1] = True
        _, membranes = cast(tuple[np.ndarray, int], ndimage.label(~patch, np.ones((3, 3))))
        table[code] = len(sides) == 1 and membranes == 1
    return table
