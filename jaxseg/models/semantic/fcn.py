"""FCN: fully convolutional networks for semantic segmentation (Long, Shelhamer, Darrell 2015, arXiv:1411.4038).

A VGG16 whose classifier is read as convolutions scores every 32nd pixel; coarse scores are upsampled bilinearly and
summed with scores of the finer pools. The geometry is that of the authors' public networks
(shelhamer/fcn.berkeleyvision.org): 100 pixels of padding at the first layer, so that any image, even of one pixel,
survives the 7x7 window of fc6, and crops that align each map with the image again.

``AlexNetFCN`` is FCN-32s on AlexNet. ``ResNetFCN`` is torchvision's network of the same name: a dilated ResNet, a small
head, one bilinear resize.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import resnet
from jaxseg.backbones.alexnet import AlexNet
from jaxseg.backbones.resnet import ResNet
from jaxseg.backbones.vgg import VGG, VGG16, VGGClassifier
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import CAFFE, IMAGENET, Standardize, statistics
from jaxseg.ops.conv import bilinear_kernel, caffe_crop
from jaxseg.ops.resize import resize_bilinear
from jaxseg.ops.window import Extent, symbolic
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class FCN(nn.Module):
    """FCN-32s, -16s or -8s (sections 4.1 and 4.2, Figure 3), by the number of skips.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("fcn8s_atonce_vgg16"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: VGG with ``first_padding=100`` and ``ceil_mode=True``.
      classifier: fc6 and fc7.
      num_classes: channels of the logits.
      skips: pools that are fused, coarse to fine: ``(4,)`` for 16s, ``(4, 3)`` for 8s.
      skip_scales: factor on each pool's features before they are scored; the at-once networks have 0.01 and 0.0001.
      learn_upsampling: whether the upsampling between fusions is learned from its bilinear start, as in the paper,
        or fixed, as in the authors' public networks. The last upsampling is fixed in both.
      dtype: compute dtype.
    """

    backbone: VGG
    classifier: VGGClassifier
    num_classes: int = 21
    skips: tuple[int, ...] = ()
    skip_scales: tuple[float, ...] = ()
    learn_upsampling: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        maps = self.backbone(image, train=train)
        x = self.classifier(maps["c5"], train=train)
        score = self._score("score_fr", x)
        stride = 32
        for pool, scale in zip(self.skips, self.skip_scales or (1.0,) * len(self.skips), strict=True):
            score = self._upsample(pool, score)
            stride //= 2
            finer = self._score(f"score_pool{pool}", maps[f"c{pool}"] * scale)
            score = score + caffe_crop(finer, (score.shape[1], score.shape[2]), SKIP_CROP[pool])
        size = (image.shape[1], image.shape[2])
        logits = upsample_bilinear(score, stride, offset=FINAL_CROP[stride], size=size)
        return {"logits": logits.astype(jnp.float32)}

    def _score(self, name: str, x: Map) -> Map:
        zeros = nn.initializers.zeros
        return Conv(self.num_classes, 1, kernel_init=zeros, dtype=self.dtype, name=name)(x)

    def _upsample(self, pool: int, score: Map) -> Map:
        if not self.learn_upsampling:
            return upsample_bilinear(score, 2)
        return ConvTranspose(
            self.num_classes,
            4,
            stride=2,
            use_bias=False,
            kernel_init=lambda _key, shape, _dtype: bilinear_kernel(shape[0], shape[2]),
            dtype=self.dtype,
            name=f"upscore_to_pool{pool}",
        )(score)


SKIP_CROP = {4: 5, 3: 9}
"""Where the scores of a pool are cropped to meet the upsampled coarser ones."""

FINAL_CROP = {32: 19, 16: 27, 8: 31}
"""Where the image begins in the scores upsampled by that stride."""


def upsample_bilinear(
    x: Map, factor: int, *, window: int | None = None, offset: int = 0, size: Extent | None = None
) -> Map:
    """Return the transposed convolution with a fixed bilinear kernel and stride ``factor``, then a crop.

    The kernel is the outer product of a line with itself and sees one class at a time, so that the whole is one small
    matrix for rows and one for columns.

    >>> upsample_bilinear(jnp.ones((1, 2, 2, 1)), 2, offset=1, size=(4, 4)).shape
    (1, 4, 4, 1)

    Args:
      x: maps.
      factor: of enlargement.
      window: side of the kernel, ``2 * factor`` by default; AlexNet's is one less, with its peak on a pixel.
      offset: first row and column that is kept.
      size: rows and columns that are kept; all of them, ``factor * (h - 1) + window``, by default.
    """
    window = 2 * factor if window is None else window
    half = (window + 1) // 2
    for axis in (1, 2):
        n = x.shape[axis]
        array = jnp if symbolic(n) else np
        rows = factor * (n - 1) + window if size is None else size[axis - 1]
        first = 0 if size is None else offset
        taps = first + array.arange(rows)[:, None] - factor * array.arange(n)[None]
        weights = array.maximum(1 - abs(taps.astype(np.float32) - (window - 1) / 2) / half, 0)
        product = jax.lax.dot_general(
            jnp.asarray(weights, x.dtype), x, (((1,), (axis,)), ((), ())), precision=jax.lax.Precision.HIGHEST
        )
        x = jnp.moveaxis(product, 0, axis)
    return x


class AlexNetFCN(nn.Module):
    """FCN-32s on AlexNet (section 4.1, Table 1): a kernel of 63 at stride 32, and a crop at 18.

    >>> backbone = AlexNet(widths=(4, 4, 4, 4, 4), first_padding=100)
    >>> net = AlexNetFCN(backbone, VGGClassifier(features=8, kernel_size=6), num_classes=3)
    >>> image = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 32, 32, 3)

    Attributes:
      backbone: AlexNet with ``first_padding=100``.
      classifier: fc6, 6x6 here, and fc7.
      num_classes: channels of the logits.
      dtype: compute dtype.
    """

    backbone: AlexNet
    classifier: VGGClassifier
    num_classes: int = 21
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        x = self.classifier(self.backbone(image, train=train)["c5"], train=train)
        zeros = nn.initializers.zeros
        x = Conv(self.num_classes, 1, kernel_init=zeros, dtype=self.dtype, name="score_fr")(x)
        size = (image.shape[1], image.shape[2])
        return {"logits": upsample_bilinear(x, 32, window=63, offset=18, size=size).astype(jnp.float32)}


class ResNetFCN(nn.Module):
    """torchvision's FCN: logits from ``c5`` of a dilated ResNet, auxiliary ones from ``c4``, resized to the image.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("fcn_resnet50"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ResNet with ``output_stride=8``.
      num_classes: channels of the logits.
      dropout: rate before each head's classifier.
      dtype: compute dtype.
    """

    backbone: ResNet
    num_classes: int = 21
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, with ``train=True`` also ``"aux_logits"``."""
        maps = self.backbone(image, train=train)
        head = partial(FCNHead, self.num_classes, dropout=self.dropout, dtype=self.dtype)
        outputs = {"logits": head(name="head")(maps["c5"], train=train)}
        aux = head(name="aux_head")
        if train or self.is_initializing():
            outputs["aux_logits"] = aux(maps["c4"], train=train)
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size).astype(jnp.float32) for key, x in outputs.items()}


class FCNHead(nn.Module):
    """3x3 convolution to a quarter of the channels, BatchNorm, ReLU, dropout, 1x1 classifier.

    >>> block, x = FCNHead(3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 3)
    """

    num_classes: int
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Scores at the resolution of ``x``."""
        x = Conv(x.shape[-1] // 4, 3, padding=1, use_bias=False, dtype=self.dtype, name="conv")(x)
        x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)


TORCHVISION_NAMES: Rules = (
    *((rf"backbone\.{name}", path and f"backbone/{path}") for name, path in resnet.TORCHVISION_NAMES),
    (r"(aux_)?classifier\.0\.weight", r"\1head/conv/kernel"),
    (r"(aux_)?classifier\.1\.weight", r"\1head/norm/scale"),
    (r"(aux_)?classifier\.1\.bias", r"\1head/norm/bias"),
    (r"(aux_)?classifier\.1\.running_(mean|var)", r"\1head/norm/\2"),
    (r"(aux_)?classifier\.4\.weight", r"\1head/classifier/kernel"),
    (r"(aux_)?classifier\.4\.bias", r"\1head/classifier/bias"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's state dict to the paths of :class:`ResNetFCN`; None leaves an entry out."""


def _vgg16(
    num_classes: int,
    skips: tuple[int, ...],
    skip_scales: tuple[float, ...],
    width: int,
    fc_features: int,
    learn_upsampling: bool,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> FCN:
    backbone = VGG(
        blocks=VGG16,
        width=width,
        first_padding=100,
        ceil_mode=True,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
    return FCN(
        backbone=backbone,
        classifier=VGGClassifier(fc_features, dtype=dtype),
        num_classes=num_classes,
        skips=skips,
        skip_scales=skip_scales,
        learn_upsampling=learn_upsampling,
        dtype=dtype,
    )


@register(task="semantic", paper="arXiv:1411.4038", params=134_346_581)
def fcn32s_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCN:
    """FCN-32s: VGG16 as convolutions, scores upsampled by 32 in one step."""
    return _vgg16(num_classes, (), (), width, fc_features, False, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1411.4038", params=134_357_354)
def fcn16s_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    learn_upsampling: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCN:
    """FCN-16s: one skip, from pool 4."""
    return _vgg16(num_classes, (4,), (1.0,), width, fc_features, learn_upsampling, in_channels, standardize, dtype)


@register(
    task="semantic",
    paper="arXiv:1411.4038",
    params=134_362_751,
    overfit=Overfit(learning_rate=3e-3, size=(32, 48), fields={"width": 8, "fc_features": 32, "standardize": IMAGENET}),
)
def fcn8s_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    learn_upsampling: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCN:
    """FCN-8s: two skips, from pools 4 and 3."""
    return _vgg16(
        num_classes, (4, 3), (1.0, 1.0), width, fc_features, learn_upsampling, in_channels, standardize, dtype
    )


@register(
    task="semantic",
    paper="arXiv:1605.06211",
    params=134_362_751,
    small={"width": 8, "fc_features": 8},
)
def fcn8s_atonce_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    learn_upsampling: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCN:
    """FCN-8s trained in one stage: its pools are scaled by 0.01 and 0.0001 instead of entering one after the other."""
    return _vgg16(
        num_classes, (4, 3), (0.01, 0.0001), width, fc_features, learn_upsampling, in_channels, standardize, dtype
    )


@register(
    task="semantic",
    paper="arXiv:1411.4038",
    params=56_954_261,
    overfit=Overfit(
        steps=100,
        learning_rate=3e-3,
        size=(96, 128),
        fields={"widths": (16, 16, 16, 16, 16), "fc_features": 32, "standardize": IMAGENET},
    ),
)
def fcn32s_alexnet(
    num_classes: int = 21,
    widths: tuple[int, ...] = (96, 256, 384, 384, 256),
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> AlexNetFCN:
    """FCN-AlexNet: AlexNet as convolutions, scores upsampled by 32 in one step."""
    backbone = AlexNet(
        widths=widths,
        first_padding=100,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
    classifier = VGGClassifier(fc_features, kernel_size=6, dtype=dtype)
    return AlexNetFCN(backbone=backbone, classifier=classifier, num_classes=num_classes, dtype=dtype)


@register(
    task="semantic",
    paper="arXiv:1411.4038",
    params=35_322_218,
    names={"torchvision": TORCHVISION_NAMES},
    small={"width": 4, "backbone.depths": (1, 1, 1, 1)},
    overfit=Overfit(),
)
def fcn_resnet50(
    num_classes: int = 21,
    width: int = 64,
    dropout: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ResNetFCN:
    """torchvision's FCN on a ResNet-50 of output stride 8, auxiliary head included."""
    backbone = resnet.resnet(
        50,
        width=width,
        output_stride=8,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return ResNetFCN(backbone=backbone, num_classes=num_classes, dropout=dropout, dtype=dtype)


@register(task="semantic", paper="arXiv:1411.4038", params=54_314_346, names={"torchvision": TORCHVISION_NAMES})
def fcn_resnet101(
    num_classes: int = 21,
    width: int = 64,
    dropout: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ResNetFCN:
    """torchvision's FCN on a ResNet-101 of output stride 8, auxiliary head included."""
    backbone = resnet.resnet(
        101,
        width=width,
        output_stride=8,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return ResNetFCN(backbone=backbone, num_classes=num_classes, dropout=dropout, dtype=dtype)
