"""Padding images until a network's strides divide them."""

import jax.numpy as jnp
from jaxtyping import Array, Shaped


def pad_to_multiple(x: Shaped[Array, "b h w c"], multiple: int, *, least: int = 1) -> Shaped[Array, "b _ _ c"]:
    """The image with its last row and column repeated until both sides are multiples and not below ``least``.

    Repeated pixels show no edge where the image ends. What comes out of the network is cropped to the image again,
    ``[:, :h, :w]``.
    """
    missing = [max(-n % multiple, -(-least // multiple) * multiple - n) for n in x.shape[1:3]]
    if not any(missing):
        return x
    return jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
