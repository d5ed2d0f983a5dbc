"""SENet: squeeze-and-excitation networks (Hu et al. 2018, arXiv:1709.01507): SE-ResNet, SE-ResNeXt and SENet-154.

Residual blocks whose sum is weighed, channel by channel, by gains from the means of all channels (Figure 3). The stem's
pool has no zeros around it and keeps the ragged last row and column, as in Caffe.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec
from jaxseg.backbones.mobilenet_blocks import SqueezeExcite
from jaxseg.errors import BadInput, pick
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pool import max_pool
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class SENet(nn.Module):
    """The backbone without its classifier.

    >>> net, image = senet("se_resnext50_32x4d"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 2048)

    Attributes:
      depths: blocks per stage.
      kind: "resnet", the stride on a block's first convolution; "resnext", on the grouped one; "senet", grouped with
        twice the channels, and 3x3 convolutions as stem and shortcuts.
      groups: of the 3x3 convolutions.
      reduction: of the channels inside the gates.
      width: channels of the first stage's blocks; they double with each stage.
      output_stride: 32, 16 or 8; every convolution of a stage that keeps its resolution is dilated.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    kind: str = "resnet"
    groups: int = 1
    reduction: int = 16
    width: int = 64
    output_stride: int = 32
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels: the stem at stride 2, the four stages at 4, 8, 16, 32 or
        ``output_stride``.
        """
        if self.kind not in ("resnet", "resnext", "senet"):
            raise BadInput(f"kind {self.kind!r} of SENet; there are 'resnet', 'resnext' and 'senet'")
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of SENet; there are 8, 16 and 32")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        wide = self.kind == "senet"
        stem = ((3, 2, 1), (3, 1, 1), (3, 1, 2)) if wide else ((7, 2, 1),)
        for i, (size, stride, wider) in enumerate(stem, 1):
            conv = ConvNorm(self.width * wider, size, stride, dtype=self.dtype, name=f"stem{i}")
            x = jax.nn.relu(conv(x, train=train))
        maps = {"c1": x}
        x = max_pool(x, 3, stride=2, ceil_mode=True)
        for stage, blocks in enumerate(self.depths, 1):
            dilation = max(2 ** (stage + 1) // self.output_stride, 1)
            for i in range(blocks):
                x = Block(
                    features=self.width << (stage - 1),
                    kind=self.kind,
                    groups=self.groups,
                    reduction=self.reduction,
                    stride=2 if stage > 1 and i == 0 and dilation == 1 else 1,
                    dilation=dilation,
                    shortcut=0 if i else 3 if wide and stage > 1 else 1,
                    dtype=self.dtype,
                    name=f"layer{stage}_{i}",
                )(x, train=train)
            maps[f"c{stage + 1}"] = x
        return maps


class Block(nn.Module):
    """1x1, 3x3, 1x1, gains, and the sum with the input or its projection, of window ``shortcut`` (0 for none).

    >>> block, x = Block(features=16), jnp.ones((1, 16, 16, 64))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 64)
    """

    features: int
    kind: str = "resnet"
    groups: int = 1
    reduction: int = 16
    stride: int = 1
    dilation: int = 1
    shortcut: int = 0
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block, ``4 * features`` channels."""
        c, conv = 4 * self.features, partial(ConvNorm, dtype=self.dtype)
        first, second = {
            "resnet": (self.features, self.features),
            "resnext": (self.features * 4 // 64 * self.groups,) * 2,
            "senet": (2 * self.features, 4 * self.features),
        }[self.kind]
        early, late = (self.stride, 1) if self.kind == "resnet" else (1, self.stride)
        y = jax.nn.relu(conv(first, 1, early, name="conv1")(x, train=train))
        y = conv(second, 3, late, self.dilation, self.groups, name="conv2")(y, train=train)
        y = conv(c, 1, name="conv3")(jax.nn.relu(y), train=train)
        y = SqueezeExcite(c // self.reduction, "relu", "sigmoid", dtype=self.dtype, name="squeeze")(y)
        if self.shortcut:
            x = conv(c, self.shortcut, self.stride, self.dilation, name="shortcut")(x, train=train)
        return jax.nn.relu(y + x)


VARIANTS: dict[str, tuple[tuple[int, ...], str, int]] = {
    "se_resnet50": ((3, 4, 6, 3), "resnet", 1),
    "se_resnet101": ((3, 4, 23, 3), "resnet", 1),
    "se_resnet152": ((3, 8, 36, 3), "resnet", 1),
    "se_resnext50_32x4d": ((3, 4, 6, 3), "resnext", 32),
    "se_resnext101_32x4d": ((3, 4, 23, 3), "resnext", 32),
    "senet154": ((3, 8, 36, 3), "senet", 64),
}
"""Blocks per stage, kind, groups (Table 1 and appendix)."""


def senet(
    variant: str,
    *,
    output_stride: int = 32,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SENet:
    """Return a network of :data:`VARIANTS`.

    >>> senet("se_resnet50").depths
    (3, 4, 6, 3)

    Raises:
      BadInput: another variant.
    """
    depths, kind, groups = pick(VARIANTS, variant, "SENet")
    return SENet(
        depths=depths,
        kind=kind,
        groups=groups,
        output_stride=output_stride,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _conv_norm(conv: str, norm: str, path: str) -> Rules:
    leaves = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    return (
        (rf"{conv}\.weight", f"{path}/conv/kernel"),
        *((rf"{norm}\.{theirs}", f"{path}/norm/{ours}") for theirs, ours in leaves),
    )


_BLOCK = r"layer([1-4])\.(\d+)\."

SMP_NAMES: Rules = (
    *(rule for i in (1, 2, 3) for rule in _conv_norm(rf"layer0\.conv{i}", rf"layer0\.bn{i}", f"stem{i}")),
    *(rule for i in (1, 2, 3) for rule in _conv_norm(rf"{_BLOCK}conv{i}", rf"{_BLOCK}bn{i}", rf"layer\1_\2/conv{i}")),
    *_conv_norm(rf"{_BLOCK}downsample\.0", rf"{_BLOCK}downsample\.1", r"layer\1_\2/shortcut"),
    *(
        (rf"{_BLOCK}se_module\.{theirs}\.{leaf}", rf"layer\1_\2/squeeze/{ours}/{to}")
        for theirs, ours in (("fc1", "reduce"), ("fc2", "expand"))
        for leaf, to in (("weight", "kernel"), ("bias", "bias"))
    ),
    (r".*\.num_batches_tracked", None),
    (r"last_linear\..*", None),
)
"""Rules from segmentation-models-pytorch's SENets, and Cadene's, to the paths of :class:`SENet`."""

ENCODERS: dict[str, EncoderSpec] = {name: EncoderSpec(partial(senet, name), SMP_NAMES) for name in VARIANTS}
"""By the name in segmentation-models-pytorch."""
