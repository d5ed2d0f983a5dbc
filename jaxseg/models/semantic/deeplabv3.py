"""DeepLab v3 (Chen et al. 2017, arXiv:1706.05587) and v3+ (Chen et al. 2018, arXiv:1802.02611).

v3: atrous spatial pyramid pooling on a dilated backbone, five branches: 1x1, three dilated 3x3, the image's mean. v3+
adds a decoder, which joins the upsampled pyramid with 48 channels of a map of stride 4. Heads with an auxiliary one are
torchvision's; ``deeplabv3plus_smp_*`` are segmentation_models_pytorch's reading of v3+.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mobilenet, resnet, xception
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import CENTRED, IMAGENET, Standardize
from jaxseg.models.semantic.fcn import FCNHead
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import register
from jaxseg.types import BadInput, Rules

Map = Float[Array, "b _ _ _"]


class DeepLabV3(nn.Module):
    """Logits from the pyramid on ``c5``, resized to the image.

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

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w 3"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB of any size, with ``train=True`` perhaps also ``"aux_logits"``."""
        maps = self.backbone(image, train=train)
        x = ASPP(self.features, self.rates, dropout=self.dropout, dtype=self.dtype, name="aspp")(
            maps["c5"], train=train
        )
        for i in range(1, self.refinements + 1):
            x = ConvNorm(self.features, 3, dtype=self.dtype, name=f"refine{i}")(x, train=train)
        outputs = {"logits": Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)}
        if self.auxiliary and (train or self.is_initializing()):
            aux = FCNHead(self.num_classes, dtype=self.dtype, name="aux_head")
            outputs["aux_logits"] = aux(maps[self.auxiliary], train=train)
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size).astype(jnp.float32) for key, x in outputs.items()}


class DeepLabV3Plus(nn.Module):
    """The pyramid, resized to a map of stride 4 and joined with it; logits from there, resized to the image.

    Both resizes keep corners on corners, as in the authors' code.

    Attributes:
      backbone: of output stride 16 or 8.
      num_classes: channels of the logits.
      rates: dilations of the pyramid: (6, 12, 18) at output stride 16, twice that at 8.
      kind: of the 3x3 convolutions, see :data:`KINDS`.
      features: channels of each branch, of what joins them and of the decoder.
      low_features: to how many channels the finer map is reduced.
      refinements: 3x3 convolutions between the pyramid and the decoder: none in the paper.
      decoders: 3x3 convolutions of the decoder: two in the paper.
      dropout: rate after the pyramid.
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
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w 3"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB of any size."""
        conv = partial(conv_of(self.kind), self.features, 3, dtype=self.dtype)
        maps = self.backbone(image, train=train)
        pyramid = ASPP(self.features, self.rates, self.kind, dropout=self.dropout, dtype=self.dtype, name="aspp")
        x = pyramid(maps["c5"], train=train)
        for i in range(1, self.refinements + 1):
            x = conv(name=f"refine{i}")(x, train=train)
        low = ConvNorm(self.low_features, 1, dtype=self.dtype, name="low")(maps["c2"], train=train)
        x = resize_bilinear(x, (low.shape[1], low.shape[2]), align_corners=True)
        x = jnp.concatenate([x, low], -1)
        for i in range(1, self.decoders + 1):
            x = conv(name=f"decode{i}")(x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        logits = resize_bilinear(x, (image.shape[1], image.shape[2]), align_corners=True)
        return {"logits": logits.astype(jnp.float32)}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (v3, figure 5): branches side by side, joined by a 1x1 convolution, dropout."""

    features: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    kind: str = "full"
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """A map of ``features`` channels at the resolution of ``x``."""
        point = partial(ConvNorm, self.features, 1, dtype=self.dtype)
        wide = partial(conv_of(self.kind), self.features, 3, dtype=self.dtype)
        branches = [point(name="point")(x, train=train)]
        for i, rate in enumerate(self.rates, 1):
            branches.append(wide(dilation=rate, name=f"atrous{i}")(x, train=train))
        mean = point(name="pool")(jnp.mean(x, axis=(1, 2), keepdims=True), train=train)
        branches.append(jnp.broadcast_to(mean, branches[0].shape))
        x = point(name="project")(jnp.concatenate(branches, -1), train=train)
        return Dropout(self.dropout, name="dropout")(x, train=train)


class ConvNorm(nn.Module):
    """Convolution that keeps the size, BatchNorm, ReLU."""

    features: int
    kernel_size: int
    dilation: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """A map of ``features`` channels."""
        x = _conv(self, self.features, self.kernel_size, "conv", dilation=self.dilation)(x)
        return jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))


class SeparableConv(nn.Module):
    """The same in two: depthwise, then pointwise; BatchNorm and ReLU after the second, or after both."""

    features: int
    kernel_size: int
    dilation: int = 1
    inner: bool = True
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """A map of ``features`` channels."""
        c = x.shape[-1]
        x = _conv(self, c, self.kernel_size, "depthwise", dilation=self.dilation, groups=c)(x)
        if self.inner:
            x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm_depthwise")(x, train=train))
        x = _conv(self, self.features, 1, "pointwise")(x)
        return jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))


def _conv(
    parent: ConvNorm | SeparableConv, features: int, size: int, name: str, dilation: int = 1, groups: int = 1
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
    "full": ConvNorm,
    "separable": SeparableConv,
    "separable_plain": partial(SeparableConv, inner=False),
}
"""3x3 convolutions of v3+: full; separable as in the authors' code; separable with nothing in between."""


def conv_of(kind: str) -> Callable[..., nn.Module]:
    """The 3x3 convolution of that name.

    Raises:
      BadInput: another name.
    """
    if kind not in KINDS:
        raise BadInput(f"no convolution is called {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind]


def _norm(source: str, path: str) -> Rules:
    return (
        (rf"{source}\.weight", f"{path}/scale"),
        (rf"{source}\.bias", f"{path}/bias"),
        (rf"{source}\.running_mean", f"{path}/mean"),
        (rf"{source}\.running_var", f"{path}/var"),
    )


def _conv_norm(source: str, path: str, conv: str = "0", norm: str = "1") -> Rules:
    return ((rf"{source}\.{conv}\.weight", f"{path}/conv/kernel"), *_norm(rf"{source}\.{norm}", f"{path}/norm"))


def _separable(source: str, path: str, conv: str = "0", norm: str = "1") -> Rules:
    return (
        (rf"{source}\.{conv}\.0\.weight", f"{path}/depthwise/kernel"),
        (rf"{source}\.{conv}\.1\.weight", f"{path}/pointwise/kernel"),
        *_norm(rf"{source}\.{norm}", f"{path}/norm"),
    )


def _inside(prefix: str, rules: Rules) -> Rules:
    return tuple((rf"{prefix}\.{name}", path and f"backbone/{path}") for name, path in rules)


# torchvision cuts a MobileNet out of its Sequential "features", whose name is lost.
_MOBILENET_NAMES = tuple((name.replace(r"features\.", "", 1), path) for name, path in mobilenet.TORCHVISION_NAMES)

TORCHVISION_NAMES: Rules = (
    *_inside("backbone", resnet.TORCHVISION_NAMES),
    *_inside("backbone", _MOBILENET_NAMES),
    *_conv_norm(r"classifier\.0\.convs\.0", "aspp/point"),
    *_conv_norm(r"classifier\.0\.convs\.4", "aspp/pool", "1", "2"),
    *_conv_norm(r"classifier\.0\.convs\.(\d)", r"aspp/atrous\1"),
    *_conv_norm(r"classifier\.0\.project", "aspp/project"),
    *_conv_norm("classifier", "refine1", "1", "2"),
    *((rf"classifier\.4\.{leaf}", f"classifier/{path}") for leaf, path in (("weight", "kernel"), ("bias", "bias"))),
    *_conv_norm("aux_classifier", "aux_head"),
    *(
        (rf"aux_classifier\.4\.{leaf}", f"aux_head/classifier/{to}")
        for leaf, to in (("weight", "kernel"), ("bias", "bias"))
    ),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's state dict to the paths of :class:`DeepLabV3`; None leaves an entry out."""

SMP_NAMES: Rules = (
    *_inside("encoder", resnet.TORCHVISION_NAMES),
    *_inside("encoder", mobilenet.TORCHVISION_NAMES),
    *_conv_norm(r"decoder\.aspp\.0\.convs\.0", "aspp/point"),
    *_conv_norm(r"decoder\.aspp\.0\.convs\.4", "aspp/pool", "1", "2"),
    *_separable(r"decoder\.aspp\.0\.convs\.(\d)", r"aspp/atrous\1"),
    *_conv_norm(r"decoder\.aspp\.0\.project", "aspp/project"),
    *_separable(r"decoder\.aspp", "refine1", "1", "2"),
    *_conv_norm(r"decoder\.block1", "low"),
    *_separable(r"decoder\.block2", "decode1"),
    (r"segmentation_head\.0\.weight", "classifier/kernel"),
    (r"segmentation_head\.0\.bias", "classifier/bias"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from segmentation_models_pytorch's state dict to the paths of :class:`DeepLabV3Plus`."""


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
    standardize: Standardize,
    dtype: jnp.dtype | type,
) -> DeepLabV3:
    backbone = resnet.resnet(
        layers,
        width=width,
        output_stride=output_stride,
        multi_grid=multi_grid,
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


@register(task="semantic", paper="arXiv:1706.05587", params=42_004_074, names={"torchvision": TORCHVISION_NAMES})
def deeplabv3_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 8,
    multi_grid: tuple[int, ...] = (),
    rates: tuple[int, ...] = (12, 24, 36),
    refinements: int = 1,
    auxiliary: str = "c4",
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on ResNet-50 as torchvision has it, auxiliary head included; options give the paper's."""
    head = (rates, refinements, auxiliary, standardize, dtype)
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
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on ResNet-101 as torchvision has it, auxiliary head included; options give the paper's."""
    head = (rates, refinements, auxiliary, standardize, dtype)
    return _v3_resnet(101, num_classes, width, features, output_stride, multi_grid, *head)


@register(task="semantic", paper="arXiv:1706.05587", params=11_029_328, names={"torchvision": TORCHVISION_NAMES})
def deeplabv3_mobilenet_v3_large(
    num_classes: int = 21,
    width: float = 1.0,
    features: int = 256,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3:
    """DeepLab v3 on MobileNetV3 of output stride 16 as torchvision has it: rates of stride 8, auxiliary head on c3."""
    options = {"taps": "first", "standardize": standardize, "dtype": dtype}
    backbone = mobilenet.mobilenet_v3("large", width=width, output_stride=16, **options)
    return DeepLabV3(backbone=backbone, num_classes=num_classes, features=features, auxiliary="c3", dtype=dtype)


def _v3plus_resnet(
    layers: int,
    num_classes: int,
    width: int,
    features: int,
    output_stride: int,
    standardize: Standardize,
    dtype: jnp.dtype | type,
) -> DeepLabV3Plus:
    options = {"standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(layers, width=width, output_stride=output_stride, multi_grid=(1, 2, 4), **options)
    rates = tuple(16 // output_stride * rate for rate in (6, 12, 18))
    return DeepLabV3Plus(backbone=backbone, num_classes=num_classes, rates=rates, features=features, dtype=dtype)


@register(task="semantic", paper="arXiv:1802.02611")
def deeplabv3plus_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 16,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-50: multi-grid (1, 2, 4), full convolutions, two of them in the decoder."""
    return _v3plus_resnet(50, num_classes, width, features, output_stride, standardize, dtype)


@register(task="semantic", paper="arXiv:1802.02611")
def deeplabv3plus_resnet101(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    output_stride: int = 16,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-101: multi-grid (1, 2, 4), full convolutions, two of them in the decoder."""
    return _v3plus_resnet(101, num_classes, width, features, output_stride, standardize, dtype)


@register(task="semantic", paper="arXiv:1802.02611")
def deeplabv3plus_xception65(
    num_classes: int = 21,
    width: float = 1.0,
    middle: int = 16,
    features: int = 256,
    output_stride: int = 16,
    standardize: Standardize = CENTRED,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on Xception-65: separable convolutions in the pyramid and the decoder too."""
    options = {"standardize": standardize, "dtype": dtype}
    return DeepLabV3Plus(
        backbone=xception.xception(width=width, middle=middle, output_stride=output_stride, **options),
        num_classes=num_classes,
        rates=tuple(16 // output_stride * rate for rate in (6, 12, 18)),
        kind="separable",
        features=features,
        dtype=dtype,
    )


def _v3plus_smp(backbone: nn.Module, num_classes: int, features: int, dtype: jnp.dtype | type) -> DeepLabV3Plus:
    return DeepLabV3Plus(
        backbone=backbone,
        num_classes=num_classes,
        rates=(12, 24, 36),
        kind="separable_plain",
        features=features,
        refinements=1,
        decoders=1,
        dropout=0.5,
        dtype=dtype,
    )


@register(task="semantic", paper="arXiv:1802.02611", names={"smp": SMP_NAMES})
def deeplabv3plus_smp_resnet50(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-50 as segmentation_models_pytorch has it, output stride 16."""
    options = {"standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(50, width=width, output_stride=16, multi_grid=(1, 1, 1), **options)
    return _v3plus_smp(backbone, num_classes, features, dtype)


@register(task="semantic", paper="arXiv:1802.02611", names={"smp": SMP_NAMES})
def deeplabv3plus_smp_resnet101(
    num_classes: int = 21,
    width: int = 64,
    features: int = 256,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on ResNet-101 as segmentation_models_pytorch has it, output stride 16."""
    options = {"standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(101, width=width, output_stride=16, multi_grid=(1, 1, 1), **options)
    return _v3plus_smp(backbone, num_classes, features, dtype)


@register(task="semantic", paper="arXiv:1802.02611", names={"smp": SMP_NAMES})
def deeplabv3plus_mobilenet_v2(
    num_classes: int = 21,
    width: float = 1.0,
    features: int = 256,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ on MobileNetV2 as segmentation_models_pytorch has it, output stride 16."""
    backbone = mobilenet.mobilenet_v2(width=width, output_stride=16, standardize=standardize, dtype=dtype)
    return _v3plus_smp(backbone, num_classes, features, dtype)
