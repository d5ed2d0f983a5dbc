"""Errors of inverse depth up to scale and shift: each image's is aligned to the truth before it is measured."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from jaxseg.metrics.depth import DepthErrors
from jaxseg.types import Figure

PLAIN = DepthErrors()


@dataclass(frozen=True)
class RelativeDepthErrors:
    """The figures of :class:`jaxseg.metrics.depth.DepthErrors`, of inverse depth aligned by least squares.

    For each image the scale and shift that bring its inverse depth nearest to the true one (least squares over the
    known pixels) make metres of it.

    >>> metric, depth = RelativeDepthErrors(), jnp.asarray([[[1.0, 2.0, 4.0]]])
    >>> seen = metric.observe({"inverse_depth": 5.0 / depth + 1.0}, {"depth": depth})
    >>> round(metric.result(metric.fold(metric.init(), seen))["delta1"], 3)
    1.0

    Attributes:
      errors: what is measured, and of which depths.
      cap: metres; what is aligned to be farther, or behind the camera, counts as this far.

    Reference:
      Ranftl et al. 2020, arXiv:1907.01341, section 6.
    """

    errors: DepthErrors = PLAIN
    cap: float = 100.0

    def init(self) -> np.ndarray:
        """Return no images."""
        return self.errors.init()

    def observe(self, predictions: Any, batch: Any) -> Array:
        """Return what the aligned depths contribute."""
        truth = batch["depth"].astype(jnp.float32)
        known = truth > 0
        if "depth_valid" in batch:
            known &= batch["depth_valid"]
        inverse = jnp.where(known, 1 / jnp.where(known, truth, 1.0), 0.0)
        aligned = align(predictions["inverse_depth"].astype(jnp.float32), inverse, known)
        return self.errors.observe({"depth": 1 / jnp.maximum(aligned, 1 / self.cap)}, batch)

    def fold(self, state: np.ndarray, observation: Any) -> np.ndarray:
        """Fold as the errors do."""
        return self.errors.fold(state, observation)

    def result(self, state: np.ndarray) -> dict[str, float]:
        """Return the figures; nothing where no pixel is known."""
        return self.errors.result(state)

    def figures(self) -> tuple[Figure, ...]:
        """Describe the figures."""
        said = " Each image's inverse depth was aligned to the truth by a scale and a shift first."
        return tuple(replace(figure, definition=figure.definition + said) for figure in self.errors.figures())


def align(
    inverse: Float[Array, "b h w"], target: Float[Array, "b h w"], known: Bool[Array, "b h w"]
) -> Float[Array, "b h w"]:
    """Return ``s d + t`` with the s and t of each image that bring it nearest to the target over known pixels.

    >>> align(jnp.asarray([[[0.0, 1.0]]]), jnp.asarray([[[1.0, 3.0]]]), jnp.ones((1, 1, 2), bool)).tolist()
    [[[1.0, 3.0]]]
    """
    count = jnp.maximum(jnp.sum(known, axis=(1, 2), keepdims=True).astype(jnp.float32), 1.0)
    mean, aim = (jnp.sum(jnp.where(known, x, 0.0), axis=(1, 2), keepdims=True) / count for x in (inverse, target))
    spread = jnp.where(known, inverse - mean, 0.0)
    product = jnp.sum(spread * jnp.where(known, target - aim, 0.0), axis=(1, 2), keepdims=True)
    scale = product / jnp.maximum(jnp.sum(spread**2, axis=(1, 2), keepdims=True), 1e-12)
    return scale * (inverse - mean) + aim
