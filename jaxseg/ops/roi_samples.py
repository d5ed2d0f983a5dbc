"""Where the bins of a box read along one axis of a map, and with what weights.

Bilinear samples are separable: a bin's value is the sum over cells of ``weight along y * weight along x * cell``. An
axis is either the two cells of each sample, or the run of cells that many samples touch, with their weights merged.
"""

from typing import NamedTuple

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


def divide(x: Array, count: int) -> Array:
    """Return ``x / count``, rounded as IEEE 754 has it; x is finite.

    XLA turns a division by a constant into a product with its inverse, which rounds otherwise: 21 / 7 becomes more than
    3, and one more sample is taken than torchvision takes.
    """
    return x / (x * 0 + count)


def cut(lo: Array, hi: Array, bins: int, *, aligned: bool) -> tuple[Array, Array]:
    """Return where the first of ``bins`` bins between ``lo`` and ``hi`` starts, and the size of each, cells.

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
    lo: Array, hi: Array, length: Array, bins: int, sampling_ratio: int, *, aligned: bool, longest: int
) -> Axis:
    """Return the run of cells that the samples of every bin touch, and the merged weight of every cell.

    The samples are not visited one by one: between two cells their number and the sum of their offsets follow from
    arithmetic progressions, so that a box of any size costs the same.

    Args:
      lo: near side of the box, cells, ``[b p]``.
      hi: far side.
      length: cells of the axis, int32.
      bins: how many.
      sampling_ratio: samples in a bin; 0 for as many as it has cells, rounded up.
      aligned: see :func:`cut`.
      longest: cells of the axis on the longest level.
    """
    start, bin_size = cut(lo, hi, bins, aligned=aligned)
    grid = jnp.full_like(start, sampling_ratio) if sampling_ratio else jnp.maximum(jnp.ceil(bin_size), 0)
    weights = _merged_weights(start, bin_size, grid, length, bins, longest)
    some = weights > 0
    first = jnp.argmax(some, -1).astype(jnp.int32)
    end = longest - jnp.argmax(some[..., ::-1], -1).astype(jnp.int32)
    cells = jnp.stack([first, jnp.where(some.any(-1), end, first)], -1)
    return Axis(cells, weights, length)


def _merged_weights(start: Array, size: Array, grid: Array, length: Array, bins: int, longest: int) -> Array:
    start, size, grid, length = (a[..., None, None] for a in (start, size, grid, length))
    limit = length.astype(jnp.float32)
    at = np.arange(bins, dtype=np.float32)[None, None, :, None]
    base = start + at * size + jnp.minimum(size, 0)  # a bin that runs backwards has the same samples
    size, samples = jnp.abs(size), jnp.maximum(grid, 1)
    step = size / samples

    def sample(i: Array) -> Array:
        return base + (i + 0.5) * size / samples

    def count_below(y: Array) -> Array:
        """How many samples lie below y: an estimate, put right by looking at its neighbours."""
        estimate = jnp.where(
            step > 0, jnp.ceil((y - base) / jnp.where(step > 0, step, 1) - 0.5), jnp.where(base < y, grid, 0)
        )
        i = jnp.clip(estimate, 0, grid)
        i = i - ((i > 0) & (sample(i - 1) >= y)).astype(jnp.float32)
        return i + ((i < grid) & (sample(i) < y)).astype(jnp.float32)

    cells = np.arange(longest, dtype=np.float32)[None, None, None, :]
    edges = jnp.arange(longest + 1, dtype=jnp.float32)[None, None, None, :]
    within = count_below(jnp.nextafter(limit, np.float32(np.inf)))  # also those on the far edge itself
    below = jnp.where(edges < limit, count_below(edges), within)
    before = below[..., :1] - count_below(jnp.full_like(limit, -1))  # in the cell before the first: moved onto it
    number = below[..., 1:] - below[..., :-1]
    offsets = number * (sample(below[..., :-1]) - cells) + step * number * (number - 1) / 2
    # what samples between two cells give the second one; none beyond the last cell, which takes them whole
    passed = jnp.where(cells < limit - 1, jnp.clip(offsets, 0, number), 0)
    received = jnp.concatenate([before, passed[..., :-1]], -1)
    return jnp.where(cells < limit, (number - passed + received) / samples, 0)
