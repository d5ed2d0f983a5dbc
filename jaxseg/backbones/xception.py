"""Aligned Xception as DeepLab v3+ modified it (Chollet 2017, arXiv:1610.02357; Chen et al. 2018, arXiv:1802.02611,
figure 4).

Two 3x3 convolutions, then blocks of three separable convolutions: three in the entry flow, which halve the map each,
sixteen in the middle flow, two in the exit flow. BatchNorm follows every depthwise and every pointwise convolution.
Blocks are numbered through, from 0, as in timm.
"""

from dataclasses import dataclass
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.layers.standardize import CENTRED, Standardize, statistics
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


@dataclass(frozen=True)
class Flow:
    """A block: channels of its three separable convolutions, stride of the last, whether the input is added.

    Where it is, each convolution is preceded by ReLU; where it is not, in the last block, ReLU is inside of them.

    >>> Flow((128, 128, 128), stride=2).skip
    True
    """

    features: tuple[int, int, int]
    stride: int = 1
    skip: bool = True


class Xception(nn.Module):
    """The convolutional part.

    >>> xception().blocks[0]
    Flow(features=(128, 128, 128), stride=2, skip=True)

    Attributes:
      blocks: what follows the two convolutions of the stem.
      stem: channels of those.
      output_stride: 32, 16 or 8. A block that would go beyond keeps the resolution and the dilation before it; those
        after it are dilated.
      epsilon: of the BatchNorms.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    blocks: tuple[Flow, ...]
    stem: tuple[int, int] = (32, 64)
    output_stride: int = 32
    epsilon: float = 1e-3
    in_channels: int = 3
    standardize: Standardize = CENTRED
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels.

        The first four are the inputs of the last convolution of each block with a stride, before its ReLU, at strides
        2, 4, 8 and 16; ``c5`` is the last block's map.
        """
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output stride {self.output_stride} of Xception; there are 8, 16 and 32")
        options = {"epsilon": self.epsilon, "dtype": self.dtype}
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        for i, (features, stride) in enumerate(zip(self.stem, (2, 1), strict=True), 1):
            x = jax.nn.relu(ConvNorm(features, 3, stride=stride, **options, name=f"stem{i}")(x, train=train))
        maps: dict[str, Map] = {}
        level, reached, dilation = 1, 2, 1
        for i, flow in enumerate(self.blocks):
            stride = flow.stride if reached * flow.stride <= self.output_stride else 1
            block = XceptionBlock(flow, stride=stride, dilation=dilation, **options, name=f"block{i}")
            x, tap = block(x, train=train)
            reached, dilation = reached * stride, dilation * flow.stride // stride
            if flow.stride == 2:
                maps[f"c{level}"] = tap
                level += 1
        return {**maps, "c5": x}


class XceptionBlock(nn.Module):
    """Three separable convolutions and the sum with the input, or with its 1x1 projection.

    >>> block, x = XceptionBlock(Flow((16, 16, 16), stride=2), stride=2), jnp.ones((1, 16, 16, 8))
    >>> result = jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0))
    >>> jax.tree.leaves(result)[0].shape[0]
    1
    """

    flow: Flow
    stride: int = 1
    dilation: int = 1
    epsilon: float = 1e-3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Map, Map]:
        """Return the map after the block, and the one after its second convolution."""
        flow, options = self.flow, {"epsilon": self.epsilon, "dtype": self.dtype}
        y, tap = x, x
        for i, features in enumerate(flow.features, 1):
            tap = y
            separable = SeparableConv(
                features,
                stride=self.stride if i == 3 else 1,
                dilation=self.dilation,
                activated=not flow.skip,
                **options,
                name=f"conv{i}",
            )
            y = separable(jax.nn.relu(y) if flow.skip else y, train=train)
        if not flow.skip:
            return y, tap
        if flow.stride == 1 and x.shape[-1] == flow.features[-1]:
            return x + y, tap
        return y + ConvNorm(flow.features[-1], 1, stride=self.stride, **options, name="shortcut")(x, train=train), tap


class SeparableConv(nn.Module):
    """Depthwise 3x3, then pointwise, each normalised, and activated by ReLU if wanted.

    >>> block, x = SeparableConv(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    stride: int = 1
    dilation: int = 1
    activated: bool = False
    epsilon: float = 1e-3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        layer = partial(ConvNorm, epsilon=self.epsilon, dtype=self.dtype)
        c, stride, dilation = x.shape[-1], self.stride, self.dilation
        x = layer(c, 3, stride=stride, dilation=dilation, groups=c, name="depthwise")(x, train=train)
        x = jax.nn.relu(x) if self.activated else x
        x = layer(self.features, 1, name="pointwise")(x, train=train)
        return jax.nn.relu(x) if self.activated else x


def xception(
    *,
    width: float = 1.0,
    middle: int = 16,
    output_stride: int = 32,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Xception:
    """Xception-65 times ``width``, with ``middle`` blocks in the middle flow.

    >>> xception(output_stride=16).output_stride
    16
    """

    def flow(*features: int, stride: int = 1, skip: bool = True) -> Flow:
        first, second, third = (int(c * width) for c in features)
        return Flow((first, second, third), stride, skip)

    return Xception(
        blocks=(
            *(flow(c, c, c, stride=2) for c in (128, 256, 728)),
            *[flow(728, 728, 728)] * middle,
            flow(728, 1024, 1024, stride=2),
            flow(1536, 1536, 2048, skip=False),
        ),
        stem=(int(32 * width), int(64 * width)),
        output_stride=output_stride,
        in_channels=in_channels,
        standardize=statistics(standardize, CENTRED, in_channels),
        dtype=dtype,
    )


def _conv_norm(source: str, path: str, conv: str = "conv", norm: str = "bn") -> Rules:
    return (
        (rf"{source}\.{conv}\.weight", f"{path}/conv/kernel"),
        (rf"{source}\.{norm}\.weight", f"{path}/norm/scale"),
        (rf"{source}\.{norm}\.bias", f"{path}/norm/bias"),
        *((rf"{source}\.{norm}\.running_{leaf}", f"{path}/norm/{leaf}") for leaf in ("mean", "var")),
    )


_STACK, _CONV = r"blocks\.(\d+)\.stack\.conv(\d)", r"block\1/conv\2"

TIMM_NAMES: Rules = (
    *_conv_norm(r"stem\.0", "stem1"),
    *_conv_norm(r"stem\.1", "stem2"),
    *_conv_norm(r"blocks\.(\d+)\.shortcut", r"block\1/shortcut"),
    *_conv_norm(_STACK, f"{_CONV}/depthwise", "conv_dw", "bn_dw"),
    *_conv_norm(_STACK, f"{_CONV}/pointwise", "conv_pw", "bn_pw"),
    (r".*\.num_batches_tracked", None),
    (r"head\..*", None),
)
"""Rules from timm's ``xception65`` to the paths of :class:`Xception`; None leaves an entry out."""
