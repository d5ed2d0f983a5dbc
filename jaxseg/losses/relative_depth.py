"""Losses of inverse depth up to scale and shift: both maps are brought to one scale before they are compared.

Data sets whose depth has no common unit can so be mixed. Ranftl et al. 2020, arXiv:1907.01341, section 5; DPT
(arXiv:2103.13413) and Depth Anything (arXiv:2401.10891, eq. 2) train with them. As in :mod:`jaxseg.losses.depth`,
values and counts have the batch as first axis.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Inverse = Float[Array, "b h w"]
Known = Bool[Array, "b h w"]


def normalized(inverse: Inverse, known: Known) -> Inverse:
    """Return ``(d - median) / mean |d - median|``, both over the known pixels of each image; 0 where it is unknown.

    >>> normalized(jnp.asarray([[[1.0, 2.0, 4.0, 3.0]]]), jnp.ones((1, 1, 4), bool)).tolist()
    [[[-1.0, 0.0, 2.0, 1.0]]]

    Reference:
      Ranftl et al. 2020, eq. 5 and 6.
    """
    d = inverse.astype(jnp.float32)
    count = jnp.maximum(jnp.sum(known, axis=(1, 2)).astype(jnp.float32), 1.0)
    middle = quantile(d, known, 0.5)[:, None, None]
    spread = jnp.sum(jnp.where(known, jnp.abs(d - middle), 0.0), axis=(1, 2)) / count
    return jnp.where(known, (d - middle) / jnp.maximum(spread, 1e-6)[:, None, None], 0.0)


def quantile(values: Inverse, known: Known, share: float) -> Float[Array, " b"]:
    """Return the value that this share of the known pixels of each image does not exceed; 0 without any.

    >>> quantile(jnp.asarray([[[3.0, 1.0, 2.0, 9.0]]]), jnp.asarray([[[True, True, True, False]]]), 0.5).tolist()
    [2.0]
    """
    count = jnp.sum(known, axis=(1, 2))
    ordered = jnp.sort(jnp.where(known, values, jnp.inf).reshape(values.shape[0], -1), axis=-1)
    place = jnp.maximum(jnp.ceil(share * count.astype(jnp.float32)).astype(jnp.int32) - 1, 0)
    found = jnp.take_along_axis(ordered, place[:, None], axis=-1)[:, 0]
    return jnp.where(count > 0, found, 0.0)


@dataclass(frozen=True)
class AffineInvariant:
    """The mean absolute difference of two maps, each brought to median 0 and mean absolute deviation 1.

    >>> known, inverse = jnp.ones((1, 1, 3), bool), jnp.asarray([[[1.0, 2.0, 9.0]]])
    >>> float(AffineInvariant()(3.0 * inverse + 1.0, inverse, known)[0].sum())
    0.0

    Attributes:
      trim: share of an image's pixels, those of the largest differences, that carry no loss: 0.2 in MiDaS and DPT,
        since some truth is wrong; 0 in Depth Anything.
      weight: factor of this loss in the total.
    """

    trim: float = 0.2
    weight: float = 1.0

    name: ClassVar[str] = "affine_invariant"

    def __call__(self, prediction: Inverse, target: Inverse, known: Known) -> tuple[Inverse, Inverse]:
        """Return the loss of each pixel, and 1 where inverse depth is known."""
        difference = jnp.abs(normalized(prediction, known) - normalized(target, known))
        if self.trim:
            limit = quantile(difference, known, 1 - self.trim)[:, None, None]
            difference = jnp.where(difference <= limit, difference, 0.0)
        return difference, known.astype(jnp.float32)


@dataclass(frozen=True)
class GradientMatching:
    """The gradient of the difference of both maps at several scales, so that edges stay sharp.

    >>> known, inverse = jnp.ones((1, 4, 4), bool), jnp.arange(16.0).reshape(1, 4, 4)
    >>> GradientMatching(scales=2)(2.0 * inverse, inverse, known)[0].tolist()
    [0.0]

    Attributes:
      scales: each with half the rows and columns of the one before.
      weight: factor of this loss in the total; 0.5 in MiDaS.

    Reference:
      Ranftl et al. 2020, eq. 11.
    """

    scales: int = 4
    weight: float = 0.5

    name: ClassVar[str] = "gradient"

    def __call__(
        self, prediction: Inverse, target: Inverse, known: Known
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Return the sum over the scales of each image's mean, and 1 where it has a known pixel."""
        difference = normalized(prediction, known) - normalized(target, known)
        total = jnp.zeros(known.shape[0], jnp.float32)
        for scale in range(self.scales):
            step = 2**scale
            d, at = difference[:, ::step, ::step], known[:, ::step, ::step]
            down = jnp.where(at[:, 1:] & at[:, :-1], jnp.abs(d[:, 1:] - d[:, :-1]), 0.0)
            right = jnp.where(at[:, :, 1:] & at[:, :, :-1], jnp.abs(d[:, :, 1:] - d[:, :, :-1]), 0.0)
            count = jnp.maximum(jnp.sum(at, axis=(1, 2)).astype(jnp.float32), 1.0)
            total = total + (jnp.sum(down, axis=(1, 2)) + jnp.sum(right, axis=(1, 2))) / count
        return total, known.any(axis=(1, 2)).astype(jnp.float32)
