"""Dropout whose mask depends on the image's place in the global batch, not on the device that holds it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.layers import axis


class Dropout(nn.Module):
    """Zero each value (or with ``spatial=True`` each whole channel of an image) with probability ``rate`` in training,
    and scale the rest by ``1 / (1 - rate)`` (Srivastava et al. 2014; spatial: Tompson et al. 2015).

    Draws from the stream "dropout". Every placement draws the same mask for the same row.
    """

    rate: float
    spatial: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """The map with values dropped, or the map itself when not training."""
        if not train or self.rate == 0.0:
            return x
        shape = (1, 1, x.shape[3]) if self.spatial else x.shape[1:]
        return _drop(self.make_rng("dropout"), x, self.rate, shape)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): zero the whole map of an image with probability ``rate`` in training, and
    scale the others by ``1 / (1 - rate)``. It stands on the branch of a residual block; draws from "dropout".
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        """The map with images dropped, or the map itself when not training."""
        if not train or self.rate == 0.0:
            return x
        return _drop(self.make_rng("dropout"), x, self.rate, (1, 1, 1))


def _drop(key: Array, x: Array, rate: float, shape: tuple[int, ...]) -> Array:
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(axis.global_rows(x.shape[0]))
    keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1.0 - rate, shape))(keys)
    return jnp.where(keep, x / (1.0 - rate), 0.0).astype(x.dtype)
