"""Losses of depth maps: of log depth up to a scale, of its gradient, berHu, L1.

Every loss compares metres with metres where depth is known, and returns values and counts with the batch as first axis;
the task sums both over the real rows.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Depth = Float[Array, "b h w"]
Known = Bool[Array, "b h w"]

SMALLEST = 1e-3
"""Metres: predictions below count as this much where a logarithm is taken."""


@runtime_checkable
class DepthLoss(Protocol):
    """A loss of the depth task: a frozen dataclass with a name and a weight, called on metres."""

    name: ClassVar[str]
    """Under which it is logged."""

    @property
    def weight(self) -> float:
        """Its factor in the total."""
        ...

    def __call__(self, prediction: Array, target: Array, known: Array) -> tuple[Array, Array]:
        """Return values and counts, each with the batch as first axis."""
        ...


def log_difference(prediction: Depth, target: Depth, known: Known) -> Depth:
    """Return ``log prediction - log target`` where depth is known, 0 elsewhere.

    >>> log_difference(jnp.array([[[2.0, 3.0]]]), jnp.array([[[2.0, 0.0]]]), jnp.array([[[True, False]]])).tolist()
    [[[0.0, 0.0]]]
    """
    ours = jnp.log(jnp.maximum(prediction.astype(jnp.float32), SMALLEST))
    return jnp.where(known, ours - jnp.log(jnp.where(known, target, 1.0)), 0.0)


def scale_invariant(difference: Depth, known: Known, *, invariance: float = 0.5) -> Float[Array, " b"]:
    """Return ``mean D^2 - invariance (mean D)^2`` of each image over known pixels; 0 without any.

    With ``invariance`` 1 a factor common to all of an image's depths costs nothing, with 0 it is the squared error.

    >>> scale_invariant(jnp.full((1, 1, 2), 3.0), jnp.ones((1, 1, 2), bool), invariance=1.0).tolist()
    [0.0]

    Reference:
      Eigen et al. 2014, arXiv:1406.2283, eq. 4.
    """
    count = _count(known)
    mean = jnp.sum(difference, axis=(1, 2)) / count
    return jnp.sum(difference**2, axis=(1, 2)) / count - invariance * mean**2


def gradient_of_difference(difference: Depth, known: Known) -> Float[Array, " b"]:
    """Return the squared forward differences of D along x and y over the known pixels of each image.

    A difference counts where both of its pixels are known; the sum is divided by the number of known pixels.

    >>> gradient_of_difference(jnp.array([[[0.0, 2.0]]]), jnp.ones((1, 1, 2), bool)).tolist()
    [2.0]

    Reference:
      Eigen and Fergus 2015, arXiv:1411.4734, eq. 1.
    """
    both_y, both_x = known[:, 1:] & known[:, :-1], known[:, :, 1:] & known[:, :, :-1]
    down = jnp.where(both_y, difference[:, 1:] - difference[:, :-1], 0.0)
    right = jnp.where(both_x, difference[:, :, 1:] - difference[:, :, :-1], 0.0)
    return (jnp.sum(down**2, axis=(1, 2)) + jnp.sum(right**2, axis=(1, 2))) / _count(known)


def berhu(difference: Float[Array, "*shape"], limit: Float[Array, "*#shape"] | float) -> Float[Array, "*shape"]:
    """Return ``|d|`` up to ``limit`` and ``(d^2 + limit^2) / (2 limit)`` beyond: the reverse of Huber's loss.

    >>> berhu(jnp.array([0.5, 3.0]), 1.0).tolist()
    [0.5, 5.0]

    Reference:
      Laina et al. 2016, arXiv:1606.00373, eq. 1.
    """
    size = jnp.abs(difference)
    positive = jnp.maximum(limit, 1e-9)
    return jnp.where(size <= limit, size, (size**2 + positive**2) / (2 * positive))


@dataclass(frozen=True)
class ScaleInvariant:
    """The loss of Eigen and Fergus on log depth: errors up to a common scale, and the gradient of the error.

    Attributes:
      invariance: how much of an image's mean error is forgiven, see :func:`scale_invariant`; 0.5 in both papers.
      gradient: factor of :func:`gradient_of_difference`: 1 in the paper of 2015, 0 in that of 2014.
      weight: factor of this loss in the total.

    >>> known = jnp.asarray([[[True, True]]])
    >>> values, counts = ScaleInvariant()(jnp.array([[[1.0, 2.0]]]), jnp.array([[[1.0, 2.0]]]), known)
    >>> values.tolist(), counts.tolist()
    ([0.0], [1.0])
    """

    invariance: float = 0.5
    gradient: float = 1.0
    weight: float = 1.0

    name: ClassVar[str] = "scale_invariant"

    def __call__(self, prediction: Depth, target: Depth, known: Known) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """Return the loss of each image, and 1 where it has a known pixel."""
        difference = log_difference(prediction, target, known)
        values = scale_invariant(difference, known, invariance=self.invariance)
        if self.gradient:
            values = values + self.gradient * gradient_of_difference(difference, known)
        return values, known.any(axis=(1, 2)).astype(jnp.float32)


@dataclass(frozen=True)
class BerHu:
    """The reverse Huber loss on metres; its limit is a fraction of the largest error of the image.

    >>> known = jnp.asarray([[[True, True]]])
    >>> BerHu(0.5)(jnp.array([[[3.0, 1.0]]]), jnp.array([[[1.0, 1.0]]]), known)[0].tolist()
    [[[2.5, 0.0]]]

    Attributes:
      fraction: limit over largest error; the paper's 1/5, taken there over the batch, here over the image, so that it
        does not matter how images are batched.
      weight: factor of this loss in the total.
    """

    fraction: float = 0.2
    weight: float = 1.0

    name: ClassVar[str] = "berhu"

    def __call__(self, prediction: Depth, target: Depth, known: Known) -> tuple[Depth, Depth]:
        """Return the loss of each pixel, and 1 where depth is known."""
        difference = jnp.where(known, prediction.astype(jnp.float32) - target, 0.0)
        limit = self.fraction * jnp.max(jnp.abs(difference), axis=(1, 2), keepdims=True)
        return jnp.where(known, berhu(difference, limit), 0.0), known.astype(jnp.float32)


@dataclass(frozen=True)
class L1Log:
    """The absolute difference of log depths.

    >>> known = jnp.asarray([[[True, False]]])
    >>> L1Log()(jnp.array([[[1.0, 5.0]]]), jnp.array([[[1.0, 0.0]]]), known)[0].tolist()
    [[[0.0, 0.0]]]

    Attributes:
      weight: factor of this loss in the total.
    """

    weight: float = 1.0

    name: ClassVar[str] = "l1_log"

    def __call__(self, prediction: Depth, target: Depth, known: Known) -> tuple[Depth, Depth]:
        """Return the loss of each pixel, and 1 where depth is known."""
        return jnp.abs(log_difference(prediction, target, known)), known.astype(jnp.float32)


def _count(known: Known) -> Float[Array, " b"]:
    return jnp.maximum(jnp.sum(known, axis=(1, 2)).astype(jnp.float32), 1.0)
