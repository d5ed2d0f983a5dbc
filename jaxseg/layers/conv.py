"""Convolution and transposed convolution as linen modules around ``jaxseg.ops.conv``."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from typing_extensions import override

from jaxseg.ops import conv as ops
from jaxseg.ops.window import Padding, Size, pair

Initializer = Callable[..., Array]

he_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
"""N(0, sqrt(2 / fan_in)), not truncated (He et al. 2015, eq. 10)."""


dense_init = nn.initializers.truncated_normal(0.02)
"""N(0, 0.02) cut off at two standard deviations: how vision transformers and ConvNeXt start layers."""


class Conv(nn.Module):
    """Convolve ``[b h w c]`` with a kernel ``[kh kw c/groups features]`` and add a bias.

    Padding counts pixels per side, as in torch and Caffe; ``groups`` equal to the number of channels is depthwise.

    >>> half = Conv(16, 3, stride=2, padding=1)
    >>> jax.eval_shape(half.init_with_output, jax.random.key(0), jnp.ones((1, 8, 8, 4)))[0].shape
    (1, 4, 4, 16)
    """

    features: int
    kernel_size: Size = 3
    stride: Size = 1
    padding: Padding = 0
    dilation: Size = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x d"]:
        """Return a map of ``features`` channels in the compute dtype."""
        shape = (*pair(self.kernel_size, "kernel_size"), x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        out = ops.conv(
            x.astype(self.dtype),
            self._convolved_with(kernel).astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return _add_bias(self, out)

    def _convolved_with(self, kernel: Array) -> Array:
        """Return the kernel of the convolution made of the parameter."""
        return kernel


class WeightStandardizedConv(Conv):
    """Convolve with the kernel of each output channel brought to mean 0 and variance 1, in float32.

    ``epsilon`` is added to the variance, as in timm and transformers; the convolution is otherwise :class:`Conv`.

    >>> layer, x = WeightStandardizedConv(1, 1, epsilon=0.0), jnp.array([5.0, 7.0]).reshape(1, 1, 1, 2)
    >>> layer.apply({"params": {"kernel": jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1), "bias": jnp.zeros(1)}}, x).item()
    2.0

    Reference:
      Qiao et al. 2019, arXiv:1903.10520.
    """

    epsilon: float = 1e-8

    @override
    def _convolved_with(self, kernel: Array) -> Array:
        centred = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
        variance = jnp.square(centred).mean(axis=(0, 1, 2), keepdims=True)
        return centred * jax.lax.rsqrt(variance + self.epsilon)


class ConvTranspose(nn.Module):
    """Convolve ``[b h w c]`` transposed with a kernel ``[kh kw c features/groups]`` and add a bias.

    Output size: ``(h - 1) stride - 2 padding + kernel + output_padding``.

    >>> up = ConvTranspose(16, 2, stride=2)
    >>> jax.eval_shape(up.init_with_output, jax.random.key(0), jnp.ones((1, 8, 8, 4)))[0].shape
    (1, 16, 16, 16)
    """

    features: int
    kernel_size: Size = 2
    stride: Size = 2
    padding: Size = 0
    output_padding: Size = 0
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b y x d"]:
        """Return a map of ``features`` channels in the compute dtype."""
        shape = (*pair(self.kernel_size, "kernel_size"), x.shape[-1], self.features // self.groups)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        out = ops.conv_transpose(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
        )
        return _add_bias(self, out)


def _add_bias(module: Conv | ConvTranspose, x: jax.Array) -> jax.Array:
    if not module.use_bias:
        return x
    bias = module.param("bias", module.bias_init, (module.features,), jnp.float32)
    return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)
