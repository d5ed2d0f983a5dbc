"""SegNet-Basic and its FCN twin (Badrinarayanan, Kendall, Cipolla 2017, arXiv:1511.00561, sections 3.1, 3.3, Table 1).

A small encoder of four 7x7 convolutions with 64 channels, each followed by a 2x2 max-pool that rounds up, under two
decoders: SegNet's, which puts the values back where the pools found them, and FCN's, which upsamples class scores and
adds the encoder's. Layer names and biases are those of the authors' released networks (alexgkendall/SegNet-Tutorial);
the image enters as BGR from 0 to 255 with no mean subtracted and is normalised across channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Shaped

from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import RAW_BGR, Standardize
from jaxseg.ops.conv import bilinear_kernel
from jaxseg.ops.lrn import local_response_norm
from jaxseg.ops.pool import max_pool_with_switches, max_unpool
from jaxseg.registry import register

Map = Float[Array, "b _ _ _"]
Switches = Int8[Array, "b _ _ _"]


class SegNetBasic(nn.Module):
    """SegNet-Basic (Figure 2 in small): the decoder unpools by the encoder's switches, convolves, and has no ReLU.

    Attributes:
      num_classes: channels of the logits.
      width: channels of every layer.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    width: int = 64
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w 3"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB of any size: each unpooling restores the size before its pool."""
        x, encoder = _encode(self, image, train=train)
        for level in (4, 3, 2, 1):
            before, _, switches = encoder[level]
            x = max_unpool(x, switches, 2, size=before)
            x = _conv_norm(self, f"conv_decode{level}", x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)
        return {"logits": x.astype(jnp.float32)}


class FCNBasic(nn.Module):
    """FCN-Basic: each pool is reduced to the classes by a 1x1 convolution; scores are upsampled by 8x8 transposed
    convolutions, bilinear at first and learned, and summed with the reduced pool of that size.

    Attributes:
      num_classes: channels of the logits.
      width: channels of the encoder.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    width: int = 64
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w 3"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB of any size."""
        x, encoder = _encode(self, image, train=train)
        score = Conv(self.num_classes, 1, dtype=self.dtype, name="score4")(x)
        for level in (4, 3, 2, 1):
            (rows, columns), _, _ = encoder[level]
            up = ConvTranspose(
                self.num_classes,
                8,
                stride=2,
                padding=3,
                use_bias=False,
                kernel_init=_tent,
                dtype=self.dtype,
                name=f"upscore{level}",
            )
            score = up(score)[:, :rows, :columns]
            if level > 1:
                _, pooled, _ = encoder[level - 1]
                score = score + Conv(self.num_classes, 1, dtype=self.dtype, name=f"score{level - 1}")(pooled)
        return {"logits": score.astype(jnp.float32)}


Net = SegNetBasic | FCNBasic
Level = tuple[tuple[int, int], Map, Switches]


def _encode(net: Net, image: Shaped[Array, "b h w 3"], *, train: bool) -> tuple[Map, dict[int, Level]]:
    """The last pooled map, and for each level 1 to 4 the size before its pool, the pooled map and the switches."""
    x = local_response_norm(net.standardize(image), size=5, alpha=1e-4, beta=0.75).astype(net.dtype)
    levels = {}
    for level in (1, 2, 3, 4):
        x = jax.nn.relu(_conv_norm(net, f"conv{level}", x, train=train))
        before = (x.shape[1], x.shape[2])
        x, switches = max_pool_with_switches(x, 2, ceil_mode=True)
        levels[level] = (before, x, switches)
    return x, levels


def _conv_norm(net: Net, name: str, x: Map, *, train: bool) -> Map:
    x = Conv(net.width, 7, padding=3, dtype=net.dtype, name=name, parent=net)(x)
    shift = nn.initializers.constant(0.001)
    return BatchNorm(bias_init=shift, dtype=net.dtype, name=f"{name}_norm", parent=net)(x, train=train)


def _tent(_key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
    """The bilinear kernel of that size, scaled so that upsampling by two keeps a constant map constant.

    An 8x8 bilinear kernel belongs to stride 4; at stride 2 four times as many of its taps meet in a pixel.
    """
    return (bilinear_kernel(shape[0], shape[2]) / 4).astype(dtype)


@register(task="semantic", paper="arXiv:1511.00561", params=1_416_587)
def segnet_basic(
    num_classes: int = 11,
    width: int = 64,
    standardize: Standardize = RAW_BGR,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegNetBasic:
    """SegNet-Basic: four 7x7 encoders, four 7x7 decoders behind max-unpooling; 1.417 M parameters."""
    return SegNetBasic(num_classes=num_classes, width=width, standardize=standardize, dtype=dtype)


@register(task="semantic", paper="arXiv:1511.00561")
def fcn_basic(
    num_classes: int = 11,
    width: int = 64,
    standardize: Standardize = RAW_BGR,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCNBasic:
    """FCN-Basic: SegNet-Basic's encoder under FCN's decoder; 0.65 M parameters."""
    return FCNBasic(num_classes=num_classes, width=width, standardize=standardize, dtype=dtype)
