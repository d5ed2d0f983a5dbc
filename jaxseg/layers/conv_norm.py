"""Convolution without bias, followed by a normalisation."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.layers.conv import Conv, Initializer, he_normal
from jaxseg.layers.norm import make_norm
from jaxseg.types import Rules


class ConvNorm(nn.Module):
    """Convolve, keeping the size of the map (divided by ``stride``), and normalise; no activation.

    >>> layer, x = ConvNorm(16, 3, stride=2), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: layer.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 4, 4, 16)

    Attributes:
      features: channels of the result.
      kernel_size: odd; the padding is ``dilation * (kernel_size // 2)``.
      stride: of the convolution.
      dilation: of the convolution.
      groups: of the convolution; equal to the number of channels it is depthwise.
      use_bias: of the convolution.
      norm: "batch", "group", "instance", "layer" or "none".
      epsilon: of the normalisation; None for its default.
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
        """Return the normalised map of ``features`` channels."""
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
    r"""Return rename rules from a torch convolution and BatchNorm to ``path/conv`` and ``path/norm``.

    >>> torch_names("stem", "conv1")[0]
    ('stem\\.0\\.weight', 'conv1/conv/kernel')

    Args:
      source: regex of the module's name; ``path`` may use its groups.
      path: of the pair.
      conv: name of the convolution in the module; by default its position in a ``Sequential``.
      norm: of the normalisation.
      transposed: the convolution is transposed.
    """
    return (
        (rf"{source}\.{conv}\.weight", f"{path}/conv/kernel" + "|iohw" * transposed),
        (rf"{source}\.{conv}\.bias", f"{path}/conv/bias"),
        (rf"{source}\.{norm}\.weight", f"{path}/norm/scale"),
        (rf"{source}\.{norm}\.bias", f"{path}/norm/bias"),
        (rf"{source}\.{norm}\.running_mean", f"{path}/norm/mean"),
        (rf"{source}\.{norm}\.running_var", f"{path}/norm/var"),
    )
