"""DeepLab v3+: a decoder over the pyramid of v3 (Chen et al. 2018, arXiv:1802.02611).

The pyramid is resized to a map of stride 4, joined with 48 channels of it, and refined. ``deeplabv3plus_smp_*`` and
``deeplabv3plus_mobilenet_v2`` are segmentation_models_pytorch's reading, the others the paper's.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxseg.backbones import mobilenet, resnet, xception
from jaxseg.layers.conv import Conv
from jaxseg.layers.encoder_decoder import AuxParams, ImageHead, depth_of
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic.deeplabv3 import ASPP, ConvNormRelu, conv_norm, conv_of, inside, rules_of_norm
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules


class DeepLabV3Plus(nn.Module):
    """The pyramid, resized to a map of stride 4 and joined with it; logits from there, resized to the image.

    Both resizes keep corners on corners, as in the authors' code.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("deeplabv3plus_xception65"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: of output stride 16 or 8.
      num_classes: channels of the logits.
      rates: dilations of the pyramid: (6, 12, 18) at output stride 16, twice that at 8.
      kind: of the 3x3 convolutions, see :data:`jaxseg.models.semantic.deeplabv3.KINDS`.
      features: channels of each branch, of what joins them and of the decoder.
      low_features: to how many channels the finer map is reduced.
      refinements: 3x3 convolutions between the pyramid and the decoder: none in the paper.
      decoders: 3x3 convolutions of the decoder: two in the paper.
      dropout: rate after the pyramid.
      depth: the map under the pyramid, counted from 1.
      image_head: classifies the image as a whole from that map; None for none.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 21
    rates: tuple[int, ...] = (6, 12, 18)
    kind: str = "full"
    features: int = 256
    low_features: int = 48
    refinements: int = 0
    decoders: int = 2
    dropout: float = 0.1
    depth: int = 5
    image_head: ImageHead | None = None
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size; with an image head also ``"image_logits"``,
        ``f32[b k]``.
        """
        conv = partial(conv_of(self.kind), self.features, 3, dtype=self.dtype)
        maps = self.backbone(image, train=train)
        pyramid = ASPP(self.features, self.rates, self.kind, dropout=self.dropout, dtype=self.dtype, name="aspp")
        last = maps[f"c{self.depth}"]
        x = pyramid(last, train=train)
        for i in range(1, self.refinements + 1):
            x = conv(name=f"refine{i}")(x, train=train)
        low = ConvNormRelu(self.low_features, 1, dtype=self.dtype, name="low")(maps["c2"], train=train)
        x = resize_bilinear(x, (low.shape[1], low.shape[2]), align_corners=True)
        x = jnp.concatenate([x, low], -1)
        for i in range(1, self.decoders + 1):
            x = conv(name=f"decode{i}")(x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        logits = resize_bilinear(x, (image.shape[1], image.shape[2]), align_corners=True)
        outputs = {"logits": logits.astype(jnp.float32)}
        if self.image_head is not None:
            outputs["image_logits"] = self.image_head(last, train=train, dtype=self.dtype)
        return outputs


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_channels: int = 256,
    decoder_atrous_rates: tuple[int, ...] = (12, 24, 36),
    decoder_aspp_dropout: float = 0.5,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """Build segmentation-models-pytorch's reading on a backbone, with its options.

    >>> on_backbone(resnet.resnet(18, output_stride=16), decoder_channels=64).features
    64

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``, of output stride 16 or 8.
      num_classes: channels of the logits.
      encoder_depth: the map under the pyramid, counted from 1.
      decoder_channels: of each branch of the pyramid and of the decoder.
      decoder_atrous_rates: dilations of the pyramid.
      decoder_aspp_dropout: rate after the pyramid.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return DeepLabV3Plus(
        backbone=backbone,
        num_classes=num_classes,
        rates=decoder_atrous_rates,
        kind="separable_plain",
        features=decoder_channels,
        refinements=1,
        decoders=1,
        dropout=decoder_aspp_dropout,
        depth=depth_of(encoder_depth, least=3),
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


def _separable(source: str, path: str, conv: str = "0", norm: str = "1") -> Rules:
    return (
        (rf"{source}\.{conv}\.0\.weight", f"{path}/depthwise/kernel"),
        (rf"{source}\.{conv}\.1\.weight", f"{path}/pointwise/kernel"),
        *rules_of_norm(rf"{source}\.{norm}", f"{path}/norm"),
    )


SMP_NAMES: Rules = (
    *inside("encoder", resnet.TORCHVISION_NAMES),
    *inside("encoder", mobilenet.TORCHVISION_V2_NAMES),
    *conv_norm(r"decoder\.aspp\.0\.convs\.0", "aspp/point"),
    *conv_norm(r"decoder\.aspp\.0\.convs\.4", "aspp/pool", "1", "2"),
    *_separable(r"decoder\.aspp\.0\.convs\.(\d)", r"aspp/atrous\1"),
    *conv_norm(r"decoder\.aspp\.0\.project", "aspp/project"),
    *_separable(r"decoder\.aspp", "refine1", "1", "2"),
    *conv_norm(r"decoder\.block1", "low"),
    *_separable(r"decoder\.block2", "decode1"),
    (r"segmentation_head\.0\.weight", "classifier/kernel"),
    (r"segmentation_head\.0\.bias", "classifier/bias"),
    (r"classification_head\.3\.weight", "image_classifier/kernel|dense"),
    (r"classification_head\.3\.bias", "image_classifier/bias"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from segmentation_models_pytorch's state dict to the paths of :class:`DeepLabV3Plus`."""


def _v3plus_resnet(
    layers: int,
    num_classes: int,
    width: int,
    features: int,
    output_stride: int,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> DeepLabV3Plus:
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(layers, width=width, output_stride=output_stride, multi_grid=(1, 2, 4), **options)
    rates = tuple(16 // output_stride * rate for rate in (6, 12, 18))
    return DeepLabV3Plus(backbone=backbone, num_classes=num_classes, rates=rates, features=features, dtype=dtype)


@register(task="semantic", paper="arXiv:1802.02611")
def deeplabv3plus_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 16,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-50: multi-grid (1, 2, 4), full convolutions, two of them in the decoder."""
    return _v3plus_resnet(50, num_classes, width, features, output_stride, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1802.02611")
def deeplabv3plus_resnet101(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 16,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-101: multi-grid (1, 2, 4), full convolutions, two of them in the decoder."""
    return _v3plus_resnet(101, num_classes, width, features, output_stride, in_channels, standardize, dtype)


@register(
    task="semantic",
    paper="arXiv:1802.02611",
    rounded="41.06 M",
    small={
        "output_stride": 8,
        "backbone.blocks": (xception.Flow((4, 4, 8), 2), xception.Flow((8, 8, 16), 2, skip=False)),
        "backbone.stem": (4, 8),
        "rates": (2,),
        "features": 8,
        "low_features": 4,
        "decoders": 1,
    },
    overfit=Overfit(),
)
def deeplabv3plus_xception65(
    num_classes: int = 21,
    width: float = 1.0,
    middle: int = 16,
    features: int = 256,
    output_stride: int = 16,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on Xception-65: separable convolutions in the pyramid and the decoder too."""
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    return DeepLabV3Plus(
        backbone=xception.xception(width=width, middle=middle, output_stride=output_stride, **options),
        num_classes=num_classes,
        rates=tuple(16 // output_stride * rate for rate in (6, 12, 18)),
        kind="separable",
        features=features,
        dtype=dtype,
    )


@register(task="semantic", paper="arXiv:1802.02611", params=26_682_725, names={"smp": SMP_NAMES})
def deeplabv3plus_smp_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-50 as segmentation_models_pytorch has it, output stride 16."""
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(50, width=width, output_stride=16, multi_grid=(1, 1, 1), **options)
    return on_backbone(backbone, num_classes, decoder_channels=features, dtype=dtype)


@register(task="semantic", paper="arXiv:1802.02611", params=45_674_853, names={"smp": SMP_NAMES})
def deeplabv3plus_smp_resnet101(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-101 as segmentation_models_pytorch has it, output stride 16."""
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(101, width=width, output_stride=16, multi_grid=(1, 1, 1), **options)
    return on_backbone(backbone, num_classes, decoder_channels=features, dtype=dtype)


@register(task="semantic", paper="arXiv:1802.02611", params=4_383_653, names={"smp": SMP_NAMES})
def deeplabv3plus_mobilenet_v2(
    num_classes: int = 21,
    width: float = 1.0,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on MobileNetV2 as segmentation_models_pytorch has it, output stride 16."""
    backbone = mobilenet.mobilenet_v2(
        width=width,
        output_stride=16,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return on_backbone(backbone, num_classes, decoder_channels=features, dtype=dtype)
