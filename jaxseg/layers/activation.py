"""Activations with parameters."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


class PReLU(nn.Module):
    """Compute ``max(x, 0) + alpha min(x, 0)`` with one learned slope per channel, initially 0.25.

    >>> x = jnp.array([-4.0, 4.0]).reshape(1, 1, 2, 1)
    >>> PReLU().apply({"params": {"alpha": jnp.array([0.25])}}, x).ravel().tolist()
    [-1.0, 4.0]

    Reference:
      He et al. 2015, arXiv:1502.01852, eq. 1.
    """

    slope: float = 0.25

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the activated map, in the dtype of ``x``."""
        alpha = self.param("alpha", nn.initializers.constant(self.slope), (x.shape[-1],), jnp.float32)
        return jnp.where(x >= 0, x, x * alpha.astype(x.dtype).reshape(1, 1, 1, -1))
