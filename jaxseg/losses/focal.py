"""Focal loss (Lin et al. 2017): cross-entropy that turns away from what is already right."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxseg.losses.cross_entropy import binary_cross_entropy, labelled, softmax_cross_entropy, weigh

TINY = 1e-7
"""Below this ``1 - p`` counts as constant: the slope of a power below 1 has no end there."""


def softmax_focal(
    logits: Float[Array, "*shape k"], label: Int[Array, "*shape"], *, gamma: float = 2.0
) -> Float[Array, "*shape"]:
    """``(1 - p)^gamma * -log p``, p the probability of the true class, in nats; 0 where the pixel is void."""
    nll = softmax_cross_entropy(logits, label)
    return jnp.maximum(-jnp.expm1(-nll), TINY) ** gamma * nll


def sigmoid_focal(
    logits: Float[Array, "*shape"], target: Float[Array, "*shape"], *, gamma: float = 2.0, alpha: float | None = 0.25
) -> Float[Array, "*shape"]:
    """The binary form, RetinaNet's: ``alpha_t (1 - p_t)^gamma * -log p_t`` (eq. 5), element by element.

    Args:
      logits: scores before the sigmoid.
      target: 0 or 1, or between.
      gamma: how fast the easy ones fade.
      alpha: weight of the positives, ``1 - alpha`` of the negatives; None weighs both by 1.
    """
    target = target.astype(jnp.float32)
    p = jax.nn.sigmoid(logits.astype(jnp.float32))
    miss = p + target - 2 * p * target
    values = binary_cross_entropy(logits, target) * jnp.maximum(miss, TINY) ** gamma
    return values if alpha is None else values * (alpha * target + (1 - alpha) * (1 - target))


@dataclass(frozen=True)
class Focal:
    """Focal loss of every labelled pixel, divided by their number.

    Attributes:
      gamma: how fast the easy pixels fade; 0 is cross-entropy.
      weights: weight of each class; empty for 1.
      scale: factor of this loss in the total.
    """

    gamma: float = 2.0
    weights: tuple[float, ...] = ()
    scale: float = 1.0

    name: ClassVar[str] = "focal"

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
        """Values and counts of every pixel."""
        k = logits.shape[-1]
        values = weigh(softmax_focal(logits, label, gamma=self.gamma), label, k, self.weights, weight)
        return values, labelled(label, k).astype(jnp.float32)
