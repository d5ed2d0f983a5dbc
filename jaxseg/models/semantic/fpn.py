"""Semantic FPN: a feature pyramid whose levels are enlarged to 1/4 and summed (Kirillov et al. 2019, arXiv:1901.02446).

The pyramid is that of Lin et al. 2017 (arXiv:1612.03144): 1x1 laterals and a top-down path. Figure 3 of the later paper
adds, on each level, as many steps of 3x3 convolution, group normalisation, ReLU and doubling as bring it to 1/4 of the
image. No 3x3 convolutions follow the sums of the pyramid, and doubling aligns corners, as in
segmentation-models-pytorch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import resnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_bilinear, resize_nearest
from jaxseg.ops.window import Extent
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class FPNDecoder(nn.Module):
    """The pyramid and the sum of its levels.

    >>> decoder, maps = FPNDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 128)

    Attributes:
      pyramid: channels of the pyramid.
      features: channels of the sum, a multiple of 32 (the groups of the normalisation).
      dropout: rate of whole channels at the end.
      dtype: compute dtype.
    """

    pyramid: int = 256
    features: int = 128
    dropout: float = 0.2
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c2".."c5"}`` to a map at the resolution of ``c2``; of fewer maps the last is what ``c5`` is here."""
        last = last_level(maps)
        maps = {f"c{k}": maps[f"c{last - 5 + k}"] for k in (5, 4, 3, 2)}
        size = (maps["c2"].shape[1], maps["c2"].shape[2])
        x = Conv(self.pyramid, 1, dtype=self.dtype, name="lateral5")(maps["c5"])
        total = self._level(5, x, size, train=train)
        for k in (4, 3, 2):
            lateral = Conv(self.pyramid, 1, dtype=self.dtype, name=f"lateral{k}")(maps[f"c{k}"])
            x = resize_nearest(x, (lateral.shape[1], lateral.shape[2])) + lateral
            total = total + self._level(k, x, size, train=train)
        return Dropout(self.dropout, spatial=True, name="dropout")(total, train=train)

    def _level(self, k: int, x: Map, size: Extent, *, train: bool) -> Map:
        for i in range(max(k - 2, 1)):
            step = ConvNorm(self.features, norm="group", dtype=self.dtype, name=f"level{k}_{i}")
            x = jax.nn.relu(step(x, train=train))
            if k > 2:
                doubled = (min(2 * x.shape[1], size[0]), min(2 * x.shape[2], size[1]))
                x = resize_bilinear(x, doubled, align_corners=True)
        return x


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_dropout: float = 0.2,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put the decoder on a backbone, with the options of segmentation-models-pytorch.

    >>> on_backbone(resnet.resnet(18), decoder_pyramid_channels=64).decoder.pyramid
    64

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps there are; the last four of them are used.
      decoder_pyramid_channels: of the pyramid.
      decoder_segmentation_channels: of the sum, a multiple of 32.
      decoder_dropout: rate of whole channels before the classifier.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return EncoderDecoder(
        backbone=backbone,
        decoder=FPNDecoder(decoder_pyramid_channels, decoder_segmentation_channels, decoder_dropout, dtype=dtype),
        num_classes=num_classes,
        kernel_size=1,
        multiple=2 ** depth_of(encoder_depth, least=4),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        (r"decoder\.p5\.weight", "decoder/lateral5/kernel"),
        (r"decoder\.p5\.bias", "decoder/lateral5/bias"),
        (r"decoder\.p(\d)\.skip_conv\.weight", r"decoder/lateral\1/kernel"),
        (r"decoder\.p(\d)\.skip_conv\.bias", r"decoder/lateral\1/bias"),
        *(
            rule
            for i, k in enumerate((5, 4, 3, 2))
            for rule in torch_names(rf"decoder\.seg_blocks\.{i}\.block\.(\d)\.block", rf"decoder/level{k}_\1")
        ),
    ),
)
"""Rules from ``FPN`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1901.02446",
    params=26_118_613,
    names={"smp": SMP_NAMES},
    small={
        "width": 8,
        "backbone.depths": (1, 1, 1, 1),
        "backbone.bottleneck": False,
        "decoder.pyramid": 8,
        "decoder.features": 32,
    },
    overfit=Overfit(),
)
def fpn_resnet50(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Semantic FPN on a ResNet-50."""
    return _on_resnet(50, num_classes, width, encoder_depth, aux_params, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1901.02446", params=45_110_741, names={"smp": SMP_NAMES})
def fpn_resnet101(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Semantic FPN on a ResNet-101."""
    return _on_resnet(101, num_classes, width, encoder_depth, aux_params, in_channels, standardize, dtype)


def _on_resnet(
    layers: int,
    num_classes: int,
    width: int,
    encoder_depth: int,
    aux_params: AuxParams,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> EncoderDecoder:
    backbone = resnet.resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)
