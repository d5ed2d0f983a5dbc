"""Crop the centre of maps."""

from jax import Array

from jaxseg.errors import BadInput


def centre_crop(x: Array, height: int, width: int) -> Array:
    """Return the central ``height`` x ``width`` of an array ``[b h w ...]``; an odd pixel is cut at the bottom right.

    >>> centre_crop(jnp.arange(4.0).reshape(1, 1, 4), 1, 1).ravel().tolist()
    [1.0]

    Raises:
      BadInput: the map is smaller than the crop.
    """
    top, left = x.shape[1] - height, x.shape[2] - width
    if top < 0 or left < 0:
        raise BadInput(f"a map of {x.shape[1]}x{x.shape[2]} has no central {height}x{width}: it must not be smaller")
    top, left = top // 2, left // 2
    return x[:, top : top + height, left : left + width]
