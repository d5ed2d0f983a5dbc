"""The pair that most decoders are made of: a convolution without bias and its normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.layers.conv import Conv, Initializer, he_normal
from jaxseg.layers.norm import make_norm
from jaxseg.types import Rules


class ConvNorm(nn.Module):
    """A convolution that keeps the size of the map (divided by ``stride``), then a normalisation; no activation.

    Attributes:
      features: channels of the result.
      kernel_size: odd; the padding is ``dilation * (kernel_size // 2)``.
      stride: of the convolution.
      dilation: of the convolution.
      groups: of the convolution; the number of its channels makes it depthwise.
      use_bias: of the convolution.
      norm: "batch", "group", "instance", "layer" or "none".
      epsilon: of the normalisation; None takes its own.
      kernel_init: of the convolution.
      dtype: compute dtype.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    use_bias: bool = False
    norm: str = "batch"
    epsilon: float | None = None
    kernel_init: Initializer = he_normal
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b _ _ _"], *, train: bool) -> Float[Array, "b _ _ _"]:
        """The normalised map of ``features`` channels."""
        x = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding=self.dilation * (self.kernel_size // 2),
            dilation=self.dilation,
            groups=self.groups,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="conv",
        )(x)
        options = {} if self.epsilon is None else {"epsilon": self.epsilon}
        return make_norm(self.norm)(**options, dtype=self.dtype, name="norm")(x, train=train)


def torch_names(source: str, path: str, *, conv: str = "0", norm: str = "1", transposed: bool = False) -> Rules:
    """Rules from a torch module that holds a convolution and a BatchNorm to the pair ``path/conv``, ``path/norm``.

    Args:
      source: regex of the module's name; its groups may be used in ``path``.
      path: of the pair.
      conv: name of the convolution within the module; the position in a ``Sequential`` by default.
      norm: of the normalisation.
      transposed: whether the convolution is a transposed one.
    """
    return (
        (rf"{source}\.{conv}\.weight", f"{path}/conv/kernel" + "|iohw" * transposed),
        (rf"{source}\.{conv}\.bias", f"{path}/conv/bias"),
        (rf"{source}\.{norm}\.weight", f"{path}/norm/scale"),
        (rf"{source}\.{norm}\.bias", f"{path}/norm/bias"),
        (rf"{source}\.{norm}\.running_mean", f"{path}/norm/mean"),
        (rf"{source}\.{norm}\.running_var", f"{path}/norm/var"),
    )
