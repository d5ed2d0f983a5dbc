"""Blocks of the MobileNets: separable convolutions, inverted residuals, squeeze-and-excitation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import make_norm

Map = Float[Array, "b _ _ _"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "hard_swish": jax.nn.hard_swish,
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "leaky_relu": partial(jax.nn.leaky_relu, negative_slope=0.1),
    "none": lambda x: x,
}
"""By the name that a block has it under; the leak is a tenth."""


@dataclass(frozen=True)
class Separable:
    """A block of version 1: depthwise 3x3 and pointwise convolution, each normalised and activated.

    >>> Separable(64).activation
    'relu6'
    """

    features: int
    stride: int = 1
    activation: str = "relu6"


@dataclass(frozen=True)
class Inverted:
    """An inverted residual: channels out and in between, window, stride, channels of the squeeze (0 for none).

    >>> Inverted(16, expanded=32).kernel_size
    3
    """

    features: int
    expanded: int
    kernel_size: int = 3
    stride: int = 1
    squeezed: int = 0
    activation: str = "relu6"


class ConvBN(nn.Module):
    """Convolution and normalisation; a bias if there is no normalisation.

    >>> layer, x = ConvBN(16, 3, stride=2), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: layer.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 16)
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: str = "torch"
    norm: str = "batch"
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        plain = self.norm == "none"
        x = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding="SAME" if self.padding == "SAME" else self.dilation * (self.kernel_size // 2),
            dilation=self.dilation,
            groups=self.groups,
            use_bias=plain,
            dtype=self.dtype,
            name="conv",
        )(x)
        if plain:
            return x
        return make_norm(self.norm)(epsilon=self.epsilon, dtype=self.dtype, name="norm")(x, train=train)


Layer = Callable[..., nn.Module]


class SeparableBlock(nn.Module):
    """Depthwise 3x3, pointwise, each with its normalisation and activation (MobileNet, figure 3, right).

    >>> block, x = SeparableBlock(Separable(16), stride=2, dilation=1), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 16)
    """

    row: Separable
    stride: int
    dilation: int
    layer: Layer = ConvBN

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block."""
        c, act = x.shape[-1], ACTIVATIONS[self.row.activation]
        spread = {"stride": self.stride, "dilation": self.dilation, "groups": c}
        x = act(self.layer(c, 3, **spread, name="depthwise")(x, train=train))
        return act(self.layer(self.row.features, 1, name="pointwise")(x, train=train))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, squeeze-and-excitation, 1x1 projection; the sum with the input where both are alike.

    Figure 3 of MobileNetV2, figure 4 of MobileNetV3. No expansion where it would not change the channels.

    >>> block, x = InvertedResidual(Inverted(16, 32), stride=2, dilation=1), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 16)
    """

    row: Inverted
    stride: int
    dilation: int
    layer: Layer = ConvBN

    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block."""
        return self.both(x, train=train)[0]

    @nn.compact
    def both(self, x: Map, *, train: bool) -> tuple[Map, Map]:
        """Return the map after the block, and the expanded one before the depthwise convolution."""
        row, act = self.row, ACTIVATIONS[self.row.activation]
        expanded = x
        if row.expanded != x.shape[-1]:
            expanded = act(self.layer(row.expanded, 1, name="expand")(x, train=train))
        spread = {"stride": self.stride, "dilation": self.dilation, "groups": row.expanded}
        y = act(self.layer(row.expanded, row.kernel_size, **spread, name="depthwise")(expanded, train=train))
        if row.squeezed:
            y = SqueezeExcite(row.squeezed, dtype=y.dtype, name="squeeze")(y)
        y = self.layer(row.features, 1, name="project")(y, train=train)
        return x + y if row.stride == 1 and x.shape == y.shape else y, expanded


class SqueezeExcite(nn.Module):
    """A gain between 0 and 1 for each channel, from the means of all (Hu et al. 2018, arXiv:1709.01507).

    >>> block, x = SqueezeExcite(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)

    Attributes:
      features: channels between the means and the gains.
      activation: of these, see :data:`ACTIVATIONS`.
      gate: of the gains, likewise.
      dtype: compute dtype.
    """

    features: int
    activation: str = "relu"
    gate: str = "hard_sigmoid"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Return the map times its gains."""
        y = jnp.mean(x, axis=(1, 2), keepdims=True)
        y = ACTIVATIONS[self.activation](Conv(self.features, 1, dtype=self.dtype, name="reduce")(y))
        y = Conv(x.shape[-1], 1, dtype=self.dtype, name="expand")(y)
        return x * ACTIVATIONS[self.gate](y)
