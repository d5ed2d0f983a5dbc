"""Dilated convolutions: multi-scale context aggregation by dilated convolutions (Yu, Koltun 2016, arXiv:1511.07122).

Image, mirrored by 186 pixels -> VGG-16 without padding and without pools 4 and 5, dilated in their place -> scores of
every eighth pixel -> context module: 3x3 convolutions of growing dilation on the score maps -> bilinear enlargement.
The context module starts as the identity, so that it can be put behind any network (``with_context``). Geometry and
layers follow the authors' code (fyu/dilation).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.vgg import VGG, VGGClassifier
from jaxseg.errors import BadInput, suggest
from jaxseg.layers.conv import Conv
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.conv import bilinear_kernel, conv_transpose
from jaxseg.ops.resize import resize_anchored
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]

MARGIN = 186
"""Pixels that the front end's valid convolutions eat at each border."""


class Context(nn.Module):
    """The context module (section 3, Table 1): the receptive field grows with every layer, the resolution stays.

    >>> block, x = Context(3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 16, 16, 3)

    Attributes:
      num_classes: channels in and out.
      dilations: of the 3x3 convolutions; a 1x1 convolution without ReLU follows.
      widths: channels of each, in units of ``num_classes``.
      noise: deviation of the initial kernels around the identity, relative to its weights: 0 in the paper's equation
        for equal widths; with growing widths it breaks the ties between channels of one class.
      dtype: compute dtype.
    """

    num_classes: int
    dilations: tuple[int, ...] = (1, 1, 2, 4, 8, 16, 1)
    widths: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1)
    noise: float = 0.0
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Scores of the same shape; at the start ``max(x, 0)``."""
        init = identity(self.num_classes, self.noise)
        for i, (rate, width) in enumerate(zip(self.dilations, self.widths, strict=True), 1):
            x = Conv(
                width * self.num_classes,
                3,
                padding=rate,
                dilation=rate,
                kernel_init=init,
                dtype=self.dtype,
                name=f"conv{i}",
            )(x)
            x = jax.nn.relu(x)
        return Conv(self.num_classes, 1, kernel_init=init, dtype=self.dtype, name="final")(x)


def identity(classes: int, noise: float = 0.0) -> Callable[..., Array]:
    """Return the identity initialisation of equations 4 and 5, as ``(key, HWIO shape, dtype) -> kernel``.

    The centre tap from input channel a to output channel b is ``classes / outputs`` where both belong to one class,
    ``floor(a classes / inputs) == floor(b classes / outputs)``; everything else is normal with deviation
    ``noise * classes / outputs``. With as many channels as classes and no noise this is the unit matrix.

    >>> identity(2)(jax.random.key(0), (1, 1, 2, 2), jnp.float32)[0, 0, 0].tolist()
    [1.0, 0.0]
    """

    def initialize(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        rows, columns, inputs, outputs = shape
        weight = classes / outputs
        kernel = noise * weight * jax.random.normal(key, shape, dtype)
        of_input, of_output = jnp.arange(inputs) * classes // inputs, jnp.arange(outputs) * classes // outputs
        same = of_input.reshape(-1, 1) == of_output.reshape(1, -1)
        middle = (rows // 2, columns // 2)
        return kernel.at[middle].set(jnp.where(same, jnp.asarray(weight, dtype), kernel[middle]))

    return initialize


KINDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "basic": ((1, 1, 2, 4, 8, 16, 1), (1, 1, 1, 1, 1, 1, 1)),
    "large": ((1, 1, 2, 4, 8, 16, 1), (2, 2, 4, 8, 16, 32, 32)),
    "basic7": ((1, 1, 2, 4, 8, 1), (1, 1, 1, 1, 1, 1)),
    "basic10": ((1, 1, 2, 4, 8, 16, 32, 64, 1), (1, 1, 1, 1, 1, 1, 1, 1, 1)),
}
"""Dilations and widths: Table 1's two modules, KITTI's with a layer less and Cityscapes' with two more (section 5)."""


def context(kind: str, num_classes: int, *, dtype: jnp.dtype | type = jnp.float32) -> Context:
    """Return the context module "basic", "large", "basic7" (Dilation7) or "basic10" (Dilation10).

    >>> context("basic", 21).num_classes
    21

    Raises:
      BadInput: another kind.
    """
    if kind not in KINDS:
        raise BadInput(f"no context module is called {kind!r}{suggest(kind, KINDS)}")
    dilations, widths = KINDS[kind]
    noise = 0.01 if max(widths) > 1 else 0.0
    return Context(num_classes=num_classes, dilations=dilations, widths=widths, noise=noise, dtype=dtype)


class WithContext(nn.Module):
    """Any semantic network with a context module behind it.

    >>> from jaxseg.models.semantic.unet import unet
    >>> base = unet(num_classes=3, depth=1, width=2)
    >>> net, image = WithContext(base, context("basic", 3)), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 32, 32, 3)

    Attributes:
      network: returns ``logits`` at the image's size.
      context: takes and returns as many channels.
      stride: the module sees the scores of every so many pixels, and its own are enlarged again.
    """

    network: nn.Module
    context: Context
    stride: int = 8

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return self.context.num_classes

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.network.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return the network's outputs, its logits refined."""
        outputs = self.network(image, train=train)
        logits = outputs["logits"]
        x = self.context(logits[:, :: self.stride, :: self.stride])
        refined = resize_anchored(x, self.stride, (logits.shape[1], logits.shape[2]))
        return {**outputs, "logits": refined.astype(jnp.float32)}


def with_context(model: Any, kind: str = "basic", *, stride: int = 8) -> WithContext:
    """Return a network of the zoo followed by a context module; its variables are those of ``network`` and ``context``.

    >>> from jaxseg.models.semantic.unet import unet
    >>> with_context(unet(num_classes=3), "basic").context.num_classes
    3

    Raises:
      BadInput: no such kind of module.
    """
    return WithContext(network=model, context=context(kind, model.num_classes), stride=stride)


class FrontEnd(nn.Module):
    """The adapted VGG-16 (section 4): scores of every eighth pixel of the mirrored image.

    >>> backbone = VGG(blocks=(1, 1, 1, 1, 1), width=4, output_stride=8, padding=0, first_padding=0)
    >>> net = FrontEnd(backbone, VGGClassifier(features=8, dilation=4), num_classes=3)
    >>> image = jnp.zeros((1, 256, 256, 3))
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0)).shape
    (1, 47, 47, 3)

    Attributes:
      backbone: VGG with ``padding=0``, ``first_padding=0`` and ``output_stride=8``.
      classifier: fc6 with dilation 4, and fc7.
      num_classes: channels of the scores.
      dtype: compute dtype.
    """

    backbone: VGG
    classifier: VGGClassifier
    num_classes: int
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> Map:
        """Return ``[b n m k]``: cell i stands for pixel ``8 i``, and the last cells lie beyond the image."""
        border = [(MARGIN, 8 * ((n - 1) // 8 + 2) - n + MARGIN) for n in image.shape[1:3]]
        x = jnp.pad(image, ((0, 0), *border, (0, 0)), mode="reflect")
        x = self.classifier(self.backbone(x, train=train)["c5"], train=train)
        start = nn.initializers.normal(0.001)
        return Conv(self.num_classes, 1, kernel_init=start, dtype=self.dtype, name="final")(x)


class Dilated(nn.Module):
    """The front end alone, or with a context module.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("dilated_basic_vgg16"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      frontend: scores of every eighth pixel.
      context: refines them; None leaves the front end alone.
      num_classes: channels of the logits.
      upsampling: "interpolation" as the authors' code does it for VOC, CamVid and KITTI, where cell i lies on pixel
        ``8 i``; "deconvolution" as their Cityscapes network does, by a fixed 16x16 kernel, where it lies on
        ``8 i + 3.5``.
    """

    frontend: FrontEnd
    context: Context | None = None
    num_classes: int = 21
    upsampling: str = "interpolation"

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.frontend.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size.

        The authors enlarge probabilities; here, for the sake of the loss, it is the scores.
        """
        if self.upsampling not in UPSAMPLING:
            raise BadInput(f"no upsampling is called {self.upsampling!r}{suggest(self.upsampling, UPSAMPLING)}")
        x = self.frontend(image, train=train)
        x = x if self.context is None else self.context(x)
        return {"logits": UPSAMPLING[self.upsampling](x, (image.shape[1], image.shape[2])).astype(jnp.float32)}


def _interpolate(x: Map, size: tuple[int, int]) -> Map:
    return resize_anchored(x, 8, size)


def _deconvolve(x: Map, size: tuple[int, int]) -> Map:
    kernel = bilinear_kernel(16, x.shape[-1], grouped=True).astype(x.dtype)
    return conv_transpose(x, kernel, stride=8, padding=4, groups=x.shape[-1])[:, : size[0], : size[1]]


UPSAMPLING: dict[str, Callable[[Map, tuple[int, int]], Map]] = {
    "interpolation": _interpolate,
    "deconvolution": _deconvolve,
}

VOC = Standardize((102.93, 111.36, 116.52), order="bgr")
CAMVID = Standardize((110.70313, 108.77809, 105.41213), order="bgr")
CITYSCAPES = Standardize((72.39, 82.91, 73.16), order="bgr")
KITTI = Standardize((96.194, 95.551, 91.347), order="bgr")
"""Means of the four data sets that the authors' networks were trained on (fyu/dilation)."""


def _vgg16(
    kind: str | None,
    default: Standardize,
    num_classes: int,
    width: int,
    fc_features: int,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
    upsampling: str = "interpolation",
) -> Dilated:
    backbone = VGG(
        width=width,
        padding=0,
        first_padding=0,
        output_stride=8,
        in_channels=in_channels,
        standardize=statistics(standardize, default, in_channels),
        dtype=dtype,
    )
    classifier = VGGClassifier(fc_features, dilation=4, dtype=dtype)
    frontend = FrontEnd(backbone=backbone, classifier=classifier, num_classes=num_classes, dtype=dtype)
    module = None if kind is None else context(kind, num_classes, dtype=dtype)
    return Dilated(frontend=frontend, context=module, num_classes=num_classes, upsampling=upsampling)


@register(task="semantic", paper="arXiv:1511.07122", params=134_346_581)
def dilated_frontend_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """The front end: VGG-16 without padding at output stride 8, on the mirrored image."""
    return _vgg16(None, VOC, num_classes, width, fc_features, in_channels, standardize, dtype)


@register(
    task="semantic",
    paper="arXiv:1511.07122",
    params=134_374_973,
    small={"width": 4, "fc_features": 8},
    overfit=Overfit(
        steps=120, learning_rate=3e-3, size=(32, 48), fields={"width": 8, "fc_features": 32, "standardize": IMAGENET}
    ),
)
def dilated_basic_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """The front end with the basic context module: 28,392 parameters more at 21 classes."""
    return _vgg16("basic", VOC, num_classes, width, fc_features, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1511.07122", params=141_149_720)
def dilated_large_vgg16(
    num_classes: int = 21,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """The front end with the large context module: 6,803,139 parameters more at 21 classes."""
    return _vgg16("large", VOC, num_classes, width, fc_features, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1511.07122")
def dilation7(
    num_classes: int = 11,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """Dilation7, for KITTI: the basic context module without its layer of dilation 16."""
    return _vgg16("basic7", KITTI, num_classes, width, fc_features, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1511.07122")
def dilation8(
    num_classes: int = 11,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """Dilation8, for CamVid: the basic context module."""
    return _vgg16("basic", CAMVID, num_classes, width, fc_features, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1511.07122", params=134_368_179)
def dilation10(
    num_classes: int = 19,
    width: int = 64,
    fc_features: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Dilated:
    """Dilation10, for Cityscapes: two layers more, of dilation 32 and 64, and a fixed deconvolution at the end."""
    return _vgg16(
        "basic10",
        CITYSCAPES,
        num_classes,
        width,
        fc_features,
        in_channels,
        standardize,
        dtype,
        upsampling="deconvolution",
    )
