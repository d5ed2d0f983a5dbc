"""MobileNet 1 to 3: networks of depthwise convolutions (Howard et al. 2017, arXiv:1704.04861; Sandler et al. 2018,
arXiv:1801.04381; Howard et al. 2019, arXiv:1905.02244).

A 3x3 stem at stride 2, then a row of blocks: a depthwise and a pointwise convolution (version 1), or inverted residuals
(2 and 3): 1x1 expansion, depthwise, perhaps squeeze-and-excitation, 1x1 projection without activation. Blocks are
numbered as in torchvision: ``block1`` follows the stem.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from jaxseg.backbones.mobilenet_blocks import (
    ACTIVATIONS,
    ConvBN,
    Inverted,
    InvertedResidual,
    Map,
    Separable,
    SeparableBlock,
)
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import CENTRED, IMAGENET, Standardize, statistics
from jaxseg.types import Rules


class MobileNet(nn.Module):
    """The convolutional part.

    >>> net, image = MobileNet((Separable(8, stride=2),), stem=8), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> maps = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {name: leaf.shape for name, leaf in maps.items()}["c2"]
    (1, 8, 8, 8)

    Attributes:
      blocks: what follows the stem.
      stem: channels of the stem.
      last: channels of the 1x1 convolution after the blocks, 0 for none.
      activation: of the stem and of that convolution.
      output_stride: 32, 16 or 8. From the first block that would go beyond, that one included, blocks trade stride for
        dilation.
      out_maps: where in a stage its map is taken: "last" block, or "first", which carries the stride, as torchvision's
        segmentation networks have it.
      padding: "torch" for the same number of zeros on both sides, "SAME" for TensorFlow's, which at stride 2 puts the
        odd one at the end.
      norm: "batch", "group", "instance" or "layer"; "none" gives the convolutions biases, for networks whose BatchNorm
        was folded into them.
      epsilon: of the normalisations.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    blocks: tuple[Separable | Inverted, ...]
    stem: int = 32
    last: int = 1280
    activation: str = "relu6"
    output_stride: int = 32
    out_maps: str = "last"
    padding: str = "torch"
    norm: str = "batch"
    epsilon: float = 1e-5
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels, at strides 2 to 32 or ``output_stride``; ``c5`` is the last
        convolution's, beside which ``c5_blocks`` is the last stage's. Of inverted residuals ``c4_expanded`` is what
        the first block of the next stage expands ``c4`` to, and so on.
        """
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of MobileNet; there are 8, 16 and 32")
        if self.out_maps not in ("first", "last"):
            raise BadInput(f"out_maps {self.out_maps!r} of MobileNet; there are 'first' and 'last'")
        if self.padding not in ("torch", "SAME"):
            raise BadInput(f"padding {self.padding!r} of MobileNet; there are 'torch' and 'SAME'")
        layer = partial(ConvBN, padding=self.padding, norm=self.norm, epsilon=self.epsilon, dtype=self.dtype)
        act = ACTIVATIONS[self.activation]
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = act(layer(self.stem, 3, stride=2, name="stem")(x, train=train))
        maps, level, reached, dilation = {"c1": x}, 1, 2, 1
        for i, row in enumerate(self.blocks, 1):
            stride = row.stride if reached * row.stride <= self.output_stride else 1
            reached, dilation = reached * stride, dilation * row.stride // stride
            level += row.stride == 2
            options: dict[str, Any] = {"stride": stride, "dilation": dilation, "layer": layer, "name": f"block{i}"}
            if isinstance(row, Separable):
                x = SeparableBlock(row, **options)(x, train=train)
            else:
                x, expanded = InvertedResidual(row, **options).both(x, train=train)
                maps |= {f"c{level - 1}_expanded": expanded} if row.stride == 2 else {}
            if self.out_maps == "last" or row.stride == 2:
                maps[f"c{level}"] = x
        if self.last:
            maps["c5_blocks"] = maps[f"c{level}"]
            x = act(layer(self.last, 1, name="last")(x, train=train))
        return {**maps, "c5": x}


def divisible(channels: int | float, divisor: int = 8) -> int:
    """Round to a multiple of ``divisor``, upwards if rounding down would lose more than a tenth.

    >>> divisible(33), divisible(11)
    (32, 16)
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def mobilenet_v1(
    *,
    width: float = 1.0,
    activation: str = "relu6",
    output_stride: int = 32,
    padding: str = "torch",
    norm: str = "batch",
    epsilon: float = 1e-5,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MobileNet:
    """Version 1 (its Table 1) times ``width``.

    >>> mobilenet_v1(width=0.25).stem
    8
    """
    rows = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
    return MobileNet(
        blocks=tuple(Separable(int(c * width), stride, activation) for c, stride in rows),
        stem=int(32 * width),
        last=0,
        activation=activation,
        output_stride=output_stride,
        padding=padding,
        norm=norm,
        epsilon=epsilon,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repeats, stride of the first (Table 2 of MobileNetV2)."""


def mobilenet_v2(
    *,
    width: float = 1.0,
    last: int = 1280,
    output_stride: int = 32,
    padding: str = "torch",
    norm: str = "batch",
    epsilon: float = 1e-5,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MobileNet:
    """Version 2 times ``width``; ``last`` is 1280 channels of the convolution before the classifier, 0 for none.

    >>> mobilenet_v2(last=0).last
    0
    """
    blocks, c = [], divisible(32 * width)
    for expansion, features, repeats, stride in V2:
        for i in range(repeats):
            blocks.append(Inverted(divisible(features * width), c * expansion, 3, stride if i == 0 else 1))
            c = blocks[-1].features
    return MobileNet(
        blocks=tuple(blocks),
        stem=divisible(32 * width),
        last=divisible(last * max(width, 1.0)) if last else 0,
        output_stride=output_stride,
        padding=padding,
        norm=norm,
        epsilon=epsilon,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def mobilenet_v2_tensorflow(
    *,
    output_stride: int = 32,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MobileNet:
    """Version 2 as TensorFlow has it: RGB from -1 to 1, its padding, BatchNorm folded into the convolutions.

    >>> mobilenet_v2_tensorflow().padding
    'SAME'
    """
    options = {"in_channels": in_channels, "standardize": statistics(standardize, CENTRED, in_channels), "dtype": dtype}
    return mobilenet_v2(output_stride=output_stride, padding="SAME", norm="none", **options)


_RE, _HS = "relu", "hard_swish"

V3: dict[str, tuple[tuple[int, int, int, bool, str, int], ...]] = {
    "large": (
        *((3, 16, 16, False, _RE, 1), (3, 64, 24, False, _RE, 2), (3, 72, 24, False, _RE, 1)),
        *((5, 72, 40, True, _RE, 2), (5, 120, 40, True, _RE, 1), (5, 120, 40, True, _RE, 1)),
        *((3, 240, 80, False, _HS, 2), (3, 200, 80, False, _HS, 1), (3, 184, 80, False, _HS, 1)),
        *((3, 184, 80, False, _HS, 1), (3, 480, 112, True, _HS, 1), (3, 672, 112, True, _HS, 1)),
        *((5, 672, 160, True, _HS, 2), (5, 960, 160, True, _HS, 1), (5, 960, 160, True, _HS, 1)),
    ),
    "small": (
        *((3, 16, 16, True, _RE, 2), (3, 72, 24, False, _RE, 2), (3, 88, 24, False, _RE, 1)),
        *((5, 96, 40, True, _HS, 2), (5, 240, 40, True, _HS, 1), (5, 240, 40, True, _HS, 1)),
        *((5, 120, 48, True, _HS, 1), (5, 144, 48, True, _HS, 1)),
        *((5, 288, 96, True, _HS, 2), (5, 576, 96, True, _HS, 1), (5, 576, 96, True, _HS, 1)),
    ),
}
"""Window, expanded channels, channels, squeeze-and-excitation, activation, stride (Tables 1 and 2 of MobileNetV3)."""


def mobilenet_v3(
    size: str = "large",
    *,
    width: float = 1.0,
    output_stride: int = 32,
    out_maps: str = "last",
    reduced_tail: bool = False,
    padding: str = "torch",
    epsilon: float = 1e-3,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MobileNet:
    """Version 3, "large" or "small", times ``width``; ``output_stride=16`` is what torchvision calls dilated.

    ``epsilon`` is torchvision's and TensorFlow's; timm's own networks have 1e-5.

    ``reduced_tail`` halves the channels of the last stage and of what follows, as detectors have them (section 6.3).

    >>> mobilenet_v3("small").last
    576

    Raises:
      BadInput: another size.
    """
    if size not in V3:
        raise BadInput(f"no MobileNetV3 is called {size!r}; there are 'large' and 'small'")
    blocks, rows = [], V3[size]
    tail = max(i for i, row in enumerate(rows) if row[-1] == 2)
    for i, (kernel_size, expanded, features, squeeze, activation, stride) in enumerate(rows):
        # The block that reaches the last stage expands the map of the one before.
        expanded = expanded // 2 if reduced_tail and i > tail else expanded
        features = features // 2 if reduced_tail and i >= tail else features
        inner = divisible(expanded * width)
        squeezed = divisible(inner // 4) if squeeze else 0
        blocks.append(Inverted(divisible(features * width), inner, kernel_size, stride, squeezed, activation))
    return MobileNet(
        blocks=tuple(blocks),
        stem=divisible(16 * width),
        last=6 * blocks[-1].features,
        activation=_HS,
        output_stride=output_stride,
        out_maps=out_maps,
        padding=padding,
        epsilon=epsilon,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _conv_norm(source: str, conv: str, norm: str, path: str) -> Rules:
    """Return rename rules of one convolution and the BatchNorm after it."""
    return (
        (rf"{source}\.{conv}\.weight", f"{path}/conv/kernel"),
        (rf"{source}\.{norm}\.weight", f"{path}/norm/scale"),
        (rf"{source}\.{norm}\.bias", f"{path}/norm/bias"),
        *((rf"{source}\.{norm}\.running_{leaf}", f"{path}/norm/{leaf}") for leaf in ("mean", "var")),
    )


_V2_BLOCK, _V3_BLOCK = r"features\.(\d+)\.conv", r"features\.(\d+)\.block"
_SQUEEZED = r"features\.(4|5|6|11|12|13|14|15)\.block"

TORCHVISION_V2_NAMES: Rules = (
    *_conv_norm(r"features\.0", "0", "1", "stem"),
    # The first block has no expansion, so that its modules are numbered one lower.
    *_conv_norm(r"features\.1\.conv", r"0\.0", r"0\.1", "block1/depthwise"),
    *_conv_norm(r"features\.1\.conv", "1", "2", "block1/project"),
    *_conv_norm(_V2_BLOCK, r"0\.0", r"0\.1", r"block\1/expand"),
    *_conv_norm(_V2_BLOCK, r"1\.0", r"1\.1", r"block\1/depthwise"),
    *_conv_norm(_V2_BLOCK, "2", "3", r"block\1/project"),
    *_conv_norm(r"features\.18", "0", "1", "last"),
    (r".*\.num_batches_tracked", None),
    (r"classifier\..*", None),
)
"""Rules from torchvision's MobileNetV2 to the paths of :class:`MobileNet`; None leaves an entry out."""

TORCHVISION_V3_NAMES: Rules = (
    *_conv_norm(r"features\.0", "0", "1", "stem"),
    # As in version 2; and the squeeze, where there is one, moves the projection up. Read backwards these are the names
    # of the large network, whose squeezes are in blocks 4 to 6 and 11 to 15.
    *_conv_norm(r"features\.1\.block\.0", "0", "1", "block1/depthwise"),
    *_conv_norm(r"features\.1\.block\.(?:1|2)", "0", "1", "block1/project"),
    *_conv_norm(rf"{_V3_BLOCK}\.0", "0", "1", r"block\1/expand"),
    *_conv_norm(rf"{_V3_BLOCK}\.1", "0", "1", r"block\1/depthwise"),
    *_conv_norm(rf"{_SQUEEZED}\.3", "0", "1", r"block\1/project"),
    *_conv_norm(rf"{_V3_BLOCK}\.(?:2|3)", "0", "1", r"block\1/project"),
    (rf"{_V3_BLOCK}\.(?:2|1)\.fc1\.weight", r"block\1/squeeze/reduce/kernel"),
    (rf"{_V3_BLOCK}\.(?:2|1)\.fc1\.bias", r"block\1/squeeze/reduce/bias"),
    (rf"{_V3_BLOCK}\.(?:2|1)\.fc2\.weight", r"block\1/squeeze/expand/kernel"),
    (rf"{_V3_BLOCK}\.(?:2|1)\.fc2\.bias", r"block\1/squeeze/expand/bias"),
    *_conv_norm(r"features\.(?:16|12)", "0", "1", "last"),
    (r".*\.num_batches_tracked", None),
    (r"classifier\..*", None),
)
"""Rules from torchvision's MobileNetV3, large or small, to the paths of :class:`MobileNet`."""

_RETINAFACE_BLOCKS = (*((1, i, i) for i in range(1, 6)), *((2, i, 6 + i) for i in range(6)), (3, 0, 12), (3, 1, 13))
"""Stage, entry in the stage, number of the block."""

RETINAFACE_NAMES: Rules = (
    *_conv_norm(r"stage1\.0", "0", "1", "stem"),
    *(
        rule
        for stage, entry, block in _RETINAFACE_BLOCKS
        for conv, norm, part in (("0", "1", "depthwise"), ("3", "4", "pointwise"))
        for rule in _conv_norm(rf"stage{stage}\.{entry}", conv, norm, f"block{block}/{part}")
    ),
    (r".*\.num_batches_tracked", None),
    (r"fc\..*", None),
)
"""Rules from the MobileNetV1 x0.25 of github.com/biubug6/Pytorch_Retinaface, which ``mobilenet_v1`` is with ``width``
0.25 and ``activation`` "leaky_relu"."""

_CONVOLUTIONS = (
    *("stem", "block1/depthwise", "block1/project"),
    *(f"block{i}/{part}" for i in range(2, 18) for part in ("expand", "depthwise", "project")),
    "last",
)

FOLDED_NAMES: Rules = (
    *((rf"{i:02d}\.weight", f"{path}/conv/kernel") for i, path in enumerate(_CONVOLUTIONS)),
    *((rf"{i:02d}\.bias", f"{path}/conv/bias") for i, path in enumerate(_CONVOLUTIONS)),
    (rf"{len(_CONVOLUTIONS):02d}\.(weight|bias)", None),
)
"""Rules for a MobileNetV2 without BatchNorm whose convolutions are numbered in the order of the network: ``00.weight``,
``00.bias`` and so on. The last is the classifier, which is left out."""
