"""PAN: pyramid attention network for semantic segmentation (Li et al. 2018, arXiv:1805.10180), over any backbone.

Feature pyramid attention on ``c5``: a small hourglass of 7x7, 5x5 and 3x3 convolutions weighs each place, and a
globally pooled branch is added. Global attention upsampling then goes down to ``c2``: pooled high-level features weigh
the channels of the low-level ones. As in segmentation-models-pytorch the hourglass has one channel, and every
convolution has a bias beside its normalisation.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import resnet
from jaxseg.errors import BadInput
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class PANDecoder(nn.Module):
    """Attention over the pyramid, then upsampling by attention over the channels, down to ``c2``.

    >>> sides = {"c2": 64, "c3": 32, "c4": 16, "c5": 8}
    >>> net, maps = PANDecoder(features=4), {name: jnp.ones((1, side, side, 6)) for name, side in sides.items()}
    >>> jax.eval_shape(lambda key: net.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 64, 64, 4)

    Attributes:
      features: channels of all its maps.
      dtype: compute dtype.
    """

    features: int = 32
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c2".."c5"}``, the last of 8x8 cells or more, to a map at stride 4."""
        last = last_level(maps)
        x = PyramidAttention(self.features, dtype=self.dtype, name="attention")(maps[f"c{last}"], train=train)
        for k in range(last - 1, 1, -1):
            x = AttentionUpsample(self.features, dtype=self.dtype, name=f"up{k}")(maps[f"c{k}"], x, train=train)
        return x


class PyramidAttention(nn.Module):
    """Feature pyramid attention (Figure 3b).

    >>> block, x = PyramidAttention(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map of ``features`` channels, each place weighed, plus its global mean.

        Raises:
          BadInput: fewer than 8 rows or columns, which three poolings would leave empty.
        """
        h, w = x.shape[1:3]
        if min(h, w) < 8:
            raise BadInput(f"a map of {h}x{w} is too small for PAN's three poolings; it needs 8x8 cells or more")

        def step(name: str, x: Map, features: int, size: int) -> Map:
            pair = ConvNorm(features, size, use_bias=True, dtype=self.dtype, name=name)
            return jax.nn.relu(pair(x, train=train))

        mean = step("mean", jnp.mean(x, axis=(1, 2), keepdims=True), self.features, 1)
        middle = step("middle", x, self.features, 1)
        at2 = step("down1", max_pool(x, 2), 1, 7)
        at4 = step("down2", max_pool(at2, 2), 1, 5)
        at8 = step("down3_2", step("down3_1", max_pool(at4, 2), 1, 3), 1, 3)
        weight = resize_bilinear(at8, (h // 4, w // 4), align_corners=True) + step("lateral2", at4, 1, 5)
        weight = resize_bilinear(weight, (h // 2, w // 2), align_corners=True) + step("lateral1", at2, 1, 7)
        return resize_bilinear(weight, (h, w), align_corners=True) * middle + mean


class AttentionUpsample(nn.Module):
    """Global attention upsampling (Figure 4).

    >>> block, low, high = AttentionUpsample(4), jnp.ones((1, 8, 8, 6)), jnp.ones((1, 4, 4, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, low, high, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 4)
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, low: Map, high: Map, *, train: bool) -> Map:
        """Return the high-level map at the size of the low-level one, plus that one with its channels weighed."""
        weight = jnp.mean(high, axis=(1, 2), keepdims=True)
        weight = ConvNorm(self.features, 1, use_bias=True, dtype=self.dtype, name="gate")(weight, train=train)
        low = ConvNorm(self.features, 3, use_bias=True, dtype=self.dtype, name="low")(low, train=train)
        high = resize_bilinear(high, (low.shape[1], low.shape[2]), align_corners=True)
        return high + jax.nn.relu(low) * jax.nn.sigmoid(weight)


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 32,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put the decoder on a backbone, with the options of segmentation-models-pytorch.

    >>> on_backbone(resnet.resnet(18, output_stride=16)).least
    128

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      encoder_output_stride: of the backbone, 16 or 32.
      decoder_channels: of all maps of the decoder.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    multiple = min(encoder_output_stride, 2 ** depth_of(encoder_depth, least=3))
    return EncoderDecoder(
        backbone=backbone,
        decoder=PANDecoder(decoder_channels, dtype=dtype),
        num_classes=num_classes,
        multiple=multiple,
        least=8 * multiple,
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    tuple(
        rule
        for source, path in (
            (r"decoder\.fpa\.branch1\.1", "decoder/attention/mean"),
            (r"decoder\.fpa\.mid\.0", "decoder/attention/middle"),
            (r"decoder\.fpa\.down([12])\.1", r"decoder/attention/down\1"),
            (r"decoder\.fpa\.down3\.(\d)", r"decoder/attention/down3_\1"),
            (r"decoder\.fpa\.conv([12])", r"decoder/attention/lateral\1"),
            *((rf"decoder\.gau{i}\.conv1\.1", f"decoder/up{i + 1}/gate") for i in (1, 2, 3)),
            *((rf"decoder\.gau{i}\.conv2", f"decoder/up{i + 1}/low") for i in (1, 2, 3)),
        )
        for rule in torch_names(source, path, conv="conv", norm="bn")
    ),
)
"""Rules from ``PAN`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1805.10180",
    params=24_265_596,
    names={"smp": SMP_NAMES},
    overfit=Overfit(
        fields={
            "width": 8,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "backbone.multi_grid": (1,),
            "decoder.features": 8,
        }
    ),
)
def pan_resnet50(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """PAN on a ResNet-50 of output stride 16; images below 128 pixels are padded to that inside."""
    backbone = resnet.resnet(
        50,
        width=width,
        output_stride=16,
        multi_grid=(1, 1, 1),
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)
