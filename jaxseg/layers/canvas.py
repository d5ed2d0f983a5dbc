"""Canvases: images of several sizes in one batch, each with its true size beside it."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.layers.standardize import Standardize
from jaxseg.ops.backend import map_images
from jaxseg.ops.pad import inside
from jaxseg.ops.resize import resize_bilinear


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


def whole(image: Shaped[Array, "b h w c"]) -> Int[Array, "b 2"]:
    """Return rows and columns of canvases that are image all over.

    >>> whole(jnp.zeros((1, 4, 6, 3))).tolist()
    [[4, 6]]
    """
    return jnp.broadcast_to(jnp.asarray(image.shape[1:3], jnp.int32), (image.shape[0], 2))


def squash(
    image: Shaped[Array, "b h w c"], size: Int[Array, "b 2"] | None, target: tuple[int, int]
) -> Float[Array, "b y x c"]:
    """Return the images on canvases of one size, their aspect lost, as detectors of a fixed input take them.

    Bilinear between pixel centres without antialiasing, as OpenCV and darknet's later versions resize.

    Args:
      image: canvases.
      size: rows and columns of each that are image; None for all.
      target: rows and columns of the result.

    >>> canvas = jnp.asarray([[[0.0], [1.0], [9.0]]])[None]
    >>> squash(canvas, jnp.asarray([[1, 2]]), (1, 4)).ravel().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    if size is None:
        return resize_bilinear(image.astype(jnp.float32), target)

    def one(image: Array, size: Array) -> Array:
        for axis, count in enumerate(target):
            n = size[axis].astype(jnp.float32)
            place = jnp.clip((jnp.arange(count, dtype=jnp.float32) + 0.5) * n / count - 0.5, 0.0, n - 1)
            low = jnp.floor(place)
            t = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
            a, b = (jnp.take(image, x.astype(jnp.int32), axis=axis) for x in (low, jnp.minimum(low + 1, n - 1)))
            image = a + (b - a) * t
        return image

    return map_images(one)(image.astype(jnp.float32), size)
