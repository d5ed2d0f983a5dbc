"""ENet: a deep neural network architecture for real-time semantic segmentation (Paszke et al. 2016, arXiv:1606.02147).

Image (any size) -> initial block at 1/2 -> stage 1 at 1/4 -> stages 2 and 3 at 1/8 with dilated and asymmetric
convolutions -> stages 4 and 5 back up by max-unpooling -> transposed convolution to full size. Biases, the order of the
asymmetric pair (horizontal first) and the 2x2 pooling of the initial block follow the authors' Lua code
(e-lab/ENet-training).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Shaped

from jaxseg.layers.activation import PReLU
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import IMAGENET, Standardize
from jaxseg.ops.pool import max_pool, max_pool_with_switches, max_unpool
from jaxseg.registry import register

Map = Float[Array, "b y x c"]
Resized = Float[Array, "b _ _ _"]
Switches = Int8[Array, "b _ _ _"]


class ENet(nn.Module):
    """The whole network (paper Table 1).

    Attributes:
      num_classes: channels of the logits.
      decoder: False leaves the encoder with a 1x1 classifier at 1/8 resolution, upsampled by nearest neighbour to the
        image: the network of the paper's first training stage.
      dropout: rates of the first five bottlenecks and of the others in the encoder (paper section 4).
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    decoder: bool = True
    dropout: tuple[float, float] = (0.01, 0.1)
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w 3"], *, train: bool = False) -> dict[str, Array]:
        """``{"logits": f32[b h w k]}`` of raw RGB. Sizes that are no multiple of 8 are padded inside and cropped."""
        h, w = image.shape[1:3]
        x = self.standardize(image)
        x = jnp.pad(x, ((0, 0), (0, -h % 8), (0, -w % 8), (0, 0)))
        first, later = self.dropout

        x = InitialBlock(dtype=self.dtype, name="initial")(x, train=train)
        x, switches1 = Downsample(64, dropout=first, dtype=self.dtype, name="stage1_down")(x, train=train)
        for i in range(1, 5):
            x = Bottleneck(dropout=first, dtype=self.dtype, name=f"stage1_{i}")(x, train=train)
        x, switches2 = Downsample(128, dropout=later, dtype=self.dtype, name="stage2_down")(x, train=train)
        for stage in (2, 3):
            for i, kind in enumerate(STAGE_2, 1):
                block = Bottleneck(kind=kind, dropout=later, dtype=self.dtype, name=f"stage{stage}_{i}")
                x = block(x, train=train)

        if not self.decoder:
            coarse = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
            logits = jnp.repeat(jnp.repeat(coarse, 8, axis=1), 8, axis=2)
            return {"logits": logits[:, :h, :w].astype(jnp.float32)}

        x = Upsample(64, dtype=self.dtype, name="stage4_up")(x, switches2, train=train)
        for i in (1, 2):
            x = Bottleneck(relu=True, dtype=self.dtype, name=f"stage4_{i}")(x, train=train)
        x = Upsample(16, dtype=self.dtype, name="stage5_up")(x, switches1, train=train)
        x = Bottleneck(relu=True, dtype=self.dtype, name="stage5_1")(x, train=train)
        x = ConvTranspose(self.num_classes, 2, stride=2, dtype=self.dtype, name="fullconv")(x)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


STAGE_2 = ("regular", "dilated2", "asymmetric5", "dilated4", "regular", "dilated8", "asymmetric5", "dilated16")
"""The eight bottlenecks of stage 2, repeated as stage 3 (Table 1)."""


class InitialBlock(nn.Module):
    """Figure 2a: 13 strided filters beside the pooled image, concatenated to 16 channels."""

    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Resized:
        """``[b y x 3]`` -> ``[b y/2 x/2 16]``."""
        conv = Conv(13, 3, stride=2, padding=1, dtype=self.dtype, name="conv")(x)
        x = jnp.concatenate([conv, max_pool(x.astype(self.dtype), 2)], axis=-1)
        x = BatchNorm(epsilon=1e-3, dtype=self.dtype, name="norm")(x, train=train)
        return PReLU(name="act")(x)


class Bottleneck(nn.Module):
    """Figure 2b: 1x1 reduction by four, the main convolution, 1x1 expansion, dropout, sum with the input.

    ``kind`` is "regular", "dilatedN" or "asymmetricN"; ``relu=True`` replaces PReLU, as in the decoder.
    """

    kind: str = "regular"
    dropout: float = 0.0
    relu: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """``[b y x c]`` -> the same shape."""
        channels = x.shape[-1]
        inner = channels // 4
        y = Conv(inner, 1, use_bias=False, dtype=self.dtype, name="reduce")(x)
        y = _norm_act(self, 1, y, train=train)
        y = self._main(y, inner)
        y = _norm_act(self, 2, y, train=train)
        y = Conv(channels, 1, use_bias=False, dtype=self.dtype, name="expand")(y)
        y = BatchNorm(epsilon=1e-3, dtype=self.dtype, name="norm3")(y, train=train)
        y = Dropout(self.dropout, spatial=True, name="dropout")(y, train=train)
        return _act(self, "act", x + y)

    def _main(self, y: Map, inner: int) -> Map:
        if self.kind == "regular":
            return Conv(inner, 3, padding=1, dtype=self.dtype, name="conv")(y)
        if self.kind.startswith("dilated"):
            rate = int(self.kind.removeprefix("dilated"))
            return Conv(inner, 3, padding=rate, dilation=rate, dtype=self.dtype, name="conv")(y)
        k = int(self.kind.removeprefix("asymmetric"))
        y = Conv(inner, (1, k), padding=(0, k // 2), use_bias=False, dtype=self.dtype, name="conv_row")(y)
        return Conv(inner, (k, 1), padding=(k // 2, 0), dtype=self.dtype, name="conv_column")(y)


class Downsample(nn.Module):
    """Figure 2b with pooling: the main path is a 2x2 max-pool whose switches travel to the decoder, its channels
    padded with zeros; the first 1x1 of the extension becomes 2x2 with stride 2.
    """

    features: int
    dropout: float = 0.0
    dtype: jnp.dtype | type = jnp.float32
    relu: bool = False

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Resized, Switches]:
        """``[b y x c]`` -> ``[b y/2 x/2 features]`` and the switches of the pooling."""
        inner = self.features // 4
        y = Conv(inner, 2, stride=2, use_bias=False, dtype=self.dtype, name="reduce")(x)
        y = _norm_act(self, 1, y, train=train)
        y = Conv(inner, 3, padding=1, dtype=self.dtype, name="conv")(y)
        y = _norm_act(self, 2, y, train=train)
        y = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="expand")(y)
        y = BatchNorm(epsilon=1e-3, dtype=self.dtype, name="norm3")(y, train=train)
        y = Dropout(self.dropout, spatial=True, name="dropout")(y, train=train)
        pooled, switches = max_pool_with_switches(x, 2)
        extra = self.features - x.shape[-1]
        return _act(self, "act", y + jnp.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, extra)))), switches


class Upsample(nn.Module):
    """The decoder's bottleneck: the main path is 1x1, then max-unpooling by the encoder's switches; the extension's
    main convolution is a 3x3 transposed one with stride 2. ReLU throughout.
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32
    relu: bool = True

    @nn.compact
    def __call__(self, x: Map, switches: Switches, *, train: bool) -> Resized:
        """``[b y x c]`` -> ``[b 2y 2x features]``."""
        inner = self.features // 4
        main = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="main")(x)
        main = BatchNorm(epsilon=1e-3, dtype=self.dtype, name="main_norm")(main, train=train)
        main = max_unpool(main, switches, 2)
        y = Conv(inner, 1, use_bias=False, dtype=self.dtype, name="reduce")(x)
        y = _norm_act(self, 1, y, train=train)
        y = ConvTranspose(inner, 3, stride=2, padding=1, output_padding=1, dtype=self.dtype, name="conv")(y)
        y = _norm_act(self, 2, y, train=train)
        y = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="expand")(y)
        y = BatchNorm(epsilon=1e-3, dtype=self.dtype, name="norm3")(y, train=train)
        return jax.nn.relu(main + y)


Block = Bottleneck | Downsample | Upsample


def _act(block: Block, name: str, x: Map) -> Map:
    return jax.nn.relu(x) if block.relu else PReLU(name=name, parent=block)(x)


def _norm_act(block: Block, i: int, x: Map, *, train: bool) -> Map:
    x = BatchNorm(epsilon=1e-3, dtype=block.dtype, name=f"norm{i}", parent=block)(x, train=train)
    return _act(block, f"act{i}", x)


@register(task="semantic", paper="arXiv:1606.02147", params=363_791)
def enet(
    num_classes: int = 11,
    decoder: bool = True,
    dropout: tuple[float, float] = (0.01, 0.1),
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
) -> ENet:
    """ENet for street scenes: 0.37 M parameters, output stride 8, decoder by max-unpooling."""
    return ENet(num_classes=num_classes, decoder=decoder, dropout=dropout, standardize=standardize, dtype=dtype)
