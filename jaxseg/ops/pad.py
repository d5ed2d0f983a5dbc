"""Pad images and maps to a multiple of the stride."""

import jax.numpy as jnp
from jax import core
from jaxtyping import Array, Bool, Int, Shaped

from jaxseg.ops.window import symbolic, to_multiple


def pad_to_multiple(x: Shaped[Array, "b h w c"], multiple: int, *, least: int = 1) -> Shaped[Array, "b _ _ c"]:
    """Repeat the last row and column until both sides are multiples of ``multiple`` and at least ``least``.

    Repeated pixels add no edge at the image's border. Crop the network's output back with ``[:, :h, :w]``.

    >>> pad_to_multiple(jnp.ones((1, 30, 40, 3)), 32).shape
    (1, 32, 64, 3)

    Args:
      x: images.
      multiple: divisor of both sides of the result.
      least: smallest side of the result.
    """
    missing = [to_multiple(core.max_dim(n, least), multiple) - n for n in x.shape[1:3]]
    if missing == [0, 0]:
        return x
    if symbolic(*missing):
        for axis, n, more in zip((1, 2), x.shape[1:3], missing, strict=True):
            x = jnp.take(x, jnp.minimum(jnp.arange(n + more), n - 1), axis=axis)
        return x
    return jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")


def zeros_to_multiple(x: Shaped[Array, "b h w c"], multiple: int) -> Shaped[Array, "b _ _ c"]:
    """Append rows and columns of zeros until both sides are multiples of ``multiple``.

    >>> zeros_to_multiple(jnp.ones((1, 2, 3, 1)), 2)[0, :, :, 0].tolist()
    [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    """
    missing = [to_multiple(n, multiple) - n for n in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def inside(size: Int[Array, "b 2"], height: int, width: int) -> Bool[Array, "b h w"]:
    """Return which pixels of canvases are image, not padding below it and to its right.

    >>> inside(jnp.array([[1, 2]]), 2, 3).astype(int).tolist()
    [[[1, 1, 0], [0, 0, 0]]]

    Args:
      size: rows and columns of each that are image.
      height: of the canvases.
      width: of the canvases.
    """
    rows = jnp.arange(height)[None, :, None] < size[:, 0, None, None]
    return rows & (jnp.arange(width)[None, None, :] < size[:, 1, None, None])
