"""ENet: a deep neural network architecture for real-time semantic segmentation (Paszke et al. 2016, arXiv:1606.02147).

Image (any size) -> initial block at 1/2 -> stage 1 at 1/4 -> stages 2 and 3 at 1/8 with dilated and asymmetric
convolutions -> stages 4 and 5 back up by max-unpooling -> transposed convolution to full size. Biases, the order of the
asymmetric pair (horizontal first) and the 2x2 pooling of the initial block follow the authors' Lua code
(e-lab/ENet-training); ``Details`` lists what else is open and how a PyTorch port with public weights decides it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.activation import PReLU
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import IMAGENET, UNIT, Standardize, statistics
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.pool import max_pool, max_pool_with_switches, max_unpool
from jaxseg.ops.window import Size
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b y x c"]
Resized = Float[Array, "b _ _ _"]
Switches = Int8[Array, "b _ _ _"]


@dataclass(frozen=True)
class Details:
    """Details that the paper leaves open. The defaults are those of the authors' Lua code.

    >>> Details().inner
    (16, 32, 16, 4)

    Attributes:
      normed: channels of the initial block under its BatchNorm: all 16, or the convolution's 13 alone.
      inner: channels inside the four blocks that change the resolution, in order.
      reduce_stride: stride and side of the first convolution of a downsampling block; the second has the rest of 2.
      biases: convolutions with a bias, by their names in the blocks; "upconv" is the transposed one. "main", on the
        decoder's main path, has either a bias or a BatchNorm.
      last_kernel: side of the last transposed convolution, 2 or 3.
      epsilon: of every BatchNorm.
    """

    normed: int = 16
    inner: tuple[int, int, int, int] = (16, 32, 16, 4)
    reduce_stride: int = 2
    biases: tuple[str, ...] = ("conv", "conv_column", "upconv", "fullconv")
    last_kernel: int = 2
    epsilon: float = 1e-3


LUA = Details()
"""The authors' (e-lab/ENet-training)."""

PORT = Details(
    normed=13,
    inner=(4, 16, 32, 16),
    reduce_stride=1,
    biases=("conv", "main"),
    last_kernel=3,
    epsilon=1e-5,
)
"""iArunava/ENet-Real-Time-Semantic-Segmentation: every block reduces to a quarter of what comes in."""


class ENet(nn.Module):
    """The whole network (paper Table 1).

    >>> net, image = ENet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 11)

    Attributes:
      num_classes: channels of the logits.
      decoder: False leaves the encoder with a 1x1 classifier at 1/8 resolution, upsampled by nearest neighbour to the
        image: the network of the paper's first training stage.
      dropout: rates of the first five bottlenecks and of the others in the encoder (paper section 4).
      details: what the paper leaves open.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    decoder: bool = True
    dropout: tuple[float, float] = (0.01, 0.1)
    details: Details = LUA
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels. Sizes that are no multiple of 8 are padded inside and
        cropped.
        """
        h, w = image.shape[1:3]
        x = zeros_to_multiple(self.standardize(image, self.in_channels), 8)
        first, later = self.dropout
        down1, down2, up4, up5 = self.details.inner
        common = {"details": self.details, "dtype": self.dtype}
        down, regular, up = partial(Downsample, **common), partial(Bottleneck, **common), partial(Upsample, **common)

        x = InitialBlock(**common, name="initial")(x, train=train)
        x, switches1 = down(64, down1, dropout=first, name="stage1_down")(x, train=train)
        for i in range(1, 5):
            x = regular(dropout=first, name=f"stage1_{i}")(x, train=train)
        x, switches2 = down(128, down2, dropout=later, name="stage2_down")(x, train=train)
        for stage in (2, 3):
            for i, kind in enumerate(STAGE_2, 1):
                x = regular(kind=kind, dropout=later, name=f"stage{stage}_{i}")(x, train=train)

        if not self.decoder:
            coarse = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
            logits = jnp.repeat(jnp.repeat(coarse, 8, axis=1), 8, axis=2)
            return {"logits": logits[:, :h, :w].astype(jnp.float32)}

        x = up(64, up4, name="stage4_up")(x, switches2, train=train)
        for i in (1, 2):
            x = regular(relu=True, name=f"stage4_{i}")(x, train=train)
        x = up(16, up5, name="stage5_up")(x, switches1, train=train)
        x = regular(relu=True, name="stage5_1")(x, train=train)
        k = self.details.last_kernel
        x = ConvTranspose(
            self.num_classes,
            k,
            stride=2,
            padding=(k - 1) // 2,
            output_padding=k % 2,
            use_bias="fullconv" in self.details.biases,
            dtype=self.dtype,
            name="fullconv",
        )(x)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


STAGE_2 = ("regular", "dilated2", "asymmetric5", "dilated4", "regular", "dilated8", "asymmetric5", "dilated16")
"""The eight bottlenecks of stage 2, repeated as stage 3 (Table 1)."""


class InitialBlock(nn.Module):
    """Figure 2a: 13 strided filters beside the pooled image, concatenated to 16 channels.

    Images of other than three channels have as many filters as that leaves.

    >>> block, x = InitialBlock(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 16)
    """

    details: Details = LUA
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Resized:
        """Map ``[b y x c]`` to ``[b y/2 x/2 16]``.

        Raises:
          BadInput: an image of more than 15 channels.
        """
        filters = 16 - x.shape[-1]
        if filters < 1:
            raise BadInput(f"in_channels is {x.shape[-1]}, and ENet's initial block takes 15 at most")
        conv = _conv(self, "conv", filters, 3, stride=2, padding=1)(x)
        x = jnp.concatenate([conv, max_pool(x.astype(self.dtype), 2)], axis=-1)
        n = filters if self.details.normed == 13 else 16
        x = jnp.concatenate([_norm(self, "norm")(x[..., :n], train=train), x[..., n:]], axis=-1)
        return PReLU(name="act")(x)


class Bottleneck(nn.Module):
    """Figure 2b: 1x1 reduction by four, the main convolution, 1x1 expansion, dropout, sum with the input.

    ``kind`` is "regular", "dilatedN" or "asymmetricN"; ``relu=True`` replaces PReLU, as in the decoder.

    >>> block, x = Bottleneck(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    kind: str = "regular"
    dropout: float = 0.0
    relu: bool = False
    details: Details = LUA
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        channels = x.shape[-1]
        inner = channels // 4
        y = _conv(self, "reduce", inner, 1)(x)
        y = _norm_act(self, 1, y, train=train)
        y = self._main(y, inner)
        y = _norm_act(self, 2, y, train=train)
        y = _conv(self, "expand", channels, 1)(y)
        y = _norm(self, "norm3")(y, train=train)
        y = Dropout(self.dropout, spatial=True, name="dropout")(y, train=train)
        return _act(self, "act", x + y)

    def _main(self, y: Map, inner: int) -> Map:
        if self.kind == "regular":
            return _conv(self, "conv", inner, 3, padding=1)(y)
        if self.kind.startswith("dilated"):
            rate = int(self.kind.removeprefix("dilated"))
            return _conv(self, "conv", inner, 3, padding=rate, dilation=rate)(y)
        k = int(self.kind.removeprefix("asymmetric"))
        y = _conv(self, "conv_row", inner, (1, k), padding=(0, k // 2))(y)
        return _conv(self, "conv_column", inner, (k, 1), padding=(k // 2, 0))(y)


class Downsample(nn.Module):
    """Figure 2b with pooling: the main path is a 2x2 max-pool whose switches travel to the decoder, its channels
    padded with zeros; the first 1x1 of the extension becomes 2x2 with stride 2.

    >>> block, x = Downsample(features=8, inner=2), jnp.ones((1, 16, 16, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0))[0].shape
    (1, 8, 8, 8)
    """

    features: int
    inner: int
    dropout: float = 0.0
    relu: bool = False
    details: Details = LUA
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Resized, Switches]:
        """Map ``[b y x c]`` to ``[b y/2 x/2 features]`` and the switches of the pooling."""
        stride = self.details.reduce_stride
        y = _conv(self, "reduce", self.inner, stride, stride=stride)(x)
        y = _norm_act(self, 1, y, train=train)
        y = _conv(self, "conv", self.inner, 3, stride=2 // stride, padding=1)(y)
        y = _norm_act(self, 2, y, train=train)
        y = _conv(self, "expand", self.features, 1)(y)
        y = _norm(self, "norm3")(y, train=train)
        y = Dropout(self.dropout, spatial=True, name="dropout")(y, train=train)
        pooled, switches = max_pool_with_switches(x, 2)
        extra = self.features - x.shape[-1]
        return _act(self, "act", y + jnp.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, extra)))), switches


class Upsample(nn.Module):
    """The decoder's bottleneck: the main path is 1x1, then max-unpooling by the encoder's switches; the extension's
    main convolution is a 3x3 transposed one with stride 2. ReLU throughout.

    >>> x, switches = max_pool_with_switches(jnp.ones((1, 16, 16, 4)), 2)
    >>> block = Upsample(features=4, inner=2)
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, switches, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 4)
    """

    features: int
    inner: int
    relu: bool = True
    details: Details = LUA
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, switches: Switches, *, train: bool) -> Resized:
        """Map ``[b y x c]`` to ``[b 2y 2x features]``."""
        main = _conv(self, "main", self.features, 1)(x)
        main = main if "main" in self.details.biases else _norm(self, "main_norm")(main, train=train)
        main = max_unpool(main, switches, 2)
        y = _conv(self, "reduce", self.inner, 1)(x)
        y = _norm_act(self, 1, y, train=train)
        y = ConvTranspose(
            self.inner,
            3,
            stride=2,
            padding=1,
            output_padding=1,
            use_bias="upconv" in self.details.biases,
            dtype=self.dtype,
            name="conv",
        )(y)
        y = _norm_act(self, 2, y, train=train)
        y = _conv(self, "expand", self.features, 1)(y)
        y = _norm(self, "norm3")(y, train=train)
        return jax.nn.relu(main + y)


Block = InitialBlock | Bottleneck | Downsample | Upsample


def _conv(block: Block, name: str, features: int, kernel_size: Size, **options: Any) -> Conv:
    bias = name in block.details.biases
    return Conv(features, kernel_size, use_bias=bias, dtype=block.dtype, name=name, parent=block, **options)


def _norm(block: Block, name: str) -> BatchNorm:
    return BatchNorm(epsilon=block.details.epsilon, dtype=block.dtype, name=name, parent=block)


def _act(block: Bottleneck | Downsample | Upsample, name: str, x: Map) -> Map:
    return jax.nn.relu(x) if block.relu else PReLU(name=name, parent=block)(x)


def _norm_act(block: Bottleneck | Downsample | Upsample, i: int, x: Map, *, train: bool) -> Map:
    return _act(block, f"act{i}", _norm(block, f"norm{i}")(x, train=train))


_PORT_LAYERS = (
    (r"conv1\.weight", "reduce/kernel"),
    (r"conv2\.weight", "conv/kernel"),
    (r"conv2\.bias", "conv/bias"),
    (r"conv21\.weight", "conv_row/kernel"),
    (r"conv22\.weight", "conv_column/kernel"),
    (r"conv3\.weight", "expand/kernel"),
    (r"main_conv\.weight", "main/kernel"),
    (r"main_conv\.bias", "main/bias"),
    (r"prelu1\.weight", "act1/alpha"),
    (r"prelu2\.weight", "act2/alpha"),
    (r"prelu3\.weight", "act/alpha"),
    *(
        (rf"{norm}\.{theirs}", f"norm{i}/{ours}")
        for i, norm in ((1, r"(?:batchnorm\.a|bnorm1)"), (2, r"(?:batchnorm\.b|bnorm2)"), (3, "(?:batchnorm2|bnorm3)"))
        for theirs, ours in (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
    ),
)

_PORT_UP_LAYERS = (
    (r"convt1\.weight", "reduce/kernel|iohw"),
    (r"convt2\.weight", "conv/kernel|iohw"),
    (r"convt3\.weight", "expand/kernel|iohw"),
    *(rule for rule in _PORT_LAYERS if not rule[0].startswith("conv")),
)
"""Of a block that enlarges: its three convolutions are transposed ones."""

PORT_NAMES: Rules = (
    (r"init\.conv\.weight", "initial/conv/kernel"),
    (r"init\.conv\.bias", "initial/conv/bias"),
    (r"init\.prelu\.weight", "initial/act/alpha"),
    (r"init\.batchnorm\.weight", "initial/norm/scale"),
    (r"init\.batchnorm\.bias", "initial/norm/bias"),
    (r"init\.batchnorm\.running_(mean|var)", r"initial/norm/\1"),
    *((rf"b([12])0\.{theirs}", rf"stage\1_down/{ours}") for theirs, ours in _PORT_LAYERS),
    *((rf"b([45])0\.{theirs}", rf"stage\1_up/{ours}") for theirs, ours in _PORT_UP_LAYERS),
    *((rf"b([1-5])([1-8])\.{theirs}", rf"stage\1_\2/{ours}") for theirs, ours in _PORT_LAYERS),
    (r"fullconv\.weight", "fullconv/kernel|iohw"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from the state dict of iArunava/ENet-Real-Time-Semantic-Segmentation to the paths of :class:`ENet`.

Its first releases apply one BatchNorm after both inner convolutions of a block, whose running statistics then belong to
neither; ``batchnorm.a`` and ``batchnorm.b`` are the two that it has to be split into. PReLU has one slope per layer
there, which fills all of ours.
"""


@register(
    task="semantic",
    paper="arXiv:1606.02147",
    params=363_791,
    small={},
    overfit=Overfit(),
)
def enet(
    num_classes: int = 11,
    decoder: bool = True,
    dropout: tuple[float, float] = (0.01, 0.1),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ENet:
    """ENet for street scenes: 0.37 M parameters, output stride 8, decoder by max-unpooling."""
    return ENet(
        num_classes=num_classes,
        decoder=decoder,
        dropout=dropout,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


@register(task="semantic", paper="arXiv:1606.02147", names={"iArunava": PORT_NAMES})
def enet_port(
    num_classes: int = 12,
    dropout: tuple[float, float] = (0.01, 0.1),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ENet:
    """ENet with the details of a PyTorch port whose CamVid weights are public; void is its twelfth output."""
    return ENet(
        num_classes=num_classes,
        dropout=dropout,
        details=PORT,
        in_channels=in_channels,
        standardize=statistics(standardize, UNIT, in_channels),
        dtype=dtype,
    )
