"""Focal loss: cross-entropy that down-weights well-classified pixels (Lin et al. 2017, arXiv:1708.02002)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxseg.losses.cross_entropy import binary_cross_entropy, labelled, softmax_cross_entropy, weigh

TINY = 1e-7
"""Lower bound of ``1 - p``: the gradient of a power below 1 is unbounded at 0."""


def softmax_focal(
    logits: Float[Array, "*shape k"], label: Int[Array, "*shape"], *, gamma: float = 2.0
) -> Float[Array, "*shape"]:
    """Return ``(1 - p)^gamma * -log p`` per pixel, in nats, where p is the probability of its class; 0 where void.

    >>> round(float(softmax_focal(jnp.zeros((1, 2)), jnp.array([0]))[0]), 4)
    0.1733

    Args:
      logits: scores before the softmax.
      label: class per pixel.
      gamma: focusing parameter; 0 is cross-entropy.
    """
    nll = softmax_cross_entropy(logits, label)
    return jnp.maximum(-jnp.expm1(-nll), TINY) ** gamma * nll


def sigmoid_focal(
    logits: Float[Array, "*shape"], target: Float[Array, "*shape"], *, gamma: float = 2.0, alpha: float | None = 0.25
) -> Float[Array, "*shape"]:
    """Return RetinaNet's focal loss ``alpha_t (1 - p_t)^gamma * -log p_t`` per element, in nats.

    >>> round(float(sigmoid_focal(jnp.zeros(1), jnp.ones(1))[0]), 4)
    0.0433

    Args:
      logits: scores before the sigmoid.
      target: from 0 to 1.
      gamma: focusing parameter; 0 is cross-entropy.
      alpha: weight of positives; negatives get ``1 - alpha``. None weighs both by 1.

    Reference:
      Lin et al. 2017, arXiv:1708.02002, eq. 5.
    """
    target = target.astype(jnp.float32)
    p = jax.nn.sigmoid(logits.astype(jnp.float32))
    miss = p + target - 2 * p * target
    values = binary_cross_entropy(logits, target) * jnp.maximum(miss, TINY) ** gamma
    return values if alpha is None else values * (alpha * target + (1 - alpha) * (1 - target))


@dataclass(frozen=True)
class Focal:
    """Focal loss, averaged over labelled pixels.

    >>> values, counts = Focal(gamma=0.0)(jnp.zeros((1, 1, 1, 2)), jnp.array([[[0]]]))
    >>> round(values.item(), 3), counts.item()
    (0.693, 1.0)

    Attributes:
      gamma: focusing parameter; 0 is cross-entropy.
      weights: one weight per class; empty for 1.
      weight: factor of this loss in the total.
    """

    gamma: float = 2.0
    weights: tuple[float, ...] = ()
    weight: float = 1.0

    name: ClassVar[str] = "focal"

    def __call__(
        self,
        logits: Float[Array, "b h w k"],
        label: Int[Array, "b h w"],
        pixel_weight: Float[Array, "b h w"] | None = None,
    ) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
        """Return values and counts per pixel."""
        k = logits.shape[-1]
        values = weigh(softmax_focal(logits, label, gamma=self.gamma), label, k, self.weights, pixel_weight)
        return values, labelled(label, k).astype(jnp.float32)
