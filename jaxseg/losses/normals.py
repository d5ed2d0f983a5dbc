"""Losses of surface normals."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float


@runtime_checkable
class NormalLoss(Protocol):
    """A loss of the normals task: a frozen dataclass with a name and a weight, called on unit vectors."""

    name: ClassVar[str]
    """Under which it is logged."""

    @property
    def weight(self) -> float:
        """Its factor in the total."""
        ...

    def __call__(self, prediction: Array, target: Array, known: Array) -> tuple[Array, Array]:
        """Return values and counts, each with the batch as first axis."""
        ...


@dataclass(frozen=True)
class NormalCosine:
    """One minus the cosine of the angle between the normals.

    The paper's loss is the negative cosine, which differs by a constant.

    >>> up, aside = jnp.array([[[[0.0, 1.0, 0.0]]]]), jnp.array([[[[1.0, 0.0, 0.0]]]])
    >>> NormalCosine()(up, aside, jnp.asarray([[[True]]]))[0].tolist()
    [[[1.0]]]

    Attributes:
      weight: factor of this loss in the total.

    Reference:
      Eigen and Fergus 2015, arXiv:1411.4734, eq. 2.
    """

    weight: float = 1.0

    name: ClassVar[str] = "cosine"

    def __call__(
        self, prediction: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], known: Bool[Array, "b h w"]
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
        """Return the loss of each pixel, and 1 where the normal is known."""
        cosine = jnp.sum(prediction.astype(jnp.float32) * target, axis=-1)
        return jnp.where(known, 1 - cosine, 0.0), known.astype(jnp.float32)
