"""Losses of box codes and boxes."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxseg.ops.boxes import giou


def smooth_l1(
    prediction: Float[Array, "*shape"], target: Float[Array, "*shape"], *, beta: float = 1.0
) -> Float[Array, "*shape"]:
    """Return ``0.5 d^2 / beta`` where the difference d is less than ``beta``, and ``|d| - 0.5 beta`` beyond.

    >>> smooth_l1(jnp.array([0.5, 2.0]), jnp.zeros(2)).tolist()
    [0.125, 1.5]

    Args:
      prediction: codes.
      target: codes.
      beta: where the parabola meets the lines; 0 is the absolute difference. Fast R-CNN's sigma is ``beta ** -0.5``.

    Reference:
      Girshick 2015, arXiv:1504.08083, eq. 3.
    """
    difference = jnp.abs(prediction.astype(jnp.float32) - target.astype(jnp.float32))
    if beta == 0:
        return difference
    return jnp.where(difference < beta, 0.5 * difference**2 / beta, difference - 0.5 * beta)


def giou_loss(prediction: Float[Array, "*n 4"], target: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Return one minus the generalised IoU of each pair of boxes x0 y0 x1 y1, from 0 to 2.

    >>> giou_loss(jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 0.0, 2.0, 4.0])).item()
    0.5

    Reference:
      Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    return 1 - giou(prediction.astype(jnp.float32), target.astype(jnp.float32))
