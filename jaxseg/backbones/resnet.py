"""ResNet: deep residual learning for image recognition (He et al. 2016, arXiv:1512.03385); ResNeXt: aggregated residual
transformations (Xie et al. 2017, arXiv:1611.05431), the same with grouped 3x3 convolutions.

A 7x7 stem and a 3x3 max-pool, then four stages of residual blocks (paper Table 1). The names are torchvision's, with
``normN`` for ``bnN``: ``layer2_0/conv1`` is the first convolution of the first block of the second stage.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv, WeightStandardizedConv
from jaxseg.layers.norm import make_norm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pool import max_pool
from jaxseg.ops.window import Padding
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

kaiming_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""N(0, sqrt(2 / fan_out)), as torchvision starts its residual networks."""


class ResNet(nn.Module):
    """The backbone without its classifier.

    >>> net, image = ResNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 2048)

    Attributes:
      depths: blocks per stage.
      bottleneck: 1x1, 3x3, 1x1 blocks with four times the channels (50 layers and more), or two 3x3.
      width: channels of the stem and inside the first stage's blocks; they double with each stage.
      stem: "7x7", or "3x3x3": three 3x3 convolutions, the last with twice the channels, as PSPNet has it; or
        "3x3x3 half", with half as many in each, as mmsegmentation and GluonCV have it.
      groups: of the 3x3 convolution of a bottleneck; 1 for ResNet, 32 or 64 for ResNeXt.
      width_per_group: channels of each group where ``features`` is 64, as torchvision counts them.
      output_stride: 32, 16 or 8. A stage that keeps its resolution trades its stride for dilation, from the convolution
        on that follows the one with the stride: the maps are those of the strided network, at every place.
      multi_grid: () is that. Otherwise every convolution of a dilated stage has the stage's dilation, in the last stage
        times these numbers: (1, 1, 1), or (1, 2, 4) as in DeepLab v3 (arXiv:1706.05587, section 3.2.1).
      stride_on: which convolution of a bottleneck carries the stride: "3x3" as in torchvision, "1x1" (the first) as in
        the authors' own networks (MSRA).
      ceil_mode: whether the stem's pool keeps the ragged last row and column, as Caffe does.
      norm: "batch", "group", "instance", "layer" or "none".
      padding: "torch" for the same number of zeros on both sides, "SAME" for TensorFlow's, which at stride 2 puts the
        odd one at the end.
      weight_standardized: standardise the kernel of each convolution (Kolesnikov et al. 2020, arXiv:1912.11370, with
        ``norm="group"``).
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    stem: str = "7x7"
    groups: int = 1
    width_per_group: int = 64
    output_stride: int = 32
    multi_grid: tuple[int, ...] = ()
    stride_on: str = "3x3"
    ceil_mode: bool = False
    norm: str = "batch"
    padding: str = "torch"
    weight_standardized: bool = False
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels: the stem at stride 2, the four stages at 4, 8, 16, 32 or
        ``output_stride``.
        """
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of ResNet; there are 8, 16 and 32")
        if self.stride_on not in ("3x3", "1x1"):
            raise BadInput(f"stride on {self.stride_on!r} of ResNet; there are '3x3' (torchvision) and '1x1' (MSRA)")
        if self.multi_grid and len(self.multi_grid) != self.depths[-1]:
            raise BadInput(f"multi_grid {self.multi_grid} of ResNet: one number for each of {self.depths[-1]} blocks")
        if self.stem not in STEMS:
            raise BadInput(f"stem {self.stem!r} of ResNet; there are {' and '.join(repr(k) for k in STEMS)}")
        if self.padding not in ("torch", "SAME"):
            raise BadInput(f"padding {self.padding!r} of ResNet; there are 'torch' and 'SAME'")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        for i, (size, stride, wider) in enumerate(STEMS[self.stem], 1):
            x = jax.nn.relu(_conv_norm(self, f"{i}", x, self.width * wider // 2, size, stride=stride, train=train))
        maps = {"c1": x}
        x = max_pool(x, 3, stride=2, padding=_padding(self, 1), ceil_mode=self.ceil_mode)
        block = BasicBlock
        if self.bottleneck:
            block = partial(Bottleneck, groups=self.groups, width_per_group=self.width_per_group)
        reached, dilation = 4, 1
        for stage, blocks in enumerate(self.depths, 1):
            wanted = 1 if stage == 1 else 2
            stride = wanted if reached * wanted <= self.output_stride else 1
            reached *= stride
            before, dilation = dilation, dilation * wanted // stride
            grid = self.multi_grid if stage == len(self.depths) and dilation > 1 else ()
            for i in range(blocks):
                spread = dilation * (grid[i] if grid else 1)
                x = block(
                    self.width << (stage - 1),
                    stride=stride if i == 0 else 1,
                    before=before if i == 0 and not self.multi_grid else spread,
                    dilation=spread,
                    stride_on=self.stride_on,
                    norm=self.norm,
                    padding=self.padding,
                    weight_standardized=self.weight_standardized,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )(x, train=train)
            maps[f"c{stage + 1}"] = x
        return maps


STEMS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "7x7": ((7, 2, 2),),
    "3x3x3": ((3, 2, 2), (3, 1, 2), (3, 1, 4)),
    "3x3x3 half": ((3, 2, 1), (3, 1, 1), (3, 1, 2)),
}
"""Convolutions before the pool: (side, stride, channels in halves of the width)."""


class Bottleneck(nn.Module):
    """Figure 5, right: 1x1 reduction, 3x3, 1x1 expansion by four, sum with the input or its 1x1 projection.

    ``before`` is the dilation of the map that enters, ``dilation`` that of the block behind its stride. With groups it
    is figure 3c of the ResNeXt paper.

    >>> block, x = Bottleneck(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 32)
    """

    features: int
    stride: int = 1
    before: int = 1
    dilation: int = 1
    groups: int = 1
    width_per_group: int = 64
    stride_on: str = "3x3"
    norm: str = "batch"
    padding: str = "torch"
    weight_standardized: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block, ``4 * features`` channels."""
        early = self.stride_on == "1x1"
        first, second = (self.stride, 1) if early else (1, self.stride)
        inner = self.features * self.width_per_group // 64 * self.groups
        spread = {"stride": second, "dilation": self.dilation if early else self.before, "groups": self.groups}
        y = _conv_norm(self, "1", x, inner, 1, stride=first, train=train)
        y = _conv_norm(self, "2", jax.nn.relu(y), inner, 3, **spread, train=train)
        y = _conv_norm(self, "3", jax.nn.relu(y), 4 * self.features, 1, train=train)
        return jax.nn.relu(y + _shortcut(self, x, 4 * self.features, train=train))


class BasicBlock(nn.Module):
    """Figure 5, left: two 3x3 convolutions, sum with the input or its 1x1 projection; fields as of ``Bottleneck``.

    >>> block, x = BasicBlock(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    stride: int = 1
    before: int = 1
    dilation: int = 1
    stride_on: str = "3x3"
    norm: str = "batch"
    padding: str = "torch"
    weight_standardized: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block, ``features`` channels."""
        y = _conv_norm(self, "1", x, self.features, 3, stride=self.stride, dilation=self.before, train=train)
        y = _conv_norm(self, "2", jax.nn.relu(y), self.features, 3, dilation=self.dilation, train=train)
        return jax.nn.relu(y + _shortcut(self, x, self.features, train=train))


Block = Bottleneck | BasicBlock


def _shortcut(block: Block, x: Map, features: int, *, train: bool) -> Map:
    if block.stride == 1 and x.shape[-1] == features:
        return x
    return _conv_norm(block, "_shortcut", x, features, 1, stride=block.stride, train=train)


def _conv_norm(
    block: Block | ResNet,
    name: str,
    x: Map,
    features: int,
    size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    train: bool,
) -> Map:
    conv = (WeightStandardizedConv if block.weight_standardized else Conv)(
        features,
        size,
        stride=stride,
        padding=_padding(block, dilation * (size // 2)),
        dilation=dilation,
        groups=groups,
        use_bias=False,
        kernel_init=kaiming_fan_out,
        dtype=block.dtype,
        name=f"conv{name}",
        parent=block,
    )
    return make_norm(block.norm)(dtype=block.dtype, name=f"norm{name}", parent=block)(conv(x), train=train)


def _padding(block: Block | ResNet, each_side: int) -> Padding:
    return "SAME" if block.padding == "SAME" else each_side


DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
"""Layers: (blocks per stage, bottleneck) (paper Table 1)."""


def resnet(
    layers: int,
    *,
    width: int = 64,
    stem: str = "7x7",
    groups: int = 1,
    width_per_group: int = 64,
    output_stride: int = 32,
    multi_grid: tuple[int, ...] = (),
    stride_on: str = "3x3",
    ceil_mode: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ResNet:
    """The residual network of 18, 34, 50, 101 or 152 layers; with ``groups=32, width_per_group=4`` ResNeXt 32x4d.

    >>> resnet(50).depths
    (3, 4, 6, 3)

    Raises:
      BadInput: another number of layers.
    """
    if layers not in DEPTHS:
        raise BadInput(f"no ResNet of {layers} layers; there are: {', '.join(str(k) for k in DEPTHS)}")
    depths, bottleneck = DEPTHS[layers]
    return ResNet(
        depths=depths,
        bottleneck=bottleneck,
        width=width,
        stem=stem,
        groups=groups,
        width_per_group=width_per_group,
        output_stride=output_stride,
        multi_grid=multi_grid,
        stride_on=stride_on,
        ceil_mode=ceil_mode,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


TORCHVISION_NAMES: Rules = (
    (r"conv(\d)\.weight", r"conv\1/kernel"),
    (r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"layer\1_\2/conv\3/kernel"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"layer\1_\2/conv_shortcut/kernel"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.weight", r"layer\1_\2/norm_shortcut/scale"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.bias", r"layer\1_\2/norm_shortcut/bias"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.running_(mean|var)", r"layer\1_\2/norm_shortcut/\3"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.weight", r"layer\1_\2/norm\3/scale"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.bias", r"layer\1_\2/norm\3/bias"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.running_(mean|var)", r"layer\1_\2/norm\3/\4"),
    (r"bn(\d)\.weight", r"norm\1/scale"),
    (r"bn(\d)\.bias", r"norm\1/bias"),
    (r"bn(\d)\.running_(mean|var)", r"norm\1/\2"),
    (r".*\.num_batches_tracked", None),
    (r"fc\..*", None),
)
"""Rules from torchvision's state dict to the paths of :class:`ResNet`; None leaves an entry out."""

TRANSFORMERS_NAMES: Rules = tuple(
    rule
    for source, block, layer in (
        (r"embedder\.embedder", "", "1"),
        *((rf"encoder\.stages\.{i}\.layers\.(\d+)\.shortcut", rf"layer{i + 1}_\1/", "_shortcut") for i in range(4)),
        *(
            (rf"encoder\.stages\.{i}\.layers\.(\d+)\.layer\.{n}", rf"layer{i + 1}_\1/", str(n + 1))
            for i in range(4)
            for n in range(3)
        ),
    )
    for rule in (
        (rf"{source}\.convolution\.weight", f"{block}conv{layer}/kernel"),
        (rf"{source}\.normalization\.weight", f"{block}norm{layer}/scale"),
        (rf"{source}\.normalization\.bias", f"{block}norm{layer}/bias"),
        (rf"{source}\.normalization\.running_mean", f"{block}norm{layer}/mean"),
        (rf"{source}\.normalization\.running_var", f"{block}norm{layer}/var"),
    )
)
"""Rules from ``ResNetBackbone`` of transformers to the paths of :class:`ResNet`."""


def _detectron(
    conv1: str, norm1: str, block: str, convs: tuple[str, ...], weight: str, leaves: dict[str, str]
) -> Rules:
    """Return rename rules by the way in which a program names the stem, a block's convolutions and the leaves of a
    norm.
    """
    rules: list[tuple[str, str | None]] = [(conv1 + weight, "conv1/kernel")]
    rules += [(norm1 + theirs, f"norm1/{ours}") for theirs, ours in leaves.items()]
    for stage in range(1, 5):
        for conv, name in zip(convs, ("1", "2", "3", "_shortcut"), strict=True):
            source = block.format(stage + 1, conv)
            rules.append((source + weight, rf"layer{stage}_\1/conv{name}/kernel"))
            norm = "_bn" if weight == "_w" else r"\.norm"
            rules += [(source + norm + t, rf"layer{stage}_\1/norm{name}/{ours}") for t, ours in leaves.items()]
    return tuple(rules)


CAFFE2_NAMES: Rules = (
    *_detectron(
        "conv1",
        "res_conv1_bn",
        r"res{}_(\d+)_{}",
        ("branch2a", "branch2b", "branch2c", "branch1"),
        "_w",
        {"_s": "scale", "_b": "bias", "_rm": "mean", "_riv": "var"},
    ),
    (r"conv1_b|(fc1000|pred)_(w|b)", None),
)
"""Rules from Detectron's names, as in detectron2's ``ImageNetPretrained/MSRA/R-50.pkl``, for ``stride_on="1x1"`` and
:data:`jaxseg.layers.standardize.MSRA`. The stem's bias, which detectron2 leaves out too, is zero there."""

DETECTRON2_NAMES: Rules = (
    *_detectron(
        r"stem\.conv1",
        r"stem\.conv1\.norm",
        r"res{}\.(\d+)\.{}",
        ("conv1", "conv2", "conv3", "shortcut"),
        r"\.weight",
        {r"\.weight": "scale", r"\.bias": "bias", r"\.running_mean": "mean", r"\.running_var": "var"},
    ),
    (r".*\.num_batches_tracked", None),
    (r"(stem\.)?fc\..*", None),
)
"""Rules from detectron2's own names, as in its ``ImageNetPretrained/torchvision/R-50.pkl``."""
