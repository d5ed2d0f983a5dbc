"""DeepLab, the first two versions: Chen et al. 2015 (arXiv:1412.7062) and 2017 (arXiv:1606.00915).

v1 is VGG-16 at output stride 8 whose fc6 looks through a sparse 3x3 window of wide reach (LargeFOV); MSc adds small
perceptrons on the image and the pools. v2 looks through four such windows at once (ASPP), on VGG-16 or on ResNet-101,
the latter at three scales of the image whose scores are fused by their maximum. Layers as in the authors' Caffe
networks: 3x3 pools and ceil mode put cell i on pixel ``8 i``, from where the scores are enlarged bilinearly.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.resnet import ResNet, resnet
from jaxseg.backbones.vgg import VGG, VGG16
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import CAFFE, IMAGENET, Standardize, statistics
from jaxseg.ops.pool import avg_pool
from jaxseg.ops.resize import resize_anchored, resize_bilinear
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]

gaussian = nn.initializers.normal(0.01)
"""How the classifiers start."""


class LargeFOV(nn.Module):
    """fc6 as a dilated window, and fc7 (v1, section 3.1): features at the resolution of the map.

    >>> block, x = LargeFOV(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 1024)

    Attributes:
      features: channels of both layers.
      kernel_size: side of fc6's window.
      rate: its dilation; ``rate * (kernel_size - 1)`` must be even.
      dropout: rate after each layer.
      dtype: compute dtype.
    """

    features: int = 1024
    kernel_size: int = 3
    rate: int = 12
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map of fc7."""
        x = Conv(
            self.features,
            self.kernel_size,
            padding=self.rate * (self.kernel_size - 1) // 2,
            dilation=self.rate,
            dtype=self.dtype,
            name="fc6",
        )(x)
        x = Dropout(self.dropout, name="fc6_dropout")(jax.nn.relu(x), train=train)
        x = Conv(self.features, 1, dtype=self.dtype, name="fc7")(x)
        return Dropout(self.dropout, name="fc7_dropout")(jax.nn.relu(x), train=train)


class DeepLabV1(nn.Module):
    """DeepLab with one window (v1, Table 1, right).

    >>> backbone = VGG(blocks=(1, 1, 1, 1, 1), width=4, output_stride=8)
    >>> net, image = DeepLabV1(backbone, LargeFOV(features=8), num_classes=3), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 32, 32, 3)

    Attributes:
      backbone: VGG with ``output_stride=8``.
      fov: fc6 and fc7.
      num_classes: channels of the logits.
      dtype: compute dtype.
    """

    backbone: VGG
    fov: LargeFOV
    num_classes: int = 21
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        x = _smoothed(self.backbone(image, train=train)["c5"])
        x = self.fov(x, train=train)
        return _enlarged(_score(self, x), image)


class DeepLabMSc(nn.Module):
    """DeepLab with multi-scale features (v1, section 4.3): a perceptron of two layers looks at the image and at each of
    the first four pools, and its features stand beside those of fc7.

    >>> backbone = VGG(blocks=(1, 1, 1, 1, 1), width=4, output_stride=8, pool_size=3, ceil_mode=True)
    >>> net, image = DeepLabMSc(backbone, LargeFOV(features=8), mlp_features=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]
    >>> [name for name in sorted(params) if name.endswith("_conv")]
    ['image_conv', 'pool1_conv', 'pool2_conv', 'pool3_conv', 'pool4_conv']

    Attributes:
      backbone: VGG with ``output_stride=8``.
      fov: fc6 and fc7.
      num_classes: channels of the logits.
      mlp_features: channels of each perceptron's layers.
      dropout: rate after each of them.
      dtype: compute dtype.
    """

    backbone: VGG
    fov: LargeFOV
    num_classes: int = 21
    mlp_features: int = 128
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        maps = self.backbone(image, train=train)
        features = [self.fov(_smoothed(maps["c5"]), train=train)]
        pixels = self.backbone.standardize(image, self.in_channels)
        features.append(self._perceptron("image", pixels, 8, features[0], train=train))
        for k in (1, 2, 3, 4):
            features.append(self._perceptron(f"pool{k}", maps[f"c{k}"], max(8 >> k, 1), features[0], train=train))
        return _enlarged(_score(self, jnp.concatenate(features, axis=-1)), image)

    def _perceptron(self, name: str, x: Map, stride: int, like: Map, *, train: bool) -> Map:
        """Two layers, the first of which strides down to the cells of ``like``; pixels beyond the edge are zero."""
        ends = [(1, (m - 1) * stride + 2 - n) for m, n in zip(like.shape[1:3], x.shape[1:3], strict=True)]
        x = Conv(
            self.mlp_features, 3, stride=stride, padding=(ends[0], ends[1]), dtype=self.dtype, name=f"{name}_conv"
        )(x)
        x = Dropout(self.dropout, name=f"{name}_conv_dropout")(jax.nn.relu(x), train=train)
        x = Conv(self.mlp_features, 1, dtype=self.dtype, name=f"{name}_fc")(x)
        return Dropout(self.dropout, name=f"{name}_fc_dropout")(jax.nn.relu(x), train=train)


class DeepLabV2VGG(nn.Module):
    """Atrous spatial pyramid pooling on VGG (v2, section 3.2): the scores of several windows are summed.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("deeplabv2_vgg16"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: VGG with ``output_stride=8``.
      num_classes: channels of the logits.
      rates: of the windows: (6, 12, 18, 24) is ASPP-L, (2, 4, 8, 12) ASPP-S.
      features: channels of fc6 and fc7 in each branch.
      dtype: compute dtype.
    """

    backbone: VGG
    num_classes: int = 21
    rates: tuple[int, ...] = (6, 12, 18, 24)
    features: int = 1024
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        x = self.backbone(image, train=train)["c5"]
        scores = []
        for i, rate in enumerate(self.rates, 1):
            branch = LargeFOV(self.features, rate=rate, dtype=self.dtype, name=f"branch{i}")(x, train=train)
            scores.append(_score(self, branch, f"fc8_{i}"))
        return _enlarged(sum(scores[1:], start=scores[0]), image)


class DeepLabV2ResNet(nn.Module):
    """DeepLab v2 on a residual network, at several scales of the image (v2, section 4.1.2).

    The network runs on each scale; coarser scores are resized to the finest, and the largest counts. In training the
    scores of each scale come out too, for losses of their own.

    >>> backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8, stride_on="1x1", ceil_mode=True)
    >>> net, image = DeepLabV2ResNet(backbone, num_classes=3), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> train = jax.eval_shape(lambda key: net.init_with_output(key, image, train=True)[0], jax.random.key(0))
    >>> sorted(train)
    ['aux_logits_x0.5', 'aux_logits_x0.75', 'aux_logits_x1', 'logits']

    Attributes:
      backbone: ResNet with ``output_stride=8``, ``stride_on="1x1"`` and ``ceil_mode=True``. Its BatchNorm keeps its
        statistics in training too.
      num_classes: channels of the logits.
      rates: of the four windows whose scores are summed.
      scales: of the image, the finest first.
      dtype: compute dtype.
    """

    backbone: ResNet
    num_classes: int = 21
    rates: tuple[int, ...] = (6, 12, 18, 24)
    scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size.

        With ``train=True`` also ``"aux_logits_x1"`` and the like, one for each scale, where there are several.
        """
        head = SummedASPP(self.num_classes, self.rates, dtype=self.dtype, name="head")
        pixels, found = self.backbone.standardize.to_float(image), {}
        for scale in self.scales:
            size = (int((image.shape[1] - 1) * scale) + 1, int((image.shape[2] - 1) * scale) + 1)
            resized = resize_bilinear(pixels, size, align_corners=True)
            found[scale] = head(self.backbone(resized, train=False)["c5"])
        finest = found[self.scales[0]]
        grid = (finest.shape[1], finest.shape[2])
        found = {scale: resize_bilinear(x, grid, align_corners=True) for scale, x in found.items()}
        fused = finest
        for x in found.values():
            fused = jnp.maximum(fused, x)
        outputs = _enlarged(fused, image)
        if train and len(found) > 1:
            outputs.update({f"aux_logits_x{scale:g}": _enlarged(x, image)["logits"] for scale, x in found.items()})
        return outputs


class SummedASPP(nn.Module):
    """3x3 classifiers at several dilations, summed (v2, Figure 7).

    >>> head, x = SummedASPP(3, rates=(6, 12)), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: head.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 8, 8, 3)
    """

    num_classes: int
    rates: tuple[int, ...]
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Scores at the resolution of ``x``."""
        scores = [
            Conv(
                self.num_classes,
                3,
                padding=rate,
                dilation=rate,
                kernel_init=gaussian,
                dtype=self.dtype,
                name=f"classifier{i}",
            )(x)
            for i, rate in enumerate(self.rates, 1)
        ]
        return sum(scores[1:], start=scores[0])


Net = DeepLabV1 | DeepLabMSc | DeepLabV2VGG


def _score(net: Net, x: Map, name: str = "fc8") -> Map:
    return Conv(net.num_classes, 1, kernel_init=gaussian, dtype=net.dtype, name=name, parent=net)(x)


def _smoothed(x: Map) -> Map:
    """pool5a: the average of 3x3 cells, zeros beyond the edge."""
    return avg_pool(x, 3, stride=1, padding=1)


def _enlarged(scores: Map, image: Array) -> dict[str, Array]:
    return {"logits": resize_anchored(scores, 8, (image.shape[1], image.shape[2])).astype(jnp.float32)}


def _vgg16(width: int, in_channels: int, standardize: Standardize | None, dtype: jnp.dtype | type) -> VGG:
    return VGG(
        blocks=VGG16,
        width=width,
        output_stride=8,
        pool_size=3,
        ceil_mode=True,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1412.7062",
    params=20_505_429,
    overfit=Overfit(
        steps=100, learning_rate=3e-3, fields={"width": 8, "fc_features": 32, "standardize": IMAGENET, "rate": 2}
    ),
)
def deeplab_largefov_vgg16(
    num_classes: int = 21,
    width: int = 64,
    kernel_size: int = 3,
    rate: int = 12,
    fc_features: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV1:
    """DeepLab-LargeFOV (v1): VGG-16 at output stride 8, fc6 with 1024 filters of 3x3 at dilation 12.

    The paper's other windows are ``kernel_size=7, rate=4``, ``kernel_size=4, rate=4`` and ``kernel_size=4, rate=8``,
    each with ``fc_features=4096``.
    """
    fov = LargeFOV(fc_features, kernel_size=kernel_size, rate=rate, dtype=dtype)
    return DeepLabV1(
        backbone=_vgg16(width, in_channels, standardize, dtype), fov=fov, num_classes=num_classes, dtype=dtype
    )


@register(
    task="semantic",
    paper="arXiv:1412.7062",
    overfit=Overfit(
        learning_rate=3e-3, fields={"width": 8, "fc_features": 32, "standardize": IMAGENET, "mlp_features": 16}
    ),
)
def deeplab_msc_largefov_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 1024,
    mlp_features: int = 128,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabMSc:
    """DeepLab-MSc-LargeFOV (v1): perceptrons on the image and on pools 1 to 4 beside fc7."""
    return DeepLabMSc(
        backbone=_vgg16(width, in_channels, standardize, dtype),
        fov=LargeFOV(fc_features, dtype=dtype),
        num_classes=num_classes,
        mlp_features=mlp_features,
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1606.00915",
    rounded="37.9 M",
    small={"width": 4, "fc_features": 8, "rates": (6, 12)},
    overfit=Overfit(
        steps=100, learning_rate=3e-3, fields={"width": 8, "fc_features": 32, "standardize": IMAGENET, "rates": (2, 4)}
    ),
)
def deeplabv2_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 1024,
    rates: tuple[int, ...] = (6, 12, 18, 24),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV2VGG:
    """DeepLab v2 on VGG-16, ASPP-L: four windows of dilation 6, 12, 18 and 24, summed; 37.9 M parameters."""
    backbone = _vgg16(width, in_channels, standardize, dtype)
    return DeepLabV2VGG(backbone=backbone, num_classes=num_classes, rates=rates, features=fc_features, dtype=dtype)


@register(
    task="semantic",
    paper="arXiv:1606.00915",
    rounded="44.0 M",
    overfit=Overfit(
        fields={
            "width": 8,
            "standardize": IMAGENET,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "backbone.stride_on": "3x3",
            "rates": (2, 4),
            "scales": (1.0, 0.5),
        }
    ),
)
def deeplabv2_resnet101(
    num_classes: int = 21,
    width: int = 64,
    scales: tuple[float, ...] = (1.0, 0.75, 0.5),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV2ResNet:
    """DeepLab v2 on ResNet-101: four summed classifiers, three scales fused by their maximum; 44.0 M parameters."""
    backbone = resnet(
        101,
        width=width,
        output_stride=8,
        stride_on="1x1",
        ceil_mode=True,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
    return DeepLabV2ResNet(backbone=backbone, num_classes=num_classes, scales=scales, dtype=dtype)
