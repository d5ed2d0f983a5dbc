"""RoI max-pooling as in Fast R-CNN, whole cells only (Girshick 2015, arXiv:1504.08083, section 2.1).

The corners of a box are rounded to cells, both of which belong to it; bins overlap where they do not divide the box.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxseg.ops.backend import choose, current
from jaxseg.ops.roi_samples import FARTHEST, divide
from jaxseg.ops.window import Size, pair

Runs = tuple[Array, Array, Array, Array]
"""First row of each bin and the one after its last, ``[b p m]``, and likewise columns ``[b p n]``, int32."""

Like = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype of the maps."""


def roi_pool(
    x: Float[Array, "b h w c"],
    boxes: Float[Array, "b p 4"],
    valid: Bool[Array, "b p"] | None = None,
    *,
    size: Size,
    stride: float | int,
    every: int = 1,
) -> Float[Array, "b p y x c"]:
    """Return the largest value in each of ``size`` bins of every box; the gradient goes to its first cell.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> roi_pool(x, jnp.asarray([[[0.0, 0.0, 3.0, 3.0]]]), size=2, stride=1)[0, 0, :, :, 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]

    Args:
      x: maps.
      boxes: ``x0 y0 x1 y1``, pixels of the image.
      valid: which slots hold a box; the others give zeros, and so do boxes with a coordinate that is not finite.
      size: rows and columns of bins. A bin that lies outside the map gives zero.
      stride: pixels to a cell.
      every: of a bin, look at its first cell and each so many after it, along both sides: a map whose network was
        dilated to have no stride is read as one that has.
    """
    finite = jnp.isfinite(boxes).all(-1)
    boxes = jnp.where(finite[..., None], boxes.astype(jnp.float32), 0)
    counts = finite if valid is None else finite & valid
    bins, scale = pair(size, "size"), np.float32(1 / stride)
    rows = _bins(boxes[..., 1] * scale, boxes[..., 3] * scale, counts, bins[0], x.shape[1])
    columns = _bins(boxes[..., 0] * scale, boxes[..., 2] * scale, counts, bins[1], x.shape[2])
    out: Array = _maximum((x.shape, x.dtype), every, current(), x, (*rows, *columns))
    return out.reshape(*boxes.shape[:2], *bins, x.shape[3])


def _bins(lo: Array, hi: Array, counts: Array, bins: int, length: int) -> tuple[Array, Array]:
    """First cell of each bin and the one after its last."""
    away = lax.RoundingMethod.AWAY_FROM_ZERO
    lo, hi = (lax.round(jnp.clip(side, -FARTHEST, FARTHEST), away) for side in (lo, hi))
    size = divide(jnp.maximum(hi - lo + 1, 1), bins)[..., None]
    at = np.arange(bins, dtype=np.float32)[None, None]
    edges = (jnp.floor(at * size) + lo[..., None], jnp.ceil((at + 1) * size) + lo[..., None])
    first, end = (jnp.clip(edge.astype(jnp.int32), 0, length) for edge in edges)
    return first, jnp.where(counts[..., None], jnp.maximum(end, first), first)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _maximum(like: Like, every: int, backend: str, x: Array, runs: Runs) -> Array:
    return _maximum_forward(like, every, backend, x, runs)[0]


def _maximum_forward(like: Like, every: int, backend: str, x: Array, runs: Runs) -> tuple[Array, Array]:
    cpu, default = partial(by_loop, every=every), partial(at_once, every=every)
    return choose(x, *runs, cpu=cpu, default=default, backend=backend)


def _maximum_backward(like: Like, every: int, backend: str, winners: Array, dy: Array) -> tuple[Array, None]:
    (b, h, w, c), dtype = like
    flat = winners.reshape(b, -1, c)
    flat = jnp.where(flat < 0, h * w, flat)  # empty bins: dropped
    channel = jnp.arange(c, dtype=jnp.int32)[None]
    zeros = jnp.zeros((b, h * w, c), jnp.float32)
    add = jax.vmap(lambda to, at, rows: to.at[at, channel].add(rows, mode="drop"))
    return add(zeros, flat, dy.reshape(flat.shape).astype(jnp.float32)).reshape(b, h, w, c).astype(dtype), None


_maximum.defvjp(_maximum_forward, _maximum_backward)


def by_loop(x: Array, top: Array, bottom: Array, left: Array, right: Array, *, every: int = 1) -> tuple[Array, Array]:
    """Return the largest values ``[b p bins c]`` and the cell of each in its map, -1 if none: one bin a step.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> first, end = jnp.asarray([[[0, 2]]]), jnp.asarray([[[2, 4]]])
    >>> values, cells = by_loop(x, first, end, first, end)
    >>> values[0, 0, :, 0].tolist(), cells[0, 0, :, 0].tolist()
    ([5.0, 7.0, 13.0, 15.0], [5, 7, 13, 15])
    """
    _, h, w, c = x.shape
    m, n = top.shape[2], left.shape[2]
    table, zero = x.reshape(-1, c), np.int32(0)
    y_first, y_end, x_first, x_end = (side.reshape(-1) for side in (top, bottom, left, right))

    def step(j: Array, results: tuple[Array, Array]) -> tuple[Array, Array]:
        box = j // (m * n)
        y_bin, x_bin, image = box * m + j // n % m, box * n + j % n, box // top.shape[1]

        def over_rows(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            def over_columns(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
                cell = (y_first[y_bin] + every * i) * w + x_first[x_bin] + every * k
                values = lax.dynamic_slice(table, (image * (h * w) + cell, zero), (1, c))
                better = values > best[0]
                return jnp.where(better, values, best[0]), jnp.where(better, cell, best[1])

            return lax.fori_loop(0, _visits(x_first[x_bin], x_end[x_bin], every), over_columns, best)

        nothing = (jnp.full((1, c), -jnp.inf, x.dtype), jnp.full((1, c), -1, jnp.int32))
        values, cells = lax.fori_loop(0, _visits(y_first[y_bin], y_end[y_bin], every), over_rows, nothing)
        values = jnp.where(cells < 0, jnp.zeros_like(values), values)
        put = lax.dynamic_update_slice
        return put(results[0], values, (j, zero)), put(results[1], cells, (j, zero))

    count = top.shape[0] * top.shape[1] * m * n
    empty = (jnp.zeros((count, c), x.dtype), jnp.full((count, c), -1, jnp.int32))
    values, cells = lax.fori_loop(0, count, step, empty)
    shape = (*top.shape[:2], m * n, c)
    return values.reshape(shape), cells.reshape(shape)


def at_once(x: Array, top: Array, bottom: Array, left: Array, right: Array, *, every: int = 1) -> tuple[Array, Array]:
    """Return the same as ``by_loop``: a step looks at the n-th cell of all bins.

    >>> x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> first, end = jnp.asarray([[[0, 4]]]), jnp.asarray([[[2, 4]]])  # the second bin is empty
    >>> values, cells = at_once(x, first, end, first, end)
    >>> values[0, 0, :, 0].tolist(), cells[0, 0, :, 0].tolist()
    ([5.0, 0.0, 0.0, 0.0], [5, -1, -1, -1])
    """
    b, h, w, c = x.shape
    m, n = top.shape[2], left.shape[2]
    shape = (*top.shape[:2], m, n)
    down = [jnp.broadcast_to(a[:, :, :, None], shape).reshape(*shape[:2], m * n) for a in (top, bottom)]
    across = [jnp.broadcast_to(a[:, :, None, :], shape).reshape(*shape[:2], m * n) for a in (left, right)]
    columns = _visits(across[0], across[1], every)
    width = jnp.maximum(columns, 1)
    count = _visits(down[0], down[1], every) * columns
    table = x.reshape(b, h * w, c)

    def step(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        cell = (down[0] + every * (i // width)) * w + across[0] + every * (i % width)
        cell = jnp.where(i < count, cell, 0)
        values = jax.vmap(lambda rows, at: rows.at[at].get(mode="clip"))(table, cell)
        better = (values > best[0]) & (i < count)[..., None]
        return jnp.where(better, values, best[0]), jnp.where(better, cell[..., None], best[1])

    whole = (*shape[:2], m * n, c)
    nothing = (jnp.full(whole, -jnp.inf, x.dtype), jnp.full(whole, -1, jnp.int32))
    values, cells = lax.fori_loop(0, count.max(initial=0), step, nothing)
    return jnp.where(cells < 0, jnp.zeros_like(values), values), cells


def _visits(first: Array, end: Array, every: int) -> Array:
    """Return how many cells of a run are looked at."""
    return (end - first + every - 1) // every
