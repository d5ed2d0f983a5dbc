"""Where the bins of a box read along one axis of a map, and with what weights.

Bilinear samples are separable: a bin's value is the sum over cells of ``weight along y * weight along x * cell``. An
axis is either the two cells of each sample, or the run of cells that many samples touch, with their weights merged.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

FARTHEST = 65536.0
"""Boxes are clipped to so many cells on both sides of the origin, far beyond any map."""


class Axis(NamedTuple):
    """The cells that each bin reads along one axis, and the number of cells that the axis has.

    Attributes:
      cells: int32 ``[b p o t]``, the cells to read; or ``[b p o 2]``, the first cell of a run and the one after it.
      weights: float32 ``[b p o t]``, one for each of the cells; or ``[b p o k]``, one for each cell of the axis.
      length: int32 ``[b p]``, cells of the axis on the level of the box.
    """

    cells: Array
    weights: Array
    length: Array

    @property
    def bins(self) -> int:
        """Return the number of bins.

        >>> sample_axis(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.full((1, 1), 9), bins=7, count=2).bins
        7
        """
        return self.cells.shape[2]


def divide(x: Array, count: int) -> Array:
    """Return ``x / count``, rounded as IEEE 754 has it; x is finite.

    XLA turns a division by a constant into a product with its inverse, which rounds otherwise: 21 / 7 becomes more than
    3, and one more sample is taken than torchvision takes.

    >>> float(jax.jit(lambda x: divide(x, 7))(21.0))
    3.0
    """
    return x / (x * 0 + count)


def cut(lo: Array, hi: Array, bins: int, *, aligned: bool) -> tuple[Array, Array]:
    """Return where the first of ``bins`` bins between ``lo`` and ``hi`` starts, and the size of each, cells.

    >>> start, size = cut(jnp.asarray([2.0]), jnp.asarray([8.0]), 4, aligned=True)
    >>> start.tolist(), size.tolist()
    ([1.5], [1.5])

    Args:
      lo: near side of the box, cells.
      hi: far side.
      bins: how many.
      aligned: subtract half a cell; if False, take the box to be at least one cell long.
    """
    lo, hi = (jnp.clip(side, -FARTHEST, FARTHEST) for side in (lo, hi))
    if aligned:
        lo, hi = lo - 0.5, hi - 0.5
    return lo, divide(hi - lo if aligned else jnp.maximum(hi - lo, 1), bins)


def sample_axis(start: Array, bin_size: Array, length: Array, bins: int, count: int) -> Axis:
    """Return both cells of each of ``count`` samples in every bin; a sample outside the map has no weight.

    >>> axis = sample_axis(jnp.full((1, 1), 1.25), jnp.ones((1, 1)), jnp.full((1, 1), 9), bins=2, count=1)
    >>> axis.cells[0, 0].tolist(), axis.weights[0, 0].tolist()
    ([[1, 2], [2, 3]], [[0.25, 0.75], [0.25, 0.75]])

    Args:
      start: where the first bin starts, cells, ``[b p]``.
      bin_size: cells of a bin.
      length: cells of the axis, int32.
      bins: how many.
      count: samples in a bin.
    """
    at = np.arange(bins, dtype=np.float32)[None, None, :, None]
    offset = (np.arange(count, dtype=np.float32) + 0.5)[None, None, None, :]
    size = bin_size[..., None, None]
    y = start[..., None, None] + at * size + offset * size / count
    n = length[..., None, None]
    limit = n.astype(jnp.float32)
    inside = ((y >= -1) & (y <= limit)).astype(jnp.float32) / count
    y = jnp.clip(y, 0, limit - 1)
    low = jnp.floor(y)
    rest = y - low
    cell = low.astype(jnp.int32)
    cells = jnp.stack([cell, jnp.minimum(cell + 1, n - 1)], -1)
    weights = jnp.stack([(1 - rest) * inside, rest * inside], -1)
    flat = (*start.shape, bins, 2 * count)
    return Axis(cells.reshape(flat), weights.reshape(flat), length)


def span_axis(
    lo: Array, hi: Array, length: Array, bins: int, sampling_ratio: int, *, aligned: bool, longest: Any
) -> Axis:
    """Return the run of cells that the samples of every bin touch, and the merged weight of every cell.

    The samples are not visited one by one: between two cells their number and the sum of their offsets follow from
    arithmetic progressions, so that a box of any size costs the same.

    >>> lo, hi, length = jnp.full((1, 1), 0.0), jnp.full((1, 1), 4.0), jnp.full((1, 1), 5)
    >>> axis = span_axis(lo, hi, length, 2, 0, aligned=False, longest=5)
    >>> axis.cells[0, 0].tolist(), axis.weights[0, 0].tolist()
    ([[0, 3], [2, 5]], [[0.25, 0.5, 0.25, 0.0, 0.0], [0.0, 0.0, 0.25, 0.5, 0.25]])

    Args:
      lo: near side of the box, cells, ``[b p]``.
      hi: far side.
      length: cells of the axis, int32.
      bins: how many.
      sampling_ratio: samples in a bin; 0 for as many as it has cells, rounded up.
      aligned: see :func:`cut`.
      longest: cells of the axis on the longest level, perhaps a symbol.
    """
    start, bin_size = cut(lo, hi, bins, aligned=aligned)
    grid = jnp.full_like(start, sampling_ratio) if sampling_ratio else jnp.maximum(jnp.ceil(bin_size), 0)
    size, grid, limit = (a[..., None] for a in (bin_size, grid, length.astype(jnp.float32)))
    at = np.arange(bins, dtype=np.float32)[None, None, :]
    base = start[..., None] + at * size + jnp.minimum(size, 0)  # a bin that runs backwards has the same samples
    samples = _Samples(base, jnp.abs(size), grid)
    before = samples.below(jnp.full_like(limit, -1))
    within = samples.below(jnp.nextafter(limit, np.float32(np.inf)))  # also those on the far edge itself
    near, far = (jnp.clip(samples.place(i), 0, limit - 1) for i in (before, within - 1))
    first, last = jnp.floor(near), jnp.minimum(jnp.floor(far) + 1, limit - 1)
    cells = jnp.stack([first, jnp.where(within > before, last + 1, first)], -1).astype(jnp.int32)
    return Axis(cells, _merged_weights(samples, before, within, limit, longest), length)


class _Samples(NamedTuple):
    """The samples of every bin along an axis: place ``base + (i + 0.5) size / grid`` for i below ``grid``."""

    base: Array
    size: Array
    grid: Array

    def place(self, i: Array) -> Array:
        return self.base + (i + 0.5) * self.size / jnp.maximum(self.grid, 1)

    def below(self, y: Array) -> Array:
        """Return how many lie below y: an estimate, put right by looking at its neighbours."""
        step = self.size / jnp.maximum(self.grid, 1)
        i = _nearly_below(y, self.base, step, self.grid)
        i = i - ((i > 0) & (self.place(i - 1) >= y)).astype(jnp.float32)
        return i + ((i < self.grid) & (self.place(i) < y)).astype(jnp.float32)


def _nearly_below(y: Array, base: Array, step: Array, grid: Array) -> Array:
    """Return how many samples lie below y, give or take those that rounding could move across it."""
    some = step > _TINY
    count = jnp.where(some, jnp.ceil((y - base) * (1 / jnp.where(some, step, 1)) - 0.5), jnp.where(base < y, grid, 0))
    return jnp.clip(count, 0, grid)


_TINY = 1e-12


def _merged_weights(samples: _Samples, before: Array, within: Array, limit: Array, longest: Any) -> Array:
    """Weights of every cell, ``[b p o longest]``: nothing but element-wise arithmetic, which compiles to one loop.

    A sample between two cells gives each its distance from the other. On which side of a cell a sample lies that is on
    it makes no difference, so that only those at the ends of the axis, where samples begin to count, are told exactly.
    """
    base, size, grid, before, within, limit = (a[..., None] for a in (*samples, before, within, limit))
    inverse = 1 / jnp.maximum(grid, 1)
    step = size * inverse
    cell = jnp.arange(longest, dtype=jnp.float32)[None, None, None, :]

    def below(y: Array) -> Array:
        return jnp.where(y < limit, jnp.clip(_nearly_below(y, base, step, grid), before, within), within)

    def passed(cell: Array) -> Array:
        """Return what the samples between a cell and the next give the next; the last cell takes them whole."""
        first = below(cell)
        number = below(cell + 1) - first
        offsets = number * (base - cell + (first + 0.5) * step) + step * number * (number - 1) / 2
        return jnp.where(cell < limit - 1, jnp.clip(offsets, 0, number), 0)

    received = jnp.where(cell > 0, passed(cell - 1), below(cell) - before)  # beyond the near edge: all on the first
    own = below(cell + 1) - below(cell) - passed(cell)
    return jnp.where(cell < limit, (own + received) * inverse, 0)
