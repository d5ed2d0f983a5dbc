"""Yolo-Fastest 1.1 (dog-qiuqiu/Yolo-Fastest on GitHub, 2021): YOLOv3's heads on inverted residuals of few channels.

Every block expands, also where that changes no channels, unlike MobileNetV2's; the branch is dropped value by value in
training. Spatial pyramid pooling (He et al. 2014, arXiv:1406.4729) follows the last block.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.mobilenet_blocks import ConvBN
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import UNIT_RANGE, Standardize
from jaxseg.models.detection.yolo_v3 import HEADS, SMALL, Anchors, YOLOv3, darknet_names, in_steps, leaky
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]
Block = tuple[int, int, int]
"""Channels out, channels in between, and stride."""

BLOCKS: tuple[Block, ...] = (
    *((4, 8, 1),) * 2,
    (8, 24, 2),
    *((8, 32, 1),) * 2,
    (8, 32, 2),
    *((8, 48, 1),) * 2,
    (16, 48, 1),
    *((16, 96, 1),) * 4,
    (24, 96, 2),
    *((24, 136, 1),) * 4,
    (48, 136, 2),
    *((48, 224, 1),) * 5,
)

BLOCKS_XL: tuple[Block, ...] = (
    *((8, 16, 1),) * 2,
    (16, 48, 2),
    *((16, 64, 1),) * 2,
    (16, 64, 2),
    *((16, 96, 1),) * 2,
    (32, 96, 1),
    *((32, 192, 1),) * 4,
    (48, 192, 2),
    *((48, 272, 1),) * 4,
    (96, 272, 2),
    *((96, 448, 1),) * 5,
)

ANCHORS: Anchors = (((115, 73), (119, 199), (242, 238)), ((12, 18), (37, 49), (52, 132)))

WINDOWS = (9, 5, 3)
"""Of the pooled maps beside the map itself, in their order."""


class FastestBody(nn.Module):
    """The network below the heads: blocks, pyramid pooling, and two branches of separable 5x5 convolutions.

    >>> body, x = FastestBody(((4, 8, 2), (4, 8, 2), (4, 8, 2), (4, 8, 2))), jnp.zeros((1, 64, 96, 3))
    >>> found = jax.eval_shape(lambda: body.init_with_output(jax.random.key(0), x, train=False)[0])
    >>> [y.shape for y in found]
    [(1, 2, 3, 96), (1, 4, 6, 100)]

    Attributes:
      blocks: rows of the table; the map of stride 16 is what the last block of stride 2 takes.
      stem: channels of the first convolution.
      neck: channels after the pyramid pooling.
      dropout: rate of the branches.
      norm: of the convolutions.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    blocks: tuple[Block, ...] = BLOCKS
    stem: int = 8
    neck: int = 96
    dropout: float = 0.15
    norm: str = "batch"
    in_channels: int = 3
    standardize: Standardize = UNIT_RANGE
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> tuple[Map, Map]:
        """Return the maps of strides 32 and 16 that the heads read."""
        layer = partial(ConvBN, norm=self.norm, dtype=self.dtype)
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = fine = leaky(layer(self.stem, 3, stride=2, name="stem")(x, train=train))
        for i, (features, expanded, stride) in enumerate(self.blocks):
            fine = x if stride == 2 else fine
            x = FastestBlock(features, expanded, stride, self.dropout, self.norm, self.dtype, name=f"block{i}")(
                x, train=train
            )
        pooled = [max_pool(x, window, stride=1, padding=window // 2) for window in WINDOWS]
        lateral = leaky(layer(self.neck, 1, name="neck")(jnp.concatenate([*pooled, x], -1), train=train))
        up = resize_nearest(lateral, (2 * lateral.shape[1], 2 * lateral.shape[2]))
        coarse, fine = lateral, jnp.concatenate([up, fine], -1)
        for i in range(2):
            coarse = FastestSeparable(self.norm, self.dtype, name=f"coarse{i}")(coarse, train=train)
            fine = FastestSeparable(self.norm, self.dtype, name=f"fine{i}")(fine, train=train)
        return coarse, fine


class FastestBlock(nn.Module):
    """Expansion, depthwise 3x3, and a linear projection; the sum with the input where both are alike.

    >>> block, x = FastestBlock(4, 8, 2), jnp.zeros((1, 8, 8, 4))
    >>> jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), x, train=False)[0]).shape
    (1, 4, 4, 4)
    """

    features: int
    expanded: int
    stride: int = 1
    dropout: float = 0.0
    norm: str = "batch"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map after the block."""
        layer = partial(ConvBN, norm=self.norm, dtype=self.dtype)
        y = leaky(layer(self.expanded, 1, name="expand")(x, train=train))
        y = leaky(layer(self.expanded, 3, stride=self.stride, groups=self.expanded, name="depthwise")(y, train=train))
        y = layer(self.features, 1, name="project")(y, train=train)
        if self.stride > 1 or x.shape[-1] != self.features:
            return y
        return x + Dropout(self.dropout)(y, train=train)


class FastestSeparable(nn.Module):
    """Depthwise 5x5 with an activation and a linear 1x1, both normalised; as many channels as there are.

    >>> layer, x = FastestSeparable(), jnp.zeros((1, 8, 8, 4))
    >>> jax.eval_shape(lambda: layer.init_with_output(jax.random.key(0), x, train=False)[0]).shape
    (1, 8, 8, 4)
    """

    norm: str = "batch"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map."""
        c, layer = x.shape[-1], partial(ConvBN, norm=self.norm, dtype=self.dtype)
        x = leaky(layer(c, 5, groups=c, name="depthwise")(x, train=train))
        return layer(c, 1, name="pointwise")(x, train=train)


def yolo_fastest(
    num_classes: int = 80,
    *,
    blocks: tuple[Block, ...] = BLOCKS,
    stem: int = 8,
    dropout: float = 0.15,
    image_size: int = 320,
    anchors: Anchors = ANCHORS,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> YOLOv3:
    """Return Yolo-Fastest.

    >>> yolo_fastest(3).image_size
    320

    Args:
      num_classes: outputs of each anchor besides its box and objectness.
      blocks: channels out, channels in between and stride of each block; four of them, and the stem, halve the map.
      stem: channels of the first convolution.
      dropout: rate of the blocks' branches.
      image_size: side of the network's input, pixels, a multiple of 32.
      anchors: width and height of those of the maps of strides 32 and 16, pixels of the input.
      in_channels: of the image.
      standardize: statistics of the input; by default the dtype's range becomes 0..1.
      dtype: compute dtype.

    Raises:
      BadInput: ``image_size`` is no multiple of 32.
    """
    standardize = standardize or UNIT_RANGE
    body = FastestBody(blocks, stem, dropout=dropout, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return YOLOv3(body, num_classes, in_steps(image_size), anchors, dtype=dtype)


_PARTS = ("expand", "depthwise", "project")
_BRANCH = ("depthwise", "pointwise")

DARKNET_NAMES: Rules = darknet_names(
    (
        "backbone/stem",
        *(f"backbone/block{i}/{part}" for i in range(len(BLOCKS)) for part in _PARTS),
        "backbone/neck",
        *(f"backbone/coarse{i}/{part}" for i in range(2) for part in _BRANCH),
        "head0",
        *(f"backbone/fine{i}/{part}" for i in range(2) for part in _BRANCH),
        "head1",
    ),
    HEADS,
)
"""Rules from darknet's ``yolo-fastest-1.1.weights`` and ``yolo-fastest-1.1-xl.weights``."""

_SMALL = {
    "blocks": ((4, 8, 1), (4, 8, 1), (8, 16, 2), (8, 16, 2), (8, 16, 2), (8, 16, 1), (16, 32, 2), (16, 32, 1)),
    "backbone.neck": 32,
    **SMALL,
}
_register = partial(
    register,
    task="detection",
    paper="github.com/dog-qiuqiu/Yolo-Fastest",
    names={"darknet": DARKNET_NAMES},
    small=_SMALL,
)

_register(summary="Yolo-Fastest 1.1: YOLOv3's heads on inverted residuals.")(yolo_fastest)

yolo_fastest_xl = _register(
    name="yolo_fastest_xl",
    summary="The same with twice the channels.",
)(partial(yolo_fastest, blocks=BLOCKS_XL, stem=16, dropout=0.2))
