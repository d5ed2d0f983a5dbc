"""Padding images until a network's strides divide them."""

import jax.numpy as jnp
from jax import core
from jaxtyping import Array, Shaped

from jaxseg.ops.window import symbolic, to_multiple


def pad_to_multiple(x: Shaped[Array, "b h w c"], multiple: int, *, least: int = 1) -> Shaped[Array, "b _ _ c"]:
    """The image with its last row and column repeated until both sides are multiples and not below ``least``.

    Repeated pixels show no edge where the image ends. What comes out of the network is cropped to the image again,
    ``[:, :h, :w]``.
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
    """The map with rows and columns of zeros at its end until both sides are multiples."""
    missing = [to_multiple(n, multiple) - n for n in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
