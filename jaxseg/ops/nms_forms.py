"""Greedy suppression of sorted boxes: loops over boxes for CPUs, blocks of boxes for accelerators.

Every form takes columns of boxes, the best first; their classes, or None where all suppress each other; which of them
are candidates; the threshold, compared in float32; and after how many kept boxes it may stop. It returns which boxes
are kept. All keep the same, but for what comes after the last that was asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jaxseg.ops.boxes import Columns, intersection_and_union

Form = Callable[..., Array]


def by_row(boxes: Columns, classes: Array | None, alive: Array, threshold: Array, count: Array) -> Array:
    """Return what is kept: one box after the other, those still alive with a row of overlaps with all.

    It computes as many rows as it keeps boxes, and stops at ``count``.

    >>> from jaxseg.ops.boxes import columns
    >>> boxes = columns(jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [5.0, 0.0, 15.0, 10.0]]))
    >>> by_row(boxes, None, jnp.ones(3, bool), jnp.float32(0.5), jnp.int32(3)).tolist()
    [True, False, True]
    """
    return _by_row(boxes, classes, alive, threshold, count)


def by_class(boxes: Columns, classes: Array, alive: Array, threshold: Array, count: Array) -> Array:
    """Return what is kept: classes one after the other, in each of them boxes against the later ones.

    With many classes it computes a fraction of the overlaps that ``by_row`` does, but cannot stop at ``count``.

    >>> from jaxseg.ops.boxes import columns
    >>> boxes = columns(jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 9.0]]))
    >>> by_class(boxes, jnp.array([0, 1, 0]), jnp.ones(3, bool), jnp.float32(0.5), jnp.int32(3)).tolist()
    [True, True, False]
    """
    return _by_class(boxes, classes, alive, threshold, count)


BLOCK = 256
"""Boxes of a block, where there are as many."""


def by_block(boxes: Columns, classes: Array | None, alive: Array, threshold: Array, count: Array) -> Array:
    """Return what is kept, by blocks: which of a block survive each other, a fixed point, and what they suppress.

    Of boxes in order, the first is right after the first round, the second after the second, and so on: as many rounds
    as the longest chain of boxes of which each suppresses the next, at most the block's length. It stops at the end of
    the block in which ``count`` is reached.

    >>> from jaxseg.ops.boxes import columns
    >>> boxes = columns(jnp.array([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [5.0, 0.0, 15.0, 10.0]]))
    >>> by_block(boxes, None, jnp.ones(3, bool), jnp.float32(0.5), jnp.int32(3)).tolist()
    [True, False, True]
    """
    n = len(alive)
    size = min(BLOCK, n)
    boxes, classes, alive = jax.tree.map(lambda x: jnp.pad(x, (0, -n % size)), (boxes, classes, alive))
    place = jnp.arange(len(alive), dtype=jnp.int32)

    def more(state: tuple[Array, Array, Array]) -> Array:
        start, kept, _ = state
        return (start < len(place)) & (kept < count)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, kept, alive = state

        def block(x: Array) -> Array:
            return lax.dynamic_slice_in_dim(x, start, size)

        ours, all_ = Columns(*(block(c)[:, None] for c in boxes)), Columns(*(c[None] for c in boxes))
        worse = _overlap(ours, all_, threshold) & (place[None] > block(place)[:, None])
        if classes is not None:
            worse &= classes[None] == block(classes)[:, None]
        candidates = block(alive)
        within = lax.dynamic_slice_in_dim(worse, start, size, axis=1)
        kept_here, _ = lax.while_loop(
            lambda pair: jnp.any(pair[0] != pair[1]),
            lambda pair: (candidates & ~jnp.any(within & pair[0][:, None], axis=0), pair[0]),
            (candidates & ~jnp.any(within & candidates[:, None], axis=0), candidates),
        )
        alive = alive & ~jnp.any(worse & kept_here[:, None], axis=0)
        return start + size, kept + jnp.sum(kept_here, dtype=jnp.int32), alive

    start, _, alive = lax.while_loop(more, step, (jnp.int32(0), jnp.int32(0), alive))
    return (alive & (place < start))[:n]


def _one_by_one(form: Form) -> Form:
    """Return the form with a batch treated image after image.

    Batched, a condition becomes a choice between two computed results, a slice a gather, and all images wait for the
    last.
    """
    each = custom_vmap(form)

    @each.def_vmap
    def mapped(axis_size: Any, in_batched: list, *args: Any) -> tuple[Array, bool]:
        def spread(x: Any, batched: bool) -> Array:
            return x if batched else jnp.broadcast_to(jnp.asarray(x)[None], (axis_size, *x.shape))

        stacked = jax.tree.map(spread, args, tuple(in_batched))
        return lax.map(lambda one: each(*one), stacked), True

    return each


@_one_by_one
def _by_row(boxes: Columns, classes: Array | None, alive: Array, threshold: Array, count: Array) -> Array:
    place = jnp.arange(len(alive), dtype=jnp.int32)

    def more(state: tuple[Array, Array, Array]) -> Array:
        i, kept, _ = state
        return (i < len(place)) & (kept < count)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, kept, alive = state

        def drop(alive: Array) -> Array:
            worse = _overlap(_take(boxes, i), boxes, threshold) & (place > i)
            if classes is not None:
                worse &= classes == _item(classes, i)
            return alive & ~worse

        now = _item(alive, i)
        return i + 1, kept + now.astype(jnp.int32), lax.cond(now, drop, lambda alive: alive, alive)

    i, _, alive = lax.while_loop(more, step, (jnp.int32(0), jnp.int32(0), alive))
    return alive & (place < i)


WIDTHS = (64, 256, 1024)
"""How many later boxes a box meets at once, one loop for each: a loop inside the loop costs three times as much."""


@_one_by_one
def _by_class(boxes: Columns, classes: Array, alive: Array, threshold: Array, count: Array) -> Array:
    n = len(alive)
    order = jnp.argsort(classes, stable=True)
    groups = classes[order]
    ends = jnp.searchsorted(groups, groups, side="right").astype(jnp.int32)
    longest = jnp.max(ends - jnp.arange(n, dtype=jnp.int32))
    widths = [width for width in WIDTHS if width < n]
    loops = [partial(_within, width) for width in (*widths, n)]
    fits = jnp.sum(longest > jnp.asarray(widths, jnp.int32), dtype=jnp.int32)
    kept = lax.switch(fits, loops, Columns(*(c[order] for c in boxes)), ends, alive[order], threshold)
    return jnp.zeros(n, bool).at[order].set(kept, unique_indices=True)


def _within(width: int, boxes: Columns, ends: Array, alive: Array, threshold: Array) -> Array:
    """Let each box suppress the next ``width`` boxes, as far as the end of its class."""
    n = len(alive)
    boxes, lane = Columns(*(jnp.pad(c, (0, width)) for c in boxes)), jnp.arange(1, width + 1, dtype=jnp.int32)

    def step(i: Array, alive: Array) -> Array:
        def drop(alive: Array) -> Array:
            later = Columns(*(lax.dynamic_slice_in_dim(c, i + 1, width) for c in boxes))
            worse = _overlap(_take(boxes, i), later, threshold) & (i + lane < _item(ends, i))
            left = lax.dynamic_slice_in_dim(alive, i + 1, width) & ~worse
            return lax.dynamic_update_slice_in_dim(alive, left, i + 1, 0)

        return lax.cond(_item(alive, i), drop, lambda alive: alive, alive)

    return lax.fori_loop(0, n, step, jnp.pad(alive, (0, width)))[:n]


def _item(x: Array, i: Array) -> Array:
    return lax.dynamic_index_in_dim(x, i, keepdims=False)


def _take(boxes: Columns, i: Array) -> Columns:
    return Columns(*(_item(c, i) for c in boxes))


def _overlap(first: Columns, second: Columns, threshold: Array) -> Array:
    """Return True if the IoU is above the threshold, by the division whose rounding others share; 0 / 0 is not."""
    shared, union = intersection_and_union(first, second)
    return shared / union > threshold
