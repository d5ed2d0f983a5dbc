"""RegNet: designing network design spaces (Radosavovic et al. 2020, arXiv:2003.13678).

Four stages of residual blocks with grouped 3x3 convolutions, whose widths follow a quantised line; RegNetY has
squeeze-and-excitation after the 3x3 convolution. A 3x3 stem, no pooling. Names and geometry are timm's.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, in_timm
from jaxseg.backbones.mobilenet_blocks import SqueezeExcite
from jaxseg.errors import BadInput, pick
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class RegNet(nn.Module):
    """The backbone without its classifier.

    >>> net, image = regnet("regnety_002"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> maps = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {name: x.shape[-1] for name, x in sorted(maps.items())}
    {'c1': 32, 'c2': 24, 'c3': 56, 'c4': 152, 'c5': 368}

    Attributes:
      depths: blocks per stage.
      widths: channels per stage.
      group: channels of each group of the 3x3 convolutions; no more than the stage has.
      squeeze: whether blocks have squeeze-and-excitation.
      stem: channels of the stem.
      output_stride: 32, 16 or 8. A stage that keeps its resolution is dilated from its second block on.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (1, 1, 4, 7)
    widths: tuple[int, ...] = (24, 56, 152, 368)
    group: int = 8
    squeeze: bool = False
    stem: int = 32
    output_stride: int = 32
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels: the stem at stride 2, the four stages at 4, 8, 16, 32 or
        ``output_stride``.
        """
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of RegNet; there are 8, 16 and 32")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = jax.nn.relu(ConvNorm(self.stem, 3, 2, dtype=self.dtype, name="stem")(x, train=train))
        maps, dilation = {"c1": x}, 1
        for stage, (blocks, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            strided = 2 ** (stage + 1) <= self.output_stride
            before, dilation = dilation, dilation if strided else 2 * dilation
            for i in range(blocks):
                x = Block(
                    width,
                    group=min(self.group, width),
                    squeezed=round(x.shape[-1] / 4) if self.squeeze else 0,
                    stride=2 if strided and i == 0 else 1,
                    dilation=before if i == 0 else dilation,
                    project=i == 0,
                    dtype=self.dtype,
                    name=f"stage{stage}_{i + 1}",
                )(x, train=train)
            maps[f"c{stage + 1}"] = x
        return maps


class Block(nn.Module):
    """1x1, grouped 3x3, perhaps squeeze-and-excitation, 1x1, and the sum with the input or its projection (Figure 4).

    >>> block, x = Block(16, group=8, squeezed=4), jnp.ones((1, 8, 8, 16))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 16)
    """

    features: int
    group: int
    squeezed: int = 0
    stride: int = 1
    dilation: int = 1
    project: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block."""
        c, conv = self.features, partial(ConvNorm, self.features, dtype=self.dtype)
        y = jax.nn.relu(conv(1, name="conv1")(x, train=train))
        y = jax.nn.relu(conv(3, self.stride, self.dilation, c // self.group, name="conv2")(y, train=train))
        if self.squeezed:
            y = SqueezeExcite(self.squeezed, "relu", "sigmoid", dtype=self.dtype, name="squeeze")(y)
        y = conv(1, name="conv3")(y, train=train)
        if self.project:
            x = conv(1, self.stride, name="shortcut")(x, train=train)
        return jax.nn.relu(y + x)


VARIANTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    "regnetx_002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnetx_004": ((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "regnetx_006": ((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "regnetx_008": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "regnetx_016": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "regnetx_032": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "regnetx_040": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "regnetx_064": ((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "regnetx_080": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "regnetx_120": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnetx_160": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "regnetx_320": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "regnety_002": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "regnety_004": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "regnety_006": ((1, 3, 7, 4), (48, 112, 256, 608), 16),
    "regnety_008": ((1, 3, 8, 2), (64, 128, 320, 768), 16),
    "regnety_016": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "regnety_032": ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "regnety_040": ((2, 6, 12, 2), (128, 192, 512, 1088), 64),
    "regnety_064": ((2, 7, 14, 2), (144, 288, 576, 1296), 72),
    "regnety_080": ((2, 4, 10, 1), (168, 448, 896, 2016), 56),
    "regnety_120": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "regnety_160": ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
    "regnety_320": ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
}
"""Blocks and channels per stage, channels of a group (Tables of the appendix), by timm's names."""


def regnet(
    variant: str,
    *,
    output_stride: int = 32,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> RegNet:
    """Return a network of :data:`VARIANTS`.

    >>> regnet("regnetx_002").squeeze, regnet("regnety_002").squeeze
    (False, True)

    Raises:
      BadInput: another variant.
    """
    depths, widths, group = pick(VARIANTS, variant, "RegNet")
    return RegNet(
        depths=depths,
        widths=widths,
        group=group,
        squeeze=variant.startswith("regnety"),
        output_stride=output_stride,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


_BLOCK = r"s(\d)\.b(\d+)\."

TIMM_NAMES: Rules = (
    *(
        rule
        for source, path in (
            ("stem", "stem"),
            *((rf"{_BLOCK}conv{i}", rf"stage\1_\2/conv{i}") for i in (1, 2, 3)),
            (rf"{_BLOCK}downsample", r"stage\1_\2/shortcut"),
        )
        for rule in (
            (rf"{source}\.conv\.weight", f"{path}/conv/kernel"),
            (rf"{source}\.bn\.weight", f"{path}/norm/scale"),
            (rf"{source}\.bn\.bias", f"{path}/norm/bias"),
            (rf"{source}\.bn\.running_mean", f"{path}/norm/mean"),
            (rf"{source}\.bn\.running_var", f"{path}/norm/var"),
        )
    ),
    *(
        (rf"{_BLOCK}se\.{theirs}\.{leaf}", rf"stage\1_\2/squeeze/{ours}/{to}")
        for theirs, ours in (("fc1", "reduce"), ("fc2", "expand"))
        for leaf, to in (("weight", "kernel"), ("bias", "bias"))
    ),
    (r".*\.num_batches_tracked", None),
    (r"head\..*", None),
)
"""Rules from timm's state dict to the paths of :class:`RegNet`."""


def _pruned(net: RegNet, stages: int) -> RegNet:
    return net.clone(depths=net.depths[:stages], widths=net.widths[:stages])


ENCODERS: dict[str, EncoderSpec] = {
    f"tu-{name}": EncoderSpec(partial(regnet, name), in_timm(TIMM_NAMES), prune=_pruned) for name in VARIANTS
}
"""By the name in segmentation-models-pytorch."""
