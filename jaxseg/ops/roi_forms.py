"""The sums of RoIAlign and their transposes: loops over rows of features for CPUs, all boxes at once for accelerators.

On a CPU, XLA runs a loop of small bodies in place and without temporaries: over 1000 boxes it takes a fifth of the time
of torchvision's operator and needs a few megabytes, where gathering all samples needs 0.8 GB. On accelerators each step
of such a loop would be a launch; there every step treats all boxes, and the batch stays an axis, which may be sharded.

Every function takes the two axes of :mod:`jaxseg.ops.roi_samples` and ``level`` int32 ``[b p]``, where boxes that do
not count have a level that does not exist.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.ops.roi_samples import Axis

Shapes = Sequence[tuple[Any, ...]]

MOST_CELLS = 28
"""A side of a box on its level of a pyramid, 448 / 16 cells, if it is not long and thin nor larger than the levels."""


def samples_by_loop(maps: tuple[Array, ...], rows: Axis, columns: Axis, level: Array) -> Array:
    """Return ``[b p bins c]``: one bin a step, its cells unrolled."""
    order, bounds = _by_level(level, len(maps))
    out = _no_bins(maps, rows, columns)
    out = _unrolled(out, maps, _pairs(rows, columns), order, list(pairwise(bounds)))
    return out.reshape(*level.shape, -1, out.shape[-1])


def samples_gradient_by_loop(shapes: Shapes, dy: Array, rows: Axis, columns: Axis, level: Array) -> tuple[Array, ...]:
    """Return float32 gradients of the maps: one cell of one bin a step."""
    cells, weights = _pairs(rows, columns)
    bins, taps, c = cells.shape[2], cells.shape[3], dy.shape[-1]
    image = jnp.arange(level.shape[0], dtype=jnp.int32)[:, None, None, None]
    order, bounds = _by_level(level, len(shapes))
    flat_weights, dy = weights.reshape(-1), dy.reshape(-1, c)
    gradients = []
    for shape, begin, end in zip(shapes, bounds[:-1], bounds[1:], strict=True):
        places = (cells + image * (shape[1] * shape[2])).reshape(-1)

        def step(j: Array, gradient: Array, places: Array = places) -> Array:
            tap = order[j // (bins * taps)] * (bins * taps) + j % (bins * taps)
            return _add_row(gradient, places[tap], flat_weights[tap] * _row(dy, tap // taps))

        zeros = jnp.zeros((shape[0] * shape[1] * shape[2], c), jnp.float32)
        gradients.append(lax.fori_loop(begin * bins * taps, end * bins * taps, step, zeros).reshape(shape))
    return tuple(gradients)


def spans_by_loop(maps: tuple[Array, ...], rows: Axis, columns: Axis, level: Array, *, most: int = MOST_CELLS) -> Array:
    """Return ``[b p bins c]``: one bin a step, its cells unrolled where they are as few as those of most boxes.

    In the bins of larger boxes, loops go over the cells row by row, so that the work follows the area. Most boxes have
    up to ``most`` cells a side.
    """
    windows = [-(-most // axis.bins) + 1 for axis in (rows, columns)]
    spans = [axis.cells[..., 1] - axis.cells[..., 0] for axis in (rows, columns)]
    large = (spans[0].max(-1) > windows[0]) | (spans[1].max(-1) > windows[1])
    order, bounds = _by_level(level * 2 + large.astype(jnp.int32), 2 * len(maps))
    out = _no_bins(maps, rows, columns)
    cells = _pairs(*(_window(axis, count) for axis, count in zip((rows, columns), windows, strict=True)))
    out = _unrolled(out, maps, cells, order, list(pairwise(bounds))[::2])
    bins, c = rows.bins * columns.bins, out.shape[-1]
    for m, (begin, end) in zip(maps, list(pairwise(bounds))[1::2], strict=True):
        table = m.reshape(-1, c)

        def step(j: Array, out: Array, m: Array = m, table: Array = table) -> Array:
            row = order[j // bins] * bins + j % bins
            add = lambda total, place, weight: total + weight * _row(table, place)  # noqa: E731
            total = _over_cells(row, rows, columns, m.shape, add, jnp.zeros((1, c), jnp.float32))
            return lax.dynamic_update_slice(out, total.astype(out.dtype), (row, _ZERO))

        out = lax.fori_loop(begin * bins, end * bins, step, out)
    return out.reshape(*level.shape, bins, c)


def spans_gradient_by_loop(shapes: Shapes, dy: Array, rows: Axis, columns: Axis, level: Array) -> tuple[Array, ...]:
    """Return float32 gradients of the maps: one bin a step, in it its cells row by row."""
    c, bins = dy.shape[-1], rows.bins * columns.bins
    order, bounds = _by_level(level, len(shapes))
    dy = dy.reshape(-1, c)
    gradients = []
    for shape, begin, end in zip(shapes, bounds[:-1], bounds[1:], strict=True):

        def step(j: Array, gradient: Array, shape: tuple[Any, ...] = shape) -> Array:
            row = order[j // bins] * bins + j % bins
            own = _row(dy, row)
            add = lambda gradient, place, weight: _add_row(gradient, place, weight * own)  # noqa: E731
            return _over_cells(row, rows, columns, shape, add, gradient)

        zeros = jnp.zeros((shape[0] * shape[1] * shape[2], c), jnp.float32)
        gradients.append(lax.fori_loop(begin * bins, end * bins, step, zeros).reshape(shape))
    return tuple(gradients)


def samples_at_once(maps: tuple[Array, ...], rows: Axis, columns: Axis, level: Array) -> Array:
    """Return ``[b p bins c]``: the n-th cell of all bins at a time."""
    table = _concatenated(maps)
    cells, weights = _pairs(rows, columns)
    cells, weights = _on_table(cells, weights, level, [m.shape for m in maps])
    total = jnp.zeros((*cells.shape[:-1], table.shape[-1]), jnp.float32)
    for k in range(cells.shape[-1]):
        total = total + weights[..., k, None] * _take(table, cells[..., k])
    return total.astype(table.dtype)


def samples_gradient_at_once(shapes: Shapes, dy: Array, rows: Axis, columns: Axis, level: Array) -> tuple[Array, ...]:
    """Return float32 gradients of the maps: the n-th cell of all bins at a time."""
    cells, weights = _pairs(rows, columns)
    cells, weights = _on_table(cells, weights, level, shapes)
    gradient = _zero_table(shapes)
    for k in range(cells.shape[-1]):
        gradient = _put(gradient, cells[..., k], weights[..., k, None] * dy.astype(jnp.float32))
    return _split(gradient, shapes)


def spans_at_once(maps: tuple[Array, ...], rows: Axis, columns: Axis, level: Array) -> Array:
    """Return ``[b p bins c]``: a step reads the n-th cell of all bins, as often as the largest bin has cells."""
    table, shapes = _concatenated(maps), [m.shape for m in maps]
    count, nth = _nth_cell(rows, columns, level, shapes)

    def step(n: Array, total: Array) -> Array:
        cells, weights = nth(n)
        return total + weights[..., None] * _take(table, cells)

    zeros = jnp.zeros((*count.shape, table.shape[-1]), jnp.float32)
    return lax.fori_loop(0, count.max(initial=0), step, zeros).astype(table.dtype)


def spans_gradient_at_once(shapes: Shapes, dy: Array, rows: Axis, columns: Axis, level: Array) -> tuple[Array, ...]:
    """Return float32 gradients of the maps: a step adds to the n-th cell of all bins."""
    count, nth = _nth_cell(rows, columns, level, shapes)

    def step(n: Array, gradient: Array) -> Array:
        cells, weights = nth(n)
        return _put(gradient, cells, weights[..., None] * dy.astype(jnp.float32))

    return _split(lax.fori_loop(0, count.max(initial=0), step, _zero_table(shapes)), shapes)


_ZERO = np.int32(0)


def _no_bins(maps: tuple[Array, ...], rows: Axis, columns: Axis) -> Array:
    b, p, m = rows.cells.shape[:3]
    return jnp.zeros((b * p * m * columns.cells.shape[2], maps[0].shape[-1]), maps[0].dtype)


def _unrolled(
    out: Array, maps: tuple[Array, ...], pairs: tuple[Array, Array], order: Array, bounds: list[tuple[Array, Array]]
) -> Array:
    """Return ``out`` with the bins of those boxes of each level that ``bounds`` cut from ``order``, one bin a step."""
    cells, weights = pairs
    bins, taps, c = cells.shape[2], cells.shape[3], out.shape[-1]
    image = jnp.arange(cells.shape[0], dtype=jnp.int32)[:, None, None, None]
    weights = weights.reshape(-1, taps)
    for m, (begin, end) in zip(maps, bounds, strict=True):
        table = m.reshape(-1, c)
        places = (cells + image * (m.shape[1] * m.shape[2])).reshape(-1, taps)

        def step(j: Array, out: Array, table: Array = table, places: Array = places) -> Array:
            row = order[j // bins] * bins + j % bins
            total = jnp.zeros((1, c), jnp.float32)
            for k in range(taps):
                total = total + weights[row, k] * _row(table, places[row, k])
            return lax.dynamic_update_slice(out, total.astype(out.dtype), (row, _ZERO))

        out = lax.fori_loop(begin * bins, end * bins, step, out)
    return out


def _window(axis: Axis, count: int) -> Axis:
    """Return the first ``count`` cells of each run, one by one; those after its end weigh nothing."""
    first, end = axis.cells[..., :1], axis.cells[..., 1:]
    cells = first + np.arange(count, dtype=np.int32)[None, None, None, :]
    inside = cells < end
    cells = jnp.minimum(cells, axis.length[..., None, None] - 1)
    weights = jnp.take_along_axis(axis.weights, cells, -1, mode="clip")
    return Axis(cells, jnp.where(inside, weights, 0), axis.length)


def _row(table: Array, place: Array) -> Array:
    return lax.dynamic_slice(table, (place, _ZERO), (1, table.shape[1])).astype(jnp.float32)


def _add_row(table: Array, place: Array, row: Array) -> Array:
    return lax.dynamic_update_slice(table, _row(table, place) + row, (place, _ZERO))


def _by_level(level: Array, count: int) -> tuple[Array, list[Array]]:
    """Return the boxes of the whole batch in the order of their levels, and where each level begins in it."""
    flat = level.reshape(-1)
    order = jnp.argsort(flat, stable=True).astype(jnp.int32)
    return order, [jnp.sum(flat < k, dtype=jnp.int32) for k in range(count + 1)]


def _pairs(rows: Axis, columns: Axis) -> tuple[Array, Array]:
    """Return every cell that each bin reads, ``[b p bins t]``, counted within the map of its level, and its weight."""
    (*lead, m, t), (n, u) = rows.cells.shape, columns.cells.shape[2:]
    y = rows.cells[:, :, :, None, :, None] * columns.length[:, :, None, None, None, None]
    cells = y + columns.cells[:, :, None, :, None, :]
    weights = rows.weights[:, :, :, None, :, None] * columns.weights[:, :, None, :, None, :]
    return cells.reshape(*lead, m * n, t * u), weights.reshape(*lead, m * n, t * u)


def _over_cells(
    row: Array,
    rows: Axis,
    columns: Axis,
    shape: tuple[Any, ...],
    add: Callable[[Array, Array, Array], Array],
    carry: Array,
) -> Array:
    """Carry on over all cells of one bin; ``row`` counts bins over the whole batch."""
    m, n = rows.bins, columns.bins
    box = row // (m * n)
    y_bin, x_bin = box * m + row // n % m, box * n + row % n
    image = box // rows.cells.shape[1]
    y_cells, x_cells = rows.cells.reshape(-1, 2), columns.cells.reshape(-1, 2)
    y_weights = rows.weights.reshape(-1, rows.weights.shape[-1])
    x_weights = columns.weights.reshape(-1, columns.weights.shape[-1])

    def over_rows(y: Array, carry: Array) -> Array:
        place, weight = (image * shape[1] + y) * shape[2], y_weights[y_bin, y]
        inner = lambda x, carry: add(carry, place + x, weight * x_weights[x_bin, x])  # noqa: E731
        return lax.fori_loop(x_cells[x_bin, 0], x_cells[x_bin, 1], inner, carry)

    return lax.fori_loop(y_cells[y_bin, 0], y_cells[y_bin, 1], over_rows, carry)


def _nth_cell(
    rows: Axis, columns: Axis, level: Array, shapes: Shapes
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """Return how many cells each bin has, and its n-th one, row by row: the place on the table and the weight."""
    m, n = rows.bins, columns.bins
    spread = lambda a: jnp.broadcast_to(a[:, :, :, None], (*a.shape[:2], m, n))  # noqa: E731
    across = lambda a: jnp.broadcast_to(a[:, :, None, :], (*a.shape[:2], m, n))  # noqa: E731
    height = spread(rows.cells[..., 1] - rows.cells[..., 0])
    width = across(columns.cells[..., 1] - columns.cells[..., 0])
    count = jnp.where(level[:, :, None, None] < len(shapes), height * width, 0)

    def nth(i: Array) -> tuple[Array, Array]:
        down, right = i // jnp.maximum(width, 1), i % jnp.maximum(width, 1)
        y, x = spread(rows.cells[..., 0]) + down, across(columns.cells[..., 0]) + right
        at = lambda weights, cells: jnp.take_along_axis(weights, cells, -1, mode="clip")  # noqa: E731
        of_y = at(rows.weights, y)
        of_x = at(columns.weights, x.swapaxes(2, 3)).swapaxes(2, 3)
        weights = jnp.where(i < count, of_y * of_x, 0)
        cells = y * columns.length[:, :, None, None] + x
        flat = (*level.shape, m * n)
        return _on_table(cells.reshape(flat), weights.reshape(flat), level, shapes)

    return count.reshape(*level.shape, m * n), nth


def _on_table(cells: Array, weights: Array, level: Array, shapes: Shapes) -> tuple[Array, Array]:
    """Cells counted over all levels one after another; boxes that do not count read the first, without weight."""
    starts = [0]
    for shape in shapes:
        starts.append(starts[-1] + shape[1] * shape[2])
    starts = jnp.stack([jnp.asarray(start, jnp.int32) for start in starts[:-1]])
    counts = (level < len(shapes)).reshape(*level.shape, *[1] * (cells.ndim - 2))
    start = starts[jnp.minimum(level, len(shapes) - 1)].reshape(counts.shape)
    return jnp.where(counts, cells + start, 0), jnp.where(counts, weights, 0)


def _concatenated(maps: tuple[Array, ...]) -> Array:
    return jnp.concatenate([m.reshape(m.shape[0], -1, m.shape[3]) for m in maps], axis=1)


def _zero_table(shapes: Shapes) -> Array:
    return jnp.zeros((shapes[0][0], sum(s[1] * s[2] for s in shapes), shapes[0][3]), jnp.float32)


def _split(table: Array, shapes: Shapes) -> tuple[Array, ...]:
    parts, start = [], 0
    for shape in shapes:
        parts.append(table[:, start : start + shape[1] * shape[2]].reshape(shape))
        start += shape[1] * shape[2]
    return tuple(parts)


def _take(table: Array, cells: Array) -> Array:
    """Return rows of each image's table, ``[b p bins c]``."""
    return jax.vmap(lambda rows, at: rows.at[at].get(mode="clip"))(table, cells).astype(jnp.float32)


def _put(table: Array, cells: Array, rows: Array) -> Array:
    """Return rows added to each image's table."""
    return jax.vmap(lambda to, at, add: to.at[at].add(add, mode="drop"))(table, cells, rows)
