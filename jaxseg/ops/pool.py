"""Pooling and its inverses: NHWC maps, pure functions, torch's and Caffe's geometry.

Maximum pooling is a running maximum over strided slices, and everything that goes back (its gradient, unpooling)
compares the index of the winner instead of scattering, which is slow on every backend.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int8

from jaxseg.ops.window import Padding, Pads, Size, explicit_pads, pair, pool_size
from jaxseg.types import BadInput


def max_pool(
    x: Float[Array, "b h w c"],
    window: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> Float[Array, "b y x c"]:
    """Largest value of each window; the gradient goes to the first one that attains it.

    Args:
      x: maps.
      window: rows and columns.
      stride: step between windows; the window itself by default.
      padding: cells around the map that never win.
      ceil_mode: let the last window hang over the end, as Caffe does, instead of leaving the rest out.

    Raises:
      BadInput: no window fits, or a window could lie wholly in the padding.
    """
    g = _geometry(x, window, stride, padding, ceil_mode)
    return lax.reduce_window(
        x, np.array(-np.inf, x.dtype), lax.max, (1, *g[0], 1), (1, *g[1], 1), ((0, 0), *g[3], (0, 0))
    )


def max_pool_with_switches(
    x: Float[Array, "b h w c"],
    window: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "b y x c"], Int8[Array, "b y x c"]]:
    """Largest value of each window and where in the window it was first attained: ``row * columns + column``.

    Args and errors as ``max_pool``; a window may have at most 127 cells.
    """
    (kh, kw), (sh, sw), pads, ends = _geometry(x, window, stride, padding, ceil_mode)
    if kh * kw > 127:
        raise BadInput(f"a window of {kh}x{kw} has more cells than an int8 switch can count (127)")
    out = tuple((n + sum(p) - k) // s + 1 for n, p, k, s in zip(x.shape[1:3], ends, (kh, kw), (sh, sw), strict=True))
    padded = jnp.pad(x, ((0, 0), *ends, (0, 0)), constant_values=-np.inf)
    taps = [
        padded[:, i : i + (out[0] - 1) * sh + 1 : sh, j : j + (out[1] - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]
    stack = jnp.stack(taps)
    switches = jnp.argmax(lax.stop_gradient(stack), axis=0)
    best = jnp.take_along_axis(stack, switches[None], axis=0)[0]
    return best, switches.astype(jnp.int8)


def max_unpool(
    x: Float[Array, "b y x c"],
    switches: Int8[Array, "b y x c"],
    window: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    size: Size | None = None,
) -> Float[Array, "b h w c"]:
    """Each value at the cell of its window that its switch names, zero elsewhere.

    Where windows overlap and name the same pixel, the last one in reading order stays, as in torch on CPU.

    Args:
      x: values, one for each window.
      switches: from ``max_pool_with_switches`` of the same geometry.
      window: rows and columns.
      stride: step between windows; the window itself by default.
      padding: that of the pooling.
      size: of the result; by default the smallest map that has these windows.
    """
    (kh, kw), (sh, sw) = pair(window, "window"), pair(window if stride is None else stride, "stride")
    pads = explicit_pads(padding, (0, 0), (1, 1), (1, 1), (1, 1))
    b, h, w, c = x.shape
    least = ((h - 1) * sh + kh - sum(pads[0]), (w - 1) * sw + kw - sum(pads[1]))
    rows, columns = least if size is None else pair(size, "size")
    out = jnp.zeros((b, (h - 1) * sh + kh + rows, (w - 1) * sw + kw + columns, c), x.dtype)
    for i in reversed(range(kh)):
        for j in reversed(range(kw)):
            at = (slice(None), slice(i, i + (h - 1) * sh + 1, sh), slice(j, j + (w - 1) * sw + 1, sw))
            out = out.at[at].set(jnp.where(switches == i * kw + j, x, out[at]))
    return out[:, pads[0][0] : pads[0][0] + rows, pads[1][0] : pads[1][0] + columns]


def avg_pool(
    x: Float[Array, "b h w c"],
    window: Size,
    *,
    stride: Size | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "b y x c"]:
    """Mean of each window.

    Args and errors as ``max_pool``, and:
      count_include_pad: whether the padding counts in the mean (with zeros). What a window has beyond the padding, in
        ``ceil_mode``, never counts.
    """
    k, s, pads, ends = _geometry(x, window, stride, padding, ceil_mode)
    total = lax.reduce_window(x, np.zeros((), x.dtype), lax.add, (1, *k, 1), (1, *s, 1), ((0, 0), *ends, (0, 0)))
    counts = []
    for axis in range(2):
        start = np.arange(total.shape[1 + axis]) * s[axis]
        first, last = (0, sum(pads[axis])) if count_include_pad else (pads[axis][0], pads[axis][0])
        counts.append(np.minimum(start + k[axis], x.shape[1 + axis] + last) - np.maximum(start, first))
    cells = np.outer(*counts)
    if (cells == cells[0, 0]).all():
        return total * np.array(1 / cells[0, 0], x.dtype)
    return total * jnp.asarray(1 / cells, x.dtype)[None, :, :, None]


def adaptive_avg_pool(x: Float[Array, "b h w c"], size: Size) -> Float[Array, "b y x c"]:
    """Mean over ``size`` windows that cover the map: from ``floor(i h / size)`` to ``ceil((i + 1) h / size)``."""
    for axis, count in zip((1, 2), pair(size, "size"), strict=True):
        n = x.shape[axis]
        if n % count == 0:
            shape = (*x.shape[:axis], count, n // count, *x.shape[axis + 1 :])
            x = jnp.mean(x.reshape(shape), axis=axis + 1)
            continue
        starts, ends = _adaptive(n, count)
        inside = (np.arange(n) >= starts[:, None]) & (np.arange(n) < ends[:, None])
        weights = jnp.asarray(inside / (ends - starts)[:, None], x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def adaptive_max_pool(x: Float[Array, "b h w c"], size: Size) -> Float[Array, "b y x c"]:
    """Largest value over ``size`` windows that cover the map, cut as in ``adaptive_avg_pool``."""
    for axis, count in zip((1, 2), pair(size, "size"), strict=True):
        starts, ends = _adaptive(x.shape[axis], count)
        x = jnp.stack(
            [
                jnp.max(lax.slice_in_dim(x, int(a), int(e), axis=axis), axis=axis)
                for a, e in zip(starts, ends, strict=True)
            ],
            axis=axis,
        )
    return x


def unpool_nearest(x: Float[Array, "b h w c"], factor: Size) -> Float[Array, "b y x c"]:
    """Each value fills a block of ``factor``."""
    (sh, sw), (b, h, w, c) = pair(factor, "factor"), x.shape
    blocks = jnp.broadcast_to(x[:, :, None, :, None], (b, h, sh, w, sw, c))
    return blocks.reshape(b, h * sh, w * sw, c)


def unpool_bed_of_nails(x: Float[Array, "b h w c"], factor: Size) -> Float[Array, "b y x c"]:
    """Each value at the top left of a block of ``factor``, zero elsewhere."""
    sh, sw = pair(factor, "factor")
    gaps = ((0, 0, 0), (0, sh - 1, sh - 1), (0, sw - 1, sw - 1), (0, 0, 0))
    return lax.pad(x, np.zeros((), x.dtype), gaps)


Geometry = tuple[tuple[int, int], tuple[int, int], Pads, Pads]


def _geometry(x: Array, window: Size, stride: Size | None, padding: Padding, ceil_mode: bool) -> Geometry:
    """Window, stride, the padding asked for, and the padding with what hangs over the end (or is left out) in ceil mode."""
    k = pair(window, "window")
    s = k if stride is None else pair(stride, "stride")
    pads = explicit_pads(padding, (x.shape[1], x.shape[2]), k, s, (1, 1))
    ends = []
    for n, kk, ss, (lo, hi) in zip(x.shape[1:3], k, s, pads, strict=True):
        if lo >= kk or hi >= kk:
            raise BadInput(f"padding {(lo, hi)} would leave a window of {kk} wholly outside; it needs less than {kk}")
        count = pool_size(n, kk, ss, (lo, hi), ceil_mode=ceil_mode)
        if count < 1:
            raise BadInput(f"a window of {kk} does not fit {n} pixels padded by {(lo, hi)}")
        ends.append((lo, max((count - 1) * ss + kk - n - lo, hi if not ceil_mode else 0)))
    return k, s, pads, (ends[0], ends[1])


def _adaptive(n: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    i = np.arange(count)
    return i * n // count, -(-(i + 1) * n // count)
