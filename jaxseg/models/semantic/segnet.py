"""SegNet, SegNet-Basic and its FCN twin (Badrinarayanan, Kendall, Cipolla 2017, arXiv:1511.00561, sections 3.1, 3.3).

SegNet is VGG16 without its classifier, pooled with switches, and the same layers mirrored behind unpooling.
SegNet-Basic is small: four 7x7 convolutions with 64 channels, each followed by a 2x2 max-pool that rounds up, under two
decoders: SegNet's, which puts the values back where the pools found them, and FCN's, which upsamples class scores and
adds the encoder's. The other decoders of Table 1 are in ``segnet_variants.py``. Layer names and biases are those of the
authors' released networks (alexgkendall/SegNet-Tutorial); the image enters as BGR from 0 to 255 with no mean
subtracted, in the small networks normalised across channels.

With a dropout rate both are Bayesian SegNet (Kendall, Badrinarayanan, Cipolla 2017, arXiv:1511.02680, see
``bayesian_segnet.py``): the rate says how many values are dropped, ``sample=True`` that they are dropped in evaluation
too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8, Shaped

from jaxseg.backbones.vgg import VGG16
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import RAW_BGR, Standardize, statistics
from jaxseg.ops.conv import bilinear_kernel
from jaxseg.ops.lrn import local_response_norm
from jaxseg.ops.pool import max_pool_with_switches, max_unpool
from jaxseg.ops.window import Extent
from jaxseg.registry import Overfit, register

Map = Float[Array, "b _ _ _"]
Switches = Int8[Array, "b _ _ _"]


class SegNet(nn.Module):
    """SegNet (Figure 2): every convolution 3x3 with BatchNorm and ReLU, the last one of the decoder alone.

    >>> net, image = SegNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 11)

    Attributes:
      num_classes: channels of the logits.
      blocks: convolutions per block of the encoder, and of the decoder.
      width: channels of the first block; they double until eight times that.
      dropout: rate after pools 3 to 5 and after the decoder's blocks of those levels.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    blocks: tuple[int, ...] = VGG16
    width: int = 64
    dropout: float = 0.0
    in_channels: int = 3
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, image: Shaped[Array, "b h w c"], *, train: bool = False, sample: bool = False
    ) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size.

        Each unpooling restores the size before its pool.

        ``sample=True`` draws dropout's masks from the stream "dropout" whatever ``train`` is.
        """
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        widths = [self.width * min(2**i, 8) for i in range(len(self.blocks))]
        pools = []
        for k, convs in enumerate(self.blocks, 1):
            for i in range(1, convs + 1):
                x = jax.nn.relu(_conv_norm(self, f"conv{k}_{i}", x, widths[k - 1], 3, train=train))
            size = (x.shape[1], x.shape[2])
            x, switches = max_pool_with_switches(x, 2, ceil_mode=True)
            pools.append((size, switches))
            x = self._drop(k, f"pool{k}_dropout", x, train or sample)
        for k in range(len(self.blocks), 0, -1):
            size, switches = pools[k - 1]
            x = max_unpool(x, switches, 2, size=size)
            for i in range(self.blocks[k - 1], 1, -1):
                x = jax.nn.relu(_conv_norm(self, f"conv{k}_{i}_D", x, widths[k - 1], 3, train=train))
            if k > 1:
                x = jax.nn.relu(_conv_norm(self, f"conv{k}_1_D", x, widths[k - 2], 3, train=train))
                x = self._drop(k, f"conv{k}_1_D_dropout", x, train or sample)
        x = Conv(self.num_classes, 3, padding=1, dtype=self.dtype, name="conv1_1_D")(x)
        return {"logits": x.astype(jnp.float32)}

    def _drop(self, level: int, name: str, x: Map, active: bool) -> Map:
        return Dropout(self.dropout if level >= 3 else 0.0, name=name)(x, train=active)


class SegNetBasic(nn.Module):
    """SegNet-Basic: the decoder unpools by the encoder's switches, convolves, and has no ReLU.

    >>> net, image = SegNetBasic(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 11)

    Attributes:
      num_classes: channels of the logits.
      width: channels of every layer.
      dropout: rate after pools 3 and 4 and after the decoder's convolutions of those levels.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    width: int = 64
    dropout: float = 0.0
    in_channels: int = 3
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self, image: Shaped[Array, "b h w c"], *, train: bool = False, sample: bool = False
    ) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, as :class:`SegNet`."""

        def drop(level: int, name: str, x: Map) -> Map:
            return Dropout(self.dropout if level >= 3 else 0.0, name=f"{name}_dropout")(x, train=train or sample)

        x, encoder = encode(self, image, train=train, after_pool=lambda k, x: drop(k, f"pool{k}", x))
        for level in (4, 3, 2, 1):
            at = encoder[level]
            x = max_unpool(x, at.switches, 2, size=at.size)
            x = _conv_norm(self, f"conv_decode{level}", x, self.width, 7, train=train)
            x = drop(level, f"conv_decode{level}", x)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="conv_classifier")(x)
        return {"logits": x.astype(jnp.float32)}


class FCNBasic(nn.Module):
    """FCN-Basic: each pool is reduced to the classes by a 1x1 convolution; scores are upsampled by 8x8 transposed
    convolutions, bilinear at first and learned, and summed with the reduced pool of that size.

    >>> net, image = FCNBasic(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 11)

    Attributes:
      num_classes: channels of the logits.
      width: channels of the encoder.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 11
    width: int = 64
    in_channels: int = 3
    standardize: Standardize = RAW_BGR
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        x, encoder = encode(self, image, train=train)
        score = Conv(self.num_classes, 1, dtype=self.dtype, name="score4")(x)
        for level in (4, 3, 2, 1):
            score = learned_upsampling(self, level, score, encoder[level].size)
            if level > 1:
                finer = Conv(self.num_classes, 1, dtype=self.dtype, name=f"score{level - 1}")
                score = score + finer(encoder[level - 1].pooled)
        return {"logits": score.astype(jnp.float32)}


class Level(NamedTuple):
    """One level of the encoder: its activations, the pooled map and the switches of the pool.

    >>> active = jnp.ones((1, 5, 7, 2))
    >>> Level(active, *max_pool_with_switches(active, 2, ceil_mode=True)).size
    (5, 7)
    """

    active: Map
    pooled: Map
    switches: Switches

    @property
    def size(self) -> Extent:
        """Rows and columns before the pool."""
        return self.active.shape[1], self.active.shape[2]


def encode(
    net: Any,
    image: Shaped[Array, "b h w c"],
    *,
    train: bool,
    after_pool: Callable[[int, Map], Map] = lambda level, x: x,
) -> tuple[Map, dict[int, Level]]:
    """SegNet-Basic's encoder, as layers of ``net``: the last map, and what is left at levels 1 to 4.

    >>> class Encoder(SegNetBasic):
    ...     @nn.compact
    ...     def __call__(self, image):
    ...         x, levels = encode(self, image, train=False)
    ...         return x, {level: found.active for level, found in levels.items()}
    >>> net, image = Encoder(width=4), jnp.zeros((1, 32, 32, 3), jnp.uint8)
    >>> x, active = jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))
    >>> x.shape, [active[level].shape[1] for level in (1, 2, 3, 4)]
    ((1, 2, 2, 4), [32, 16, 8, 4])

    Args:
      net: a module with ``width``, ``standardize`` and ``dtype``, in its compact call.
      image: raw pixels.
      train: whether BatchNorm takes the batch's statistics.
      after_pool: what happens to the pooled map of a level before it goes on.
    """
    x = local_response_norm(net.standardize(image, net.in_channels), size=5, alpha=1e-4, beta=0.75).astype(net.dtype)
    levels = {}
    for level in (1, 2, 3, 4):
        active = jax.nn.relu(_conv_norm(net, f"conv{level}", x, net.width, 7, train=train))
        pooled, switches = max_pool_with_switches(active, 2, ceil_mode=True)
        x = after_pool(level, pooled)
        levels[level] = Level(active, pooled, switches)
    return x, levels


def learned_upsampling(net: nn.Module, level: int, x: Map, size: Extent) -> Map:
    """Twice the size by an 8x8 transposed convolution between all channels, bilinear at first, cropped to ``size``.

    >>> class Twice(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return learned_upsampling(self, 1, x, (7, 8))
    >>> x = jnp.ones((1, 4, 4, 3))
    >>> jax.eval_shape(lambda key: Twice().init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 7, 8, 3)
    """
    up = ConvTranspose(
        x.shape[-1],
        8,
        stride=2,
        padding=3,
        use_bias=False,
        kernel_init=_tent,
        dtype=x.dtype,
        name=f"upscore{level}",
        parent=net,
    )
    return up(x)[:, : size[0], : size[1]]


def _conv_norm(net: Any, name: str, x: Map, features: int, kernel_size: int, *, train: bool) -> Map:
    x = Conv(features, kernel_size, padding=kernel_size // 2, dtype=net.dtype, name=name, parent=net)(x)
    shift = nn.initializers.constant(0.001)
    return BatchNorm(bias_init=shift, dtype=net.dtype, name=f"{name}_norm", parent=net)(x, train=train)


def _tent(_key: Array, shape: tuple[int, ...], dtype: jnp.dtype | type = jnp.float32) -> Array:
    """Return the bilinear kernel of that size, scaled so that upsampling by two keeps a constant map constant.

    An 8x8 bilinear kernel belongs to stride 4; at stride 2 four times as many of its taps meet in a pixel.
    """
    return (bilinear_kernel(shape[0], shape[2]) / 4).astype(dtype)


@register(
    task="semantic",
    paper="arXiv:1511.00561",
    params=29_449_355,
    small={"blocks": (2,), "width": 4},
    overfit=Overfit(quick=True),
)
def segnet_vgg16(
    num_classes: int = 11,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegNet:
    """SegNet: VGG16's convolutions and their mirror image, joined by the switches of the pools; 29.45 M parameters."""
    return SegNet(
        num_classes=num_classes,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1511.00561",
    params=1_416_587,
    small={"width": 4},
    overfit=Overfit(),
)
def segnet_basic(
    num_classes: int = 11,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegNetBasic:
    """SegNet-Basic: four 7x7 encoders, four 7x7 decoders behind max-unpooling; 1.417 M parameters."""
    return SegNetBasic(
        num_classes=num_classes,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1511.00561",
    rounded="0.65 M",
    small={"width": 4},
)
def fcn_basic(
    num_classes: int = 11,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCNBasic:
    """FCN-Basic: SegNet-Basic's encoder under FCN's decoder; 0.65 M parameters."""
    return FCNBasic(
        num_classes=num_classes,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, RAW_BGR, in_channels),
        dtype=dtype,
    )
