"""The decoders that the SegNet paper compares on SegNet-Basic's encoder (arXiv:1511.00561, section 3.3, Table 1).

Each is a module of its own from what the encoder leaves to class scores; :class:`BasicVariant` puts one behind the
encoder. The two that the table calls SegNet-Basic and FCN-Basic are in ``segnet.py``. The table prints parameters in
rounded millions, at times off by a few per cent; no released network fixes the details of these variants.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import RAW_BGR, Standardize, statistics
from jaxseg.models.semantic.segnet import Level, encode, learned_upsampling
from jaxseg.ops.pool import max_unpool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]
Levels = dict[int, Level]


@runtime_checkable
class Decoder(Protocol):
    """From the encoder's last map and its levels 1 to 4 to scores of the image's size."""

    num_classes: int

    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        ...


class BasicVariant(nn.Module):
    """SegNet-Basic's encoder under one of the decoders below.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("encoder_addition"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      decoder: one of them.
      width: channels of the encoder.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    decoder: Decoder
    width: int = 64
    in_channels: int = 3
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @property
    def num_classes(self) -> int:
        """Channels of the logits."""
        return self.decoder.num_classes

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        x, encoder = encode(self, image, train=train)
        return {"logits": self.decoder(x, encoder, train=train).astype(jnp.float32)}


class BilinearInterpolation(nn.Module):
    """Fixed upsampling: the deepest map is reduced to the classes, its scores are interpolated level by level.

    >>> net, image = BasicVariant(BilinearInterpolation(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> list(params)
    ['score']
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``; the encoder's levels give nothing but their sizes."""
        del train
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="score")(x)
        for level in (4, 3, 2, 1):
            rows, columns = encoder[level].size
            x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))[:, :rows, :columns]
        return x


class EncoderAddition(nn.Module):
    """SegNet-Basic's decoder, each of whose maps is summed with the encoder's activations of that size.

    >>> net, image = BasicVariant(EncoderAddition(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> params["conv_decode1"]["kernel"].shape
    (7, 7, 4, 4)
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        for level in (4, 3, 2, 1):
            at = encoder[level]
            x = max_unpool(x, at.switches, 2, size=at.size)
            x = Conv(x.shape[-1], 7, padding=3, dtype=self.dtype, name=f"conv_decode{level}")(x)
            x = _norm(f"conv_decode{level}_norm", self.dtype)(x, train=train) + at.active
        return Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)


class SingleChannelDecoder(nn.Module):
    """SegNet-Basic's decoder with filters of one channel: each map is convolved by itself alone.

    >>> net, image = BasicVariant(SingleChannelDecoder(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> params["conv_decode1"]["kernel"].shape
    (7, 7, 1, 4)
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        for level in (4, 3, 2, 1):
            at = encoder[level]
            x = max_unpool(x, at.switches, 2, size=at.size)
            c = x.shape[-1]
            x = Conv(c, 7, padding=3, groups=c, dtype=self.dtype, name=f"conv_decode{level}")(x)
            x = _norm(f"conv_decode{level}_norm", self.dtype)(x, train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)


class NoAddition(nn.Module):
    """FCN-Basic that learns to upsample its deepest scores and adds nothing of the encoder.

    >>> net, image = BasicVariant(NoAddition(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> params["upscore1"]["kernel"].shape
    (8, 8, 3, 3)
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        del train
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="score4")(x)
        for level in (4, 3, 2, 1):
            x = learned_upsampling(self, level, x, encoder[level].size)
        return x


class NoDimReduction(nn.Module):
    """FCN-Basic on all channels of the encoder: upsampled maps plus pools of that size, classified at the very end.

    >>> net, image = BasicVariant(NoDimReduction(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> params["upscore1"]["kernel"].shape
    (8, 8, 4, 4)
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        del train
        for level in (4, 3, 2, 1):
            x = learned_upsampling(self, level, x, encoder[level].size)
            x = x + encoder[level - 1].pooled if level > 1 else x
        return Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)


class NoAdditionNoDimReduction(nn.Module):
    """FCN-Basic that learns to upsample all channels of the deepest map, adds nothing, and classifies at the end.

    >>> net, image = BasicVariant(NoAdditionNoDimReduction(3), width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> params = jax.eval_shape(net.init, jax.random.key(0), image)["params"]["decoder"]
    >>> sorted(params)
    ['conv_classifier', 'upscore1', 'upscore2', 'upscore3', 'upscore4']
    """

    num_classes: int = 11
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, encoder: Levels, *, train: bool) -> Map:
        """Return ``[b h w k]``."""
        del train
        for level in (4, 3, 2, 1):
            x = learned_upsampling(self, level, x, encoder[level].size)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)


def _norm(name: str, dtype: jnp.dtype | type) -> BatchNorm:
    return BatchNorm(bias_init=nn.initializers.constant(0.001), dtype=dtype, name=name)


def _variant(
    decoder: Callable[..., Decoder],
    num_classes: int = 11,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> BasicVariant:
    return BasicVariant(
        decoder(num_classes, dtype=dtype),
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )


_register = partial(register, task="semantic", paper="arXiv:1511.00561")

bilinear_interpolation = _register(
    name="bilinear_interpolation",
    summary="SegNet-Basic's encoder under fixed bilinear upsampling of its scores; 0.61 M parameters.",
)(partial(_variant, BilinearInterpolation))

encoder_addition = _register(
    name="encoder_addition",
    summary="SegNet-Basic with the encoder's maps added in the decoder; 1.42 M parameters.",
    small={"width": 4},
    overfit=Overfit(),
)(partial(_variant, EncoderAddition))

single_channel_decoder = _register(
    name="single_channel_decoder", summary="SegNet-Basic with depthwise convolutions in the decoder; 0.63 M parameters."
)(partial(_variant, SingleChannelDecoder))

fcn_basic_noaddition = _register(name="fcn_basic_noaddition", summary="FCN-Basic without the sums; 0.64 M parameters.")(
    partial(_variant, NoAddition)
)

fcn_basic_nodimreduction = _register(
    name="fcn_basic_nodimreduction", summary="FCN-Basic on 64 channels throughout; 1.66 M parameters."
)(partial(_variant, NoDimReduction))

fcn_basic_noaddition_nodimreduction = _register(
    name="fcn_basic_noaddition_nodimreduction",
    summary="FCN-Basic on 64 channels throughout and without the sums; 1.66 M parameters.",
)(partial(_variant, NoAdditionNoDimReduction))
