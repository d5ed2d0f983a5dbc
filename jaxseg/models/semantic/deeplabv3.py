"""DeepLab v3: atrous spatial pyramid pooling on a dilated backbone (Chen et al. 2017, arXiv:1706.05587).

Five branches side by side: 1x1, three dilated 3x3, the image's mean. The networks are torchvision's; their options give
the paper's.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mobilenet, resnet
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic.fcn import FCNHead
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class DeepLabV3(nn.Module):
    """Logits from the pyramid on ``c5``, resized to the image.

    >>> from jaxseg.backbones.resnet import ResNet
    >>> backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8)
    >>> net, image = DeepLabV3(backbone, num_classes=3, features=8), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 32, 32, 3)

    Attributes:
      backbone: of output stride 16 or 8.
      num_classes: channels of the logits.
      rates: dilations of the pyramid: (6, 12, 18) at output stride 16, twice that at 8.
      features: channels of each branch and of what joins them.
      refinements: 3x3 convolutions between the pyramid and the classifier: none in the paper, one in torchvision.
      auxiliary: the map under an auxiliary FCN head for training, "" for none.
      dropout: rate after the pyramid.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 21
    rates: tuple[int, ...] = (12, 24, 36)
    features: int = 256
    refinements: int = 1
    auxiliary: str = "c4"
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, with ``train=True`` perhaps also
        ``"aux_logits"``.
        """
        maps = self.backbone(image, train=train)
        x = ASPP(self.features, self.rates, dropout=self.dropout, dtype=self.dtype, name="aspp")(
            maps["c5"], train=train
        )
        for i in range(1, self.refinements + 1):
            x = ConvNormRelu(self.features, 3, dtype=self.dtype, name=f"refine{i}")(x, train=train)
        outputs = {"logits": Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)}
        if self.auxiliary and (train or self.is_initializing()):
            aux = FCNHead(self.num_classes, dtype=self.dtype, name="aux_head")
            outputs["aux_logits"] = aux(maps[self.auxiliary], train=train)
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size).astype(jnp.float32) for key, x in outputs.items()}


class DeepLabV3Decoder(nn.Module):
    """The pyramid on ``c5`` and one 3x3 convolution, the decoder of segmentation-models-pytorch's DeepLabV3 for
    :class:`jaxseg.layers.encoder_decoder.EncoderDecoder`.

    >>> decoder, maps = DeepLabV3Decoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 2, 2, 256)

    Attributes:
      features: channels of each branch and of the map.
      rates: dilations of the pyramid.
      kind: of its 3x3 convolutions, see :data:`KINDS`.
      dropout: rate after the pyramid.
      dtype: compute dtype.
    """

    features: int = 256
    rates: tuple[int, ...] = (12, 24, 36)
    kind: str = "full"
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}`` to a map of ``features`` channels at the resolution of the last."""
        pyramid = ASPP(self.features, self.rates, self.kind, dropout=self.dropout, dtype=self.dtype, name="aspp")
        x = pyramid(maps[f"c{last_level(maps)}"], train=train)
        return ConvNormRelu(self.features, 3, dtype=self.dtype, name="refine")(x, train=train)


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 8,
    decoder_channels: int = 256,
    decoder_atrous_rates: tuple[int, ...] = (12, 24, 36),
    decoder_aspp_dropout: float = 0.5,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put segmentation-models-pytorch's decoder on a backbone, with its options.

    >>> on_backbone(resnet.resnet(18, output_stride=8), decoder_channels=64).decoder.features
    64

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: the map under the pyramid, counted from 1.
      encoder_output_stride: of the backbone, 8 or 16.
      decoder_channels: of each branch of the pyramid.
      decoder_atrous_rates: dilations of the pyramid.
      decoder_aspp_dropout: rate after the pyramid.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    decoder = DeepLabV3Decoder(decoder_channels, decoder_atrous_rates, dropout=decoder_aspp_dropout, dtype=dtype)
    return EncoderDecoder(
        backbone=backbone,
        decoder=decoder,
        num_classes=num_classes,
        kernel_size=1,
        multiple=min(encoder_output_stride, 2 ** depth_of(encoder_depth, least=3)),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (v3, figure 5): branches side by side, joined by a 1x1 convolution, dropout.

    >>> block, x = ASPP(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 256)
    """

    features: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    kind: str = "full"
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels at the resolution of ``x``."""
        point = partial(ConvNormRelu, self.features, 1, dtype=self.dtype)
        wide = partial(conv_of(self.kind), self.features, 3, dtype=self.dtype)
        branches = [point(name="point")(x, train=train)]
        for i, rate in enumerate(self.rates, 1):
            branches.append(wide(dilation=rate, name=f"atrous{i}")(x, train=train))
        mean = point(name="pool")(jnp.mean(x, axis=(1, 2), keepdims=True), train=train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = point(name="project")(jnp.concatenate(branches, -1), train=train)
        return Dropout(self.dropout, name="dropout")(x, train=train)


class ConvNormRelu(nn.Module):
    """Convolution that keeps the size, BatchNorm, ReLU.

    >>> block, x = ConvNormRelu(features=8, kernel_size=3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    kernel_size: int
    dilation: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        x = _conv(self, self.features, self.kernel_size, "conv", dilation=self.dilation)(x)
        return jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))


class SeparableConv(nn.Module):
    """The same in two: depthwise, then pointwise; BatchNorm and ReLU after the second, or after both.

    >>> block, x = SeparableConv(features=8, kernel_size=3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    kernel_size: int
    dilation: int = 1
    inner: bool = True
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        c = x.shape[-1]
        x = _conv(self, c, self.kernel_size, "depthwise", dilation=self.dilation, groups=c)(x)
        if self.inner:
            x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm_depthwise")(x, train=train))
        x = _conv(self, self.features, 1, "pointwise")(x)
        return jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))


def _conv(
    parent: ConvNormRelu | SeparableConv, features: int, size: int, name: str, dilation: int = 1, groups: int = 1
) -> Conv:
    return Conv(
        features,
        size,
        padding=dilation * (size // 2),
        dilation=dilation,
        groups=groups,
        use_bias=False,
        dtype=parent.dtype,
        name=name,
        parent=parent,
    )


KINDS: dict[str, Callable[..., nn.Module]] = {
    "full": ConvNormRelu,
    "separable": SeparableConv,
    "separable_plain": partial(SeparableConv, inner=False),
}
"""3x3 convolutions of v3+: full; separable as in the authors' code; separable with nothing in between."""


def conv_of(kind: str) -> Callable[..., nn.Module]:
    """Return the 3x3 convolution of a kind, see :data:`KINDS`.

    >>> conv_of("full").__name__
    'ConvNormRelu'

    Raises:
      BadInput: another name.
    """
    if kind not in KINDS:
        raise BadInput(f"no convolution is called {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind]


def rules_of_norm(source: str, path: str) -> Rules:
    """Return rename rules of a BatchNorm.

    >>> rules_of_norm("bn", "norm")[0][1]
    'norm/scale'
    """
    return (
        (rf"{source}\.weight", f"{path}/scale"),
        (rf"{source}\.bias", f"{path}/bias"),
        (rf"{source}\.running_mean", f"{path}/mean"),
        (rf"{source}\.running_var", f"{path}/var"),
    )


def conv_norm(source: str, path: str, conv: str = "0", norm: str = "1") -> Rules:
    """Return rename rules of a convolution and its BatchNorm, by their numbers in a Sequential.

    >>> conv_norm("stem", "stem")[0][1]
    'stem/conv/kernel'
    """
    return ((rf"{source}\.{conv}\.weight", f"{path}/conv/kernel"), *rules_of_norm(rf"{source}\.{norm}", f"{path}/norm"))


def inside(prefix: str, rules: Rules) -> Rules:
    """Return a backbone's rules where it is part of a network that calls it ``prefix``.

    >>> inside("backbone", (("conv1", "conv1"),))[0][1]
    'backbone/conv1'
    """
    return tuple((rf"{prefix}\.{name}", path and f"backbone/{path}") for name, path in rules)


# torchvision cuts a MobileNet out of its Sequential "features", whose name is lost.
_MOBILENET_NAMES = tuple((name.replace(r"features\.", "", 1), path) for name, path in mobilenet.TORCHVISION_V3_NAMES)

TORCHVISION_NAMES: Rules = (
    *inside("backbone", resnet.TORCHVISION_NAMES),
    *inside("backbone", _MOBILENET_NAMES),
    *conv_norm(r"classifier\.0\.convs\.0", "aspp/point"),
    *conv_norm(r"classifier\.0\.convs\.4", "aspp/pool", "1", "2"),
    *conv_norm(r"classifier\.0\.convs\.(\d)", r"aspp/atrous\1"),
    *conv_norm(r"classifier\.0\.project", "aspp/project"),
    *conv_norm("classifier", "refine1", "1", "2"),
    *((rf"classifier\.4\.{leaf}", f"classifier/{path}") for leaf, path in (("weight", "kernel"), ("bias", "bias"))),
    *conv_norm("aux_classifier", "aux_head"),
    *(
        (rf"aux_classifier\.4\.{leaf}", f"aux_head/classifier/{to}")
        for leaf, to in (("weight", "kernel"), ("bias", "bias"))
    ),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's state dict to the paths of :class:`DeepLabV3`; None leaves an entry out."""

SMP_NAMES: Rules = smp_names(
    (*resnet.TORCHVISION_NAMES, *mobilenet.TORCHVISION_V2_NAMES),
    (
        *conv_norm(r"decoder\.(?:aspp|0)\.convs\.0", "decoder/aspp/point"),
        *conv_norm(r"decoder\.(?:aspp|0)\.convs\.4", "decoder/aspp/pool", "1", "2"),
        *conv_norm(r"decoder\.(?:aspp|0)\.convs\.(\d)", r"decoder/aspp/atrous\1"),
        *conv_norm(r"decoder\.(?:aspp|0)\.project", "decoder/aspp/project"),
        *conv_norm("decoder", "decoder/refine", "(?:conv|1)", "(?:bn|2)"),
    ),
)
"""Rules from ``DeepLabV3`` of segmentation-models-pytorch, which numbered the decoder's layers before 0.4, to
:class:`DeepLabV3Decoder` in its ``EncoderDecoder``."""


def _v3_resnet(
    layers: int,
    num_classes: int,
    width: int,
    features: int,
    output_stride: int,
    multi_grid: tuple[int, ...],
    rates: tuple[int, ...],
    refinements: int,
    auxiliary: str,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> DeepLabV3:
    backbone = resnet.resnet(
        layers,
        width=width,
        output_stride=output_stride,
        multi_grid=multi_grid,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return DeepLabV3(
        backbone=backbone,
        num_classes=num_classes,
        rates=rates,
        features=features,
        refinements=refinements,
        auxiliary=auxiliary,
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1706.05587",
    params=42_004_074,
    names={"torchvision": TORCHVISION_NAMES},
    overfit=Overfit(
        fields={
            "width": 8,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "rates": (2, 4),
            "features": 8,
        }
    ),
)
def deeplabv3_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 8,
    multi_grid: tuple[int, ...] = (),
    rates: tuple[int, ...] = (12, 24, 36),
    refinements: int = 1,
    auxiliary: str = "c4",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on ResNet-50 as torchvision has it, auxiliary head included; options give the paper's."""
    head = (rates, refinements, auxiliary, in_channels, standardize, dtype)
    return _v3_resnet(50, num_classes, width, features, output_stride, multi_grid, *head)


@register(task="semantic", paper="arXiv:1706.05587", params=60_996_202, names={"torchvision": TORCHVISION_NAMES})
def deeplabv3_resnet101(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 8,
    multi_grid: tuple[int, ...] = (),
    rates: tuple[int, ...] = (12, 24, 36),
    refinements: int = 1,
    auxiliary: str = "c4",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on ResNet-101 as torchvision has it, auxiliary head included; options give the paper's."""
    head = (rates, refinements, auxiliary, in_channels, standardize, dtype)
    return _v3_resnet(101, num_classes, width, features, output_stride, multi_grid, *head)


@register(task="semantic", paper="arXiv:1706.05587", params=11_029_328, names={"torchvision": TORCHVISION_NAMES})
def deeplabv3_mobilenet_v3_large(
    num_classes: int = 21,
    width: float = 1.0,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on MobileNetV3 of output stride 16 as torchvision has it: rates of stride 8, auxiliary head on c3."""
    options = {"out_maps": "first", "in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = mobilenet.mobilenet_v3("large", width=width, output_stride=16, **options)
    return DeepLabV3(backbone=backbone, num_classes=num_classes, features=features, auxiliary="c3", dtype=dtype)
