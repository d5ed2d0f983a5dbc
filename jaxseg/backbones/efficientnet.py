"""EfficientNet: rethinking model scaling for convolutional neural networks (Tan and Le 2019, arXiv:1905.11946).

Inverted residuals with squeeze-and-excitation (Table 1), whose channels, numbers of blocks and resolution grow together
from B0 to B7. Versions with weights: segmentation-models-pytorch's own, a port of TensorFlow's with the zeros that its
convolutions add at the published resolution; timm's ``tf_``, with those of the image at hand; timm's own, with as many
zeros on both sides. Blocks are numbered from 1, after the stem.
"""

import math
from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, in_timm
from jaxseg.backbones.mobilenet import divisible
from jaxseg.backbones.mobilenet_blocks import SqueezeExcite
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import DropPath
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.window import Padding
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


@dataclass(frozen=True)
class MBConv:
    """A block: channels out and in between, window, stride, channels of the squeeze.

    >>> MBConv(24, expanded=96, squeezed=4).stride
    1
    """

    features: int
    expanded: int
    squeezed: int
    kernel_size: int = 3
    stride: int = 1


class EfficientNet(nn.Module):
    """The convolutional part, without the 1x1 convolution before the classifier.

    >>> net, image = efficientnet("b0"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> maps = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {name: x.shape[-1] for name, x in sorted(maps.items())}
    {'c1': 32, 'c2': 24, 'c3': 40, 'c4': 112, 'c5': 320}

    Attributes:
      blocks: what follows the stem.
      stem: channels of the stem.
      out_maps: blocks after which ``c1`` to ``c5`` are taken; 0 is the stem.
      output_stride: 32, 16 or 8.
      dilate: how a stage that keeps its resolution is dilated. "stage": every convolution after ``c3`` or ``c4`` has
        the stage's dilation, as in segmentation-models-pytorch. "after": from the block on that follows the one with
        the stride, as in timm.
      padding: "torch" for the same number of zeros on both sides, "SAME" for TensorFlow's.
      resolution: side of the images for which "SAME" is counted; 0 for that of the image at hand.
      drop_path: rate of stochastic depth at the end; it grows linearly from zero at the first block.
      epsilon: of the normalisations.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    blocks: tuple[MBConv, ...]
    stem: int = 32
    out_maps: tuple[int, ...] = (0, 3, 5, 11, 16)
    output_stride: int = 32
    dilate: str = "stage"
    padding: str = "torch"
    resolution: int = 0
    drop_path: float = 0.2
    epsilon: float = 1e-5
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels, at strides 2 to 32 or ``output_stride``."""
        if self.padding not in ("torch", "SAME"):
            raise BadInput(f"padding {self.padding!r} of EfficientNet; there are 'torch' and 'SAME'")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        side = self.resolution
        x = Conv(
            self.stem,
            3,
            stride=2,
            padding=self._zeros(3, 2, 1, side),
            use_bias=False,
            dtype=self.dtype,
            name="stem_conv",
        )(x)
        x = jax.nn.silu(BatchNorm(epsilon=self.epsilon, dtype=self.dtype, name="stem_norm")(x, train=train))
        side, after = -(-side // 2), [x]
        for i, (row, (stride, dilation)) in enumerate(zip(self.blocks, self._spreads(), strict=True), 1):
            x = Block(
                row,
                stride=stride,
                dilation=dilation,
                padding=self._zeros(row.kernel_size, stride, dilation, side if dilation == 1 else 0),
                drop_path=self.drop_path * (i - 1) / len(self.blocks),
                epsilon=self.epsilon,
                dtype=self.dtype,
                name=f"block{i}",
            )(x, train=train)
            side = -(-side // row.stride)
            after.append(x)
        return {f"c{k}": after[block] for k, block in enumerate(self.out_maps, 1)}

    def _zeros(self, size: int, stride: int, dilation: int, side: int) -> Padding:
        """Return the padding of a convolution; ``side`` is that of its map at the resolution, 0 for that at hand."""
        around = dilation * (size // 2)
        if self.padding == "torch" or stride == 1:
            return around
        if not self.resolution:
            return "SAME"
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        ends = (total // 2, total - total // 2)
        return (ends, ends)

    def _spreads(self) -> list[tuple[int, int]]:
        """Return stride and dilation of each block."""
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of EfficientNet; there are 8, 16 and 32")
        spreads, reached, dilation = [], 2, 1
        for i, row in enumerate(self.blocks, 1):
            if self.dilate == "stage":
                level = 32 if i > self.out_maps[3] else 16 if i > self.out_maps[2] else 1
                dilation = max(level // self.output_stride, 1)
                spreads.append((row.stride if dilation == 1 else 1, dilation))
                continue
            stride = row.stride if reached * row.stride <= self.output_stride else 1
            spreads.append((stride, dilation))
            reached, dilation = reached * stride, dilation * row.stride // stride
        return spreads


class Block(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection; the sum with an input of the same shape.

    >>> block, x = Block(MBConv(16, 32, 4)), jnp.ones((1, 16, 16, 16))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 16)
    """

    row: MBConv
    stride: int = 1
    dilation: int = 1
    padding: Padding = 1
    drop_path: float = 0.0
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block."""
        row, y = self.row, x
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        norm = partial(BatchNorm, epsilon=self.epsilon, dtype=self.dtype)
        if row.expanded != x.shape[-1]:
            y = jax.nn.silu(norm(name="expand_norm")(conv(row.expanded, 1, name="expand")(y), train=train))
        y = conv(
            row.expanded,
            row.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=row.expanded,
            name="depthwise",
        )(y)
        y = jax.nn.silu(norm(name="depthwise_norm")(y, train=train))
        y = SqueezeExcite(row.squeezed, "silu", "sigmoid", dtype=self.dtype, name="squeeze")(y)
        y = norm(name="project_norm")(conv(row.features, 1, name="project")(y), train=train)
        if row.stride != 1 or x.shape[-1] != row.features:
            return y
        return x + DropPath(self.drop_path, name="drop")(y, train=train)


STAGES = ((1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1), (6, 5, 192, 4, 2))
STAGES = (*STAGES, (6, 3, 320, 1, 1))
"""Expansion, window, channels, repeats, stride of the first (Table 1)."""

SCALES: dict[str, tuple[float, float, int]] = {
    "b0": (1.0, 1.0, 224),
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}
"""Factors of channels and of blocks, and resolution, as in the authors' code."""


def efficientnet(
    variant: str,
    version: str = "smp",
    *,
    output_stride: int = 32,
    drop_path: float = 0.2,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EfficientNet:
    """Return EfficientNet "b0" to "b7" in one of the versions that have weights.

    >>> efficientnet("b1").out_maps, efficientnet("b1", "tf").out_maps
    ((0, 5, 8, 16, 23), (2, 5, 8, 16, 23))

    Args:
      variant: "b0" to "b7".
      version: "smp", segmentation-models-pytorch's ``efficientnet-b0``, whose ``c4`` of B0 is that of the first block
        of its stage; "timm-smp", its ``timm-efficientnet-b0``; "timm" and "tf", timm's ``efficientnet_b0`` and
        ``tf_efficientnet_b0``, whose ``c1`` is that of the first stage instead of the stem.
      output_stride: 32, 16 or 8.
      drop_path: rate of stochastic depth.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.

    Raises:
      BadInput: another variant or version.
    """
    if variant not in SCALES:
        raise BadInput(f"no EfficientNet is called {variant!r}; there are: {', '.join(SCALES)}")
    if version not in VERSIONS:
        raise BadInput(f"no version {version!r} of EfficientNet; there are: {', '.join(VERSIONS)}")
    width, depth, resolution = SCALES[variant]
    rows, ends = [], [0]
    channels = divisible(32 * width)
    for expansion, size, features, repeats, stride in STAGES:
        for i in range(math.ceil(depth * repeats)):
            row = MBConv(
                divisible(features * width), channels * expansion, channels // 4, size, stride if i == 0 else 1
            )
            rows.append(row)
            channels = row.features
        ends.append(len(rows))
    stem_first, padding, epsilon, dilate = VERSIONS[version]
    out_maps = (0 if stem_first else ends[1], ends[2], ends[3], ends[5], ends[7])
    if (variant, version) == ("b0", "smp"):
        out_maps = (*out_maps[:3], ends[4] + 1, ends[7])
    return EfficientNet(
        blocks=tuple(rows),
        stem=divisible(32 * width),
        out_maps=out_maps,
        output_stride=output_stride,
        dilate=dilate,
        padding=padding,
        resolution=resolution if version == "smp" else 0,
        drop_path=drop_path,
        epsilon=epsilon,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


VERSIONS: dict[str, tuple[bool, str, float, str]] = {
    "smp": (True, "SAME", 1e-3, "stage"),
    "timm-smp": (True, "torch", 1e-5, "stage"),
    "timm": (False, "torch", 1e-5, "after"),
    "tf": (False, "SAME", 1e-3, "after"),
}
"""Whether ``c1`` is the stem's map; padding; epsilon; how stages are dilated."""


def _norm(source: str, path: str) -> Rules:
    leaves = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return tuple((rf"{source}\.{theirs}", f"{path}/{ours}") for theirs, ours in leaves)


def smp_names(variant: str) -> Rules:
    """Return the rules from segmentation-models-pytorch's ``efficientnet-NAME``, which counts blocks from 0.

    >>> smp_names("b0")[0]
    ('_conv_stem\\\\.weight', 'stem_conv/kernel')
    """
    rules: list[tuple[str, str | None]] = [(r"_conv_stem\.weight", "stem_conv/kernel"), *_norm("_bn0", "stem_norm")]
    for i, row in enumerate(efficientnet(variant).blocks):
        block, path = rf"_blocks\.{i}\.", f"block{i + 1}"
        for conv, norm, part in (("expand", 0, "expand"), ("depthwise", 1, "depthwise"), ("project", 2, "project")):
            if part == "expand" and row.expanded == row.squeezed * 4:
                continue  # no expansion, and no convolution for it
            rules.append((rf"{block}_{conv}_conv\.weight", f"{path}/{part}/kernel"))
            rules += _norm(f"{block}_bn{norm}", f"{path}/{part}_norm")
        rules += _squeeze(f"{block}_se_", path)
    return (*rules, (r".*\.num_batches_tracked", None), (r"(?P<kept>_conv_head|_bn1)\..*", None), (r"_fc\..*", None))


def timm_names(variant: str) -> Rules:
    """Return the rules from timm's names, which count blocks by stage; the head and the classifier are left out.

    >>> timm_names("b0")[0]
    ('conv_stem\\\\.weight', 'stem_conv/kernel')
    """
    rules: list[tuple[str, str | None]] = [(r"conv_stem\.weight", "stem_conv/kernel"), *_norm("bn1", "stem_norm")]
    depth, number = SCALES[variant][1], 0
    first = (("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "project"))
    other = (("conv_pw", "bn1", "expand"), ("conv_dw", "bn2", "depthwise"), ("conv_pwl", "bn3", "project"))
    for stage, (*_, repeats, _) in enumerate(STAGES):
        for i in range(math.ceil(depth * repeats)):
            number += 1
            block, path = rf"blocks\.{stage}\.{i}\.", f"block{number}"
            for conv, norm, part in first if stage == 0 else other:
                rules.append((rf"{block}{conv}\.weight", f"{path}/{part}/kernel"))
                rules += _norm(block + norm, f"{path}/{part}_norm")
            rules += _squeeze(rf"{block}se\.conv_", path)
    return (
        *rules,
        (r".*\.num_batches_tracked", None),
        (r"(?P<kept>conv_head|bn2)\..*", None),
        (r"classifier\..*", None),
    )


def _squeeze(source: str, path: str) -> Rules:
    return tuple(
        (rf"{source}{layer}\.{theirs}", f"{path}/squeeze/{layer}/{ours}")
        for layer in ("reduce", "expand")
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    )


ENCODERS: dict[str, EncoderSpec] = {
    **{f"efficientnet-{b}": EncoderSpec(partial(efficientnet, b), smp_names(b)) for b in SCALES},
    **{f"timm-efficientnet-{b}": EncoderSpec(partial(efficientnet, b, "timm-smp"), timm_names(b)) for b in SCALES},
    **{f"tu-efficientnet_{b}": EncoderSpec(partial(efficientnet, b, "timm"), in_timm(timm_names(b))) for b in SCALES},
    **{f"tu-tf_efficientnet_{b}": EncoderSpec(partial(efficientnet, b, "tf"), in_timm(timm_names(b))) for b in SCALES},
}
"""By the name in segmentation-models-pytorch."""
