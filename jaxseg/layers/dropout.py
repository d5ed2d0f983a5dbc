"""Dropout whose mask depends on the image's position in the global batch, not on devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.layers import axis


class Dropout(nn.Module):
    """Zero values with probability ``rate`` in training and scale the rest by ``1 / (1 - rate)``.

    ``spatial=True`` drops whole channels of an image. Draws from the stream "dropout"; every placement draws the same
    mask for the same row.

    >>> x = jnp.ones((1, 2, 2, 1))
    >>> Dropout(0.5).apply({}, x, train=False).sum().item()
    4.0

    Reference:
      Srivastava et al. 2014; spatial: Tompson et al. 2015, arXiv:1411.4280.
    """

    rate: float
    spatial: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the map with values dropped in training, else the map itself."""
        if not train or self.rate == 0.0:
            return x
        shape = (1, 1, x.shape[3]) if self.spatial else x.shape[1:]
        return _drop(self.make_rng("dropout"), x, self.rate, shape)


class DropPath(nn.Module):
    """Zero the whole map of an image with probability ``rate`` in training and scale the others by ``1 / (1 - rate)``.

    Stochastic depth, for the branch of a residual block; draws from "dropout".

    >>> DropPath(0.5).apply({}, jnp.ones((2, 2, 2, 1)), train=False).sum().item()
    8.0

    Reference:
      Huang et al. 2016, arXiv:1603.09382.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """Return the map with images dropped in training, else the map itself."""
        if not train or self.rate == 0.0:
            return x
        return _drop(self.make_rng("dropout"), x, self.rate, (1, 1, 1))


def _drop(key: Array, x: Array, rate: float, shape: tuple[int, ...]) -> Array:
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(axis.global_rows(x.shape[0]))
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)
