"""Canvases: images of several sizes in one batch, each with its true size beside it."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pad import inside


def mean_outside(
    image: Shaped[Array, "b h w c"], size: Int[Array, "b 2"], standardize: Standardize
) -> Float[Array, "b h w c"]:
    """Return canvases whose pixels outside of the image are the mean colour, so that they standardise to zero.

    torchvision and detectron2 pad after standardising: this gives the same numbers from raw pixels, in
    float32 and in the units of the statistics (``Standardize.to_float``).

    Args:
      image: raw canvases.
      size: rows and columns of each that are image.
      standardize: that of the network.

    >>> from jaxseg.layers.standardize import CENTRED
    >>> canvas = mean_outside(jnp.zeros((1, 1, 2, 3)), jnp.array([[1, 1]]), CENTRED)
    >>> CENTRED(canvas)[0, 0, :, 0].tolist()
    [-1.0, 0.0]
    """
    x = standardize.to_float(image)
    if not standardize.fits(image.shape[-1]):
        return x  # the network refuses it and says why
    mean = jnp.asarray(standardize.mean or (0.0,), jnp.float32) / standardize.scale
    mean = mean[::-1] if standardize.order == "bgr" else mean
    return jnp.where(inside(size, *image.shape[1:3])[..., None], x, mean)
