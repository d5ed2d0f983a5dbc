"""Weights of tasks that are learnt with the network: by uncertainty, or so that all tasks train at one rate.

Networks hold no loss: they return the weights, and :class:`jaxseg.tasks.multitask.MultiTask` multiplies losses by them.
"""

from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Maps = Float[Array, "b y x c"]


class LogVariances(nn.Module):
    """One log variance for each task, all of them 0 at the beginning (homoscedastic uncertainty).

    >>> layer = LogVariances(3)
    >>> layer.init_with_output(jax.random.key(0))[0]["log_variance"].tolist()
    [0.0, 0.0, 0.0]

    Attributes:
      tasks: how many.

    Reference:
      Kendall, Gal and Cipolla 2018, arXiv:1705.07115, eq. 7.
    """

    tasks: int

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        """Return ``log_variance`` f32[t], for the outputs of a network."""
        return {"log_variance": self.param("log_variance", nn.initializers.zeros, (self.tasks,), jnp.float32)}


class GradNorm(nn.Module):
    """Weights by which the gradients of all tasks at shared maps have comparable norms (GradNorm).

    Put between the maps that all heads share and the heads: each task reads its own copy. The weights' gradient is that
    of ``sum_i |G_i - mean(G) r_i^alpha|``, with the norm G_i of the gradient that task i's weighted loss sends to the
    shared maps, and the inverse rate r_i at which the task trains: its loss over its first one, relative to the mean.
    The paper takes the norm at the last shared kernel; it is taken here at that layer's outputs.

    >>> layer, x = GradNorm(2), jnp.ones((1, 1, 1, 4))
    >>> (copies, outputs), _ = layer.init_with_output(jax.random.key(0), x)
    >>> len(copies), outputs["task_weight"].tolist()
    (2, [1.0, 1.0])

    Attributes:
      tasks: how many.
      alpha: strength by which slow tasks are favoured; 1.5 in the paper's largest experiments, 0 for equal norms.
      first_losses: of each task at the beginning: log of the number of classes for cross-entropy, say. Empty for 1.

    Reference:
      Chen et al. 2018, arXiv:1711.02257, algorithm 1.
    """

    tasks: int
    alpha: float = 1.5
    first_losses: tuple[float, ...] = ()

    @nn.compact
    def __call__(self, x: Maps) -> tuple[list[Maps], dict[str, Array]]:
        """Return a copy of the maps for each task, and for the outputs of the network ``task_weight`` f32[t], whose sum
        is the number of tasks, and ``task_echo`` f32[t], zeros through which the losses come back.
        """
        logits = self.param("logits", nn.initializers.zeros, (self.tasks,), jnp.float32)
        weight = self.tasks * jax.nn.softmax(logits)
        first = jnp.asarray(self.first_losses or (1.0,) * self.tasks, jnp.float32)
        copies, echo = cast(Any, gate(self.alpha, x, weight, first))
        return list(copies), {"task_weight": jax.lax.stop_gradient(weight), "task_echo": echo}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def gate(alpha: float, x: Array, weight: Array, first: Array) -> tuple[tuple[Array, ...], Array]:
    """Return a copy of ``x`` for each weight, and zeros f32[t]; the gradient of ``weight`` is GradNorm's.

    The cotangents of the zeros are the losses of the tasks.

    >>> copies, echo = gate(1.5, jnp.ones((1, 1, 1, 2)), jnp.ones(2), jnp.ones(2))
    >>> len(copies), echo.tolist()
    (2, [0.0, 0.0])
    """
    del alpha, first
    return (x,) * weight.shape[0], jnp.zeros_like(weight)


def _forth(alpha: float, x: Array, weight: Array, first: Array) -> tuple[tuple[tuple[Array, ...], Array], tuple]:
    return gate(alpha, x, weight, first), (weight, first)


def _back(alpha: float, kept: tuple, cotangents: tuple[tuple[Array, ...], Array]) -> tuple[Array, Array, Array]:
    weight, first = kept
    maps, losses = cotangents
    norms = jnp.stack([jnp.sqrt(jnp.sum(jnp.square(g.astype(jnp.float32)))) for g in maps])
    here = (norms > 0).astype(jnp.float32)  # a task without a label in the batch sends nothing back
    count = jnp.maximum(here.sum(), 1.0)
    rate = losses / first
    inverse = rate / jnp.maximum((rate * here).sum() / count, 1e-12)
    wanted = (norms * here).sum() / count * inverse**alpha
    change = here * jnp.sign(norms - wanted) * norms / jnp.maximum(weight, 1e-12)
    return sum(maps[1:], maps[0]), change, jnp.zeros_like(first)


gate.defvjp(_forth, _back)
