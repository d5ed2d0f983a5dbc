"""Concurrent spatial and channel squeeze and excitation (Roy et al. 2018, arXiv:1803.02579)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class SCSE(nn.Module):
    """Weigh channels by their means and places by a 1x1 convolution, and add both (section 2, scSE).

    >>> block, x = SCSE(), jnp.ones((1, 8, 8, 32))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 8, 8, 32)

    Attributes:
      reduction: of the channels between the means and the gains.
      dtype: compute dtype.
    """

    reduction: int = 16
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Return a map of the same shape.

        Raises:
          BadInput: fewer channels than the reduction.
        """
        c = x.shape[-1]
        if c < self.reduction:
            raise BadInput(f"attention 'scse' on {c} channels; it takes {self.reduction} and more")
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = jax.nn.relu(Conv(c // self.reduction, 1, dtype=self.dtype, name="reduce")(y))
        channels = jax.nn.sigmoid(Conv(c, 1, dtype=self.dtype, name="expand")(y))
        places = jax.nn.sigmoid(Conv(1, 1, dtype=self.dtype, name="places")(x))
        return x * channels + x * places


def attend(kind: str | None, x: Map, *, dtype: jnp.dtype | type, name: str) -> Map:
    """Apply the attention of a decoder, ``decoder_attention_type`` in segmentation-models-pytorch, in a compact method.

    >>> attend(None, jnp.ones((1, 2, 2, 4)), dtype=jnp.float32, name="attention1").shape
    (1, 2, 2, 4)

    Args:
      kind: "scse", or None for none.
      x: the map.
      dtype: compute dtype.
      name: of the layer.

    Raises:
      BadInput: another kind.
    """
    if kind is None:
        return x
    if kind != "scse":
        raise BadInput(f"decoder_attention_type is {kind!r}; there are 'scse' and None")
    return SCSE(dtype=dtype, name=name)(x)


def scse_names(source: str, path: str) -> Rules:
    r"""Return rename rules from segmentation-models-pytorch's ``Attention`` to :class:`SCSE`.

    >>> scse_names("attention1", "attention")[0]
    ('attention1\\.attention\\.cSE\\.1\\.weight', 'attention/reduce/kernel')
    """
    layers = ((r"cSE\.1", "reduce"), (r"cSE\.3", "expand"), (r"sSE\.0", "places"))
    leaves = (("weight", "kernel"), ("bias", "bias"))
    return tuple(
        (rf"{source}\.attention\.{theirs}\.{leaf}", f"{path}/{ours}/{to}")
        for theirs, ours in layers
        for leaf, to in leaves
    )
