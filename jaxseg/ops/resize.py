"""Resizing maps: NHWC, without antialiasing, as torch's ``interpolate`` does it."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from jaxseg.ops.window import Size, pair


def resize_bilinear(x: Float[Array, "b h w c"], size: Size, *, align_corners: bool = False) -> Float[Array, "b y x c"]:
    """Bilinear interpolation to ``size``.

    Args:
      x: maps.
      size: rows and columns of the result.
      align_corners: sample at ``i (h - 1) / (y - 1)``, so that corners fall on corners, instead of at pixel centres,
        ``(i + 1/2) h / y - 1/2``.
    """
    for axis, count in zip((1, 2), pair(size, "size"), strict=True):
        n = x.shape[axis]
        if n == count:
            continue
        low, high, fraction = _samples(n, count, align_corners)
        shape = [1, 1, 1, 1]
        shape[axis] = count
        t = jnp.asarray(fraction.reshape(shape), x.dtype)
        a, b = jnp.take(x, low, axis=axis), jnp.take(x, high, axis=axis)
        x = a + (b - a) * t
    return x


def resize_nearest(x: Float[Array, "b h w c"], size: Size, *, half_pixel: bool = True) -> Float[Array, "b y x c"]:
    """The nearest pixel of each sample.

    Args:
      x: maps.
      size: rows and columns of the result.
      half_pixel: sample at pixel centres, ``floor((i + 1/2) h / y)`` (torch's "nearest-exact"), instead of
        ``floor(i h / y)`` (torch's "nearest"). They agree for integer factors of enlargement.
    """
    for axis, count in zip((1, 2), pair(size, "size"), strict=True):
        n = x.shape[axis]
        i = np.arange(count)
        index = (2 * i + 1) * n // (2 * count) if half_pixel else i * n // count
        if n != count:
            x = jnp.take(x, index, axis=axis)
    return x


def _samples(n: int, count: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Neighbours below and above of each sample, and how far between them it lies."""
    i = np.arange(count)
    at = i * (n - 1) / max(count - 1, 1) if align_corners else np.clip((i + 0.5) * n / count - 0.5, 0, n - 1)
    low = np.minimum(np.floor(at).astype(np.int32), n - 1)
    return low, np.minimum(low + 1, n - 1), at - low
