"""Resize maps: NHWC, without antialiasing, as torch's ``interpolate``."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, core, lax
from jaxtyping import Float

from jaxseg.errors import BadInput
from jaxseg.ops.window import Size, pair, surely_below, symbolic


def resize_bilinear(x: Float[Array, "b h w c"], size: Size, *, align_corners: bool = False) -> Float[Array, "b y x c"]:
    """Interpolate bilinearly to ``size``.

    >>> resize_bilinear(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (1, 4)).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0]

    Args:
      x: maps.
      size: rows and columns of the result.
      align_corners: sample at ``i (h - 1) / (y - 1)``, so that corners fall on corners, instead of at pixel centres,
        ``(i + 1/2) h / y - 1/2``.
    """
    rows, columns = pair(size, "size")
    # Columns first: what then runs over rows has long contiguous lines.
    for axis, count in ((2, columns), (1, rows)):
        n = x.shape[axis]
        if n == count:
            continue
        if n == 1:
            x = jnp.broadcast_to(x, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
            continue
        if not align_corners and count % n == 0 and not surely_below(32 * n, count):
            x = _enlarge(x, axis, int(count // n))
            continue
        low, high, fraction = _samples(n, count, align_corners)
        t = jnp.asarray(fraction[:, None, None] if axis == 1 else fraction[:, None], x.dtype)[None]
        t = t if axis == 1 else t[None]
        a, b = jnp.take(x, low, axis=axis), jnp.take(x, high, axis=axis)
        x = a + (b - a) * t
    return x


def resize_anchored(x: Float[Array, "b h w c"], factor: int, size: Size) -> Float[Array, "b y x c"]:
    """Upsample bilinearly a map whose cell (i, j) lies on pixel (factor i, factor j), and crop to ``size``.

    Strided layers without a half-pixel shift place their cells so (DeepLab, Yu and Koltun). Pixels beyond the last cell
    take its value.

    >>> resize_anchored(jnp.array([0.0, 2.0]).reshape(1, 1, 2, 1), 2, (1, 4)).ravel().tolist()
    [0.0, 1.0, 2.0, 2.0]

    Args:
      x: maps.
      factor: pixels per cell.
      size: rows and columns of the result.
    """
    rows, columns = pair(size, "size")
    for axis, count in ((1, rows), (2, columns)):
        n = x.shape[axis]
        last = lax.slice_in_dim(x, n - 1, n, axis=axis)
        more = core.max_dim(-(-(count - 1) // factor) + 1 - n, 0)
        x = jnp.concatenate([x, jnp.broadcast_to(last, (*x.shape[:axis], more, *x.shape[axis + 1 :]))], axis)
    whole = (factor * (x.shape[1] - 1) + 1, factor * (x.shape[2] - 1) + 1)
    return resize_bilinear(x, whole, align_corners=True)[:, :rows, :columns]


def resize_bicubic(
    x: Float[Array, "b h w c"], size: tuple[int, int], *, antialias: bool = False
) -> Float[Array, "b y x c"]:
    """Interpolate by cubic convolution at pixel centres, as torch's ``interpolate``; a map of that size is returned.

    >>> [f"{x:.3f}" for x in resize_bicubic(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (1, 4)).ravel().tolist()]
    ['-0.105', '0.227', '0.773', '1.105']

    Args:
      x: maps.
      size: rows and columns of the result.
      antialias: widen the window where the map is reduced; as torch and Pillow do it, the cubic is then another
        (a = -1/2 instead of -3/4), and windows are cut off at the border instead of repeating it.

    Raises:
      BadInput: the size is symbolic, in a program that is exported for any size.

    Reference:
      Keys 1981, doi:10.1109/TASSP.1981.1163711.
    """
    if symbolic(*size, *x.shape[1:3]):
        raise BadInput("bicubic interpolation needs a size; export the network for one")
    for axis, count in ((1, size[0]), (2, size[1])):
        if x.shape[axis] != count:
            weight = jnp.asarray(_cubic_weights(x.shape[axis], count, antialias), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(weight, x, (1, axis)), 0, axis)
    return x


def _cubic_weights(n: int, count: int, antialias: bool) -> np.ndarray:
    """Return the weights of ``n`` cells in each of ``count`` samples."""
    a, wide = (-0.5, max(n / count, 1.0)) if antialias else (-0.75, 1.0)
    centre = (np.arange(count) + 0.5) * n / count - 0.5
    cells = np.arange(-4 * n - 4, 5 * n + 4)
    d = np.abs(cells[None, :] - centre[:, None]) / wide
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, ((d - 5) * d + 8) * d * a - 4 * a
    weight = np.where(d < 1, near, np.where(d < 2, far, 0.0))
    if antialias:
        inside = weight[:, (cells >= 0) & (cells < n)]
        return inside / inside.sum(axis=1, keepdims=True)
    gathered = np.zeros((count, n))
    np.add.at(gathered.T, np.clip(cells, 0, n - 1), weight.T)
    return gathered


def resize_nearest(x: Float[Array, "b h w c"], size: Size, *, half_pixel: bool = True) -> Float[Array, "b y x c"]:
    """Resize by nearest neighbour.

    >>> resize_nearest(jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1), (1, 3)).ravel().tolist()
    [0.0, 1.0, 1.0]

    Args:
      x: maps.
      size: rows and columns of the result.
      half_pixel: sample at pixel centres, ``floor((i + 1/2) h / y)`` (torch's "nearest-exact"), instead of
        ``floor(i h / y)`` (torch's "nearest"). The two agree for integer upsampling factors.
    """
    for axis, count in zip((1, 2), pair(size, "size"), strict=True):
        n = x.shape[axis]
        if n == 1:
            x = jnp.broadcast_to(x, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
            continue
        if count % n == 0:
            x = jnp.repeat(x, int(count // n), axis=axis)  # no gather, so no scatter in the gradient
            continue
        i = (jnp if symbolic(n, count) else np).arange(count)
        index = (2 * i + 1) * n // (2 * count) if half_pixel else i * n // count
        x = jnp.take(x, index, axis=axis)
    return x


def _enlarge(x: Array, axis: int, factor: int) -> Array:
    """Upsample bilinearly by an integer factor: one lerp of two neighbouring slices per position within a pixel.

    No gather, so no scatter in the gradient. On 2 CPU cores the gradient gains 2 to 9 times over the general form, the
    forward pass little or nothing.
    """
    n = x.shape[axis]
    first, last = lax.slice_in_dim(x, 0, 1, axis=axis), lax.slice_in_dim(x, n - 1, n, axis=axis)
    x = jnp.concatenate([first, x, last], axis)
    before, at, after = (lax.slice_in_dim(x, i, i + n, axis=axis) for i in range(3))
    places = []
    for i in range(factor):
        t = (i + 0.5) / factor - 0.5
        other = before if t < 0 else after
        places.append(at * np.array(1 - abs(t), x.dtype) + other * np.array(abs(t), x.dtype))
    y = jnp.stack(places, axis + 1)
    return y.reshape(*y.shape[:axis], n * factor, *y.shape[axis + 2 :])


def _samples(n: Any, count: Any, align_corners: bool) -> tuple[Any, Any, Any]:
    """Return each sample's lower and upper neighbour and its fraction between them, in integers until the end."""
    array = jnp if symbolic(n, count) else np
    i = array.arange(count)
    unit = core.max_dim(count - 1, 1) if align_corners else 2 * count
    place = i * (n - 1) if align_corners else array.clip((2 * i + 1) * n - count, 0, unit * (n - 1))
    low = array.minimum(place // unit, n - 1)
    return low, array.minimum(low + 1, n - 1), (place - low * unit) / unit
