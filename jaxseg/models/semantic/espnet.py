"""ESPNet: efficient spatial pyramid of dilated convolutions (Mehta et al. 2018, arXiv:1803.06815).

Image (any size) -> 1/2 -> 1/4 -> 1/8 by ESP modules, each a 1x1 reduction and five parallel 3x3 convolutions of
dilation 1 to 16 whose results are summed hierarchically; the image itself, pooled, enters again at every level. A
decoder of three 2x2 transposed convolutions works on class scores only. Orders of concatenation, the missing biases and
the normalisations follow the authors' code (sacmehta/ESPNet).
"""

from functools import partial
from itertools import accumulate
from operator import add

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.activation import PReLU
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import Standardize, statistics
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.pool import avg_pool, unpool_nearest
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

CAMVID = Standardize(
    mean=(110.33102643, 108.40886315, 105.03319369),
    std=(255 * 72.12571015, 255 * 72.69074534, 255 * 69.90434816),
    order="bgr",
)
"""BGR, ``(x - mean) / std / 255``: the statistics of the 367 training images, as the released CamVid network has it."""


class ESPNet(nn.Module):
    """The whole network (paper Figure 4d).

    >>> net, image = ESPNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 12)

    Attributes:
      num_classes: channels of the logits, at least 5: the decoder spreads them over the five branches of a pyramid.
      p: ESP modules at 1/4, after the one that reduces.
      q: ESP modules at 1/8, likewise.
      widths: channels at 1/2, 1/4 and 1/8.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 12
    p: int = 2
    q: int = 8
    widths: tuple[int, int, int] = (16, 64, 128)
    in_channels: int = 3
    standardize: Standardize = CAMVID
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels. Sizes that are no multiple of 8 are padded inside and
        cropped.
        """
        h, w = image.shape[1:3]
        k = self.num_classes
        up = partial(ConvTranspose, k, 2, stride=2, use_bias=False, dtype=self.dtype)
        norm_act = partial(NormAct, dtype=self.dtype)
        half, quarter, score = _encode(self, image, train=train)
        x = up(name="up3")(BatchNorm(epsilon=1e-3, dtype=self.dtype, name="up3_norm")(score, train=train))
        finer = Conv(k, 1, use_bias=False, dtype=self.dtype, name="score2")(quarter)
        x = norm_act(name="merge2_norm")(jnp.concatenate([finer, x], -1), train=train)
        x = norm_act(name="esp2_norm")(Pyramid(k, dtype=self.dtype, name="esp2")(x), train=train)
        x = norm_act(name="up2_norm")(up(name="up2")(x), train=train)
        x = Conv(k, 3, padding=1, use_bias=False, dtype=self.dtype, name="merge1")(jnp.concatenate([x, half], -1))
        x = up(name="up1")(norm_act(name="merge1_norm")(x, train=train))
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


class ESPNetC(nn.Module):
    """The encoder with its classifier (paper Figure 4c): the network of the first stage of training.

    Attributes as in :class:`ESPNet`. Its scores at 1/8 are upsampled by nearest neighbour.

    >>> net, image = ESPNetC(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 12)
    """

    num_classes: int = 12
    p: int = 2
    q: int = 8
    widths: tuple[int, int, int] = (16, 64, 128)
    in_channels: int = 3
    standardize: Standardize = CAMVID
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels. Sizes that are no multiple of 8 are padded inside and
        cropped.
        """
        h, w = image.shape[1:3]
        _, _, score = _encode(self, image, train=train)
        return {"logits": unpool_nearest(score, 8)[:, :h, :w].astype(jnp.float32)}


def _encode(net: ESPNet | ESPNetC, image: Shaped[Array, "b h w c"], *, train: bool) -> tuple[Map, Map, Map]:
    """Return the maps at 1/2 and 1/4 that the decoder reads, and the scores at 1/8."""
    x = zeros_to_multiple(net.standardize(image, net.in_channels), 8).astype(net.dtype)
    encoder = Encoder(net.num_classes, net.p, net.q, net.widths, dtype=net.dtype, name="encoder", parent=net)
    return encoder(x, train=train)


class Encoder(nn.Module):
    """Three levels of ESP modules with the pooled image beside them, and a 1x1 classifier.

    >>> net, x = Encoder(3, p=0, q=1, widths=(6, 10, 15)), jnp.ones((1, 32, 32, 3))
    >>> maps = jax.eval_shape(lambda key: net.init_with_output(key, x, train=False)[0], jax.random.key(0))
    >>> [m.shape for m in maps]
    [(1, 16, 16, 9), (1, 8, 8, 23), (1, 4, 4, 3)]
    """

    num_classes: int
    p: int
    q: int
    widths: tuple[int, int, int]
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> tuple[Map, Map, Map]:
        """Standardised image -> concatenated maps at 1/2 and at 1/4, scores at 1/8."""
        norm_act = partial(NormAct, dtype=self.dtype)
        first, second, third = self.widths
        pooled = avg_pool(x, 3, stride=2, padding=1)
        x = Conv(first, 3, stride=2, padding=1, use_bias=False, dtype=self.dtype, name="level1")(x)
        x = norm_act(name="level1_norm")(x, train=train)
        half = norm_act(name="half_norm")(jnp.concatenate([x, pooled], -1), train=train)

        pooled = avg_pool(pooled, 3, stride=2, padding=1)
        down, x = self._level("level2", half, second, self.p, train=train)
        quarter = norm_act(name="quarter_norm")(jnp.concatenate([x, down, pooled], -1), train=train)

        down, x = self._level("level3", quarter, third, self.q, train=train)
        x = norm_act(name="eighth_norm")(jnp.concatenate([down, x], -1), train=train)
        return half, quarter, Conv(self.num_classes, 1, use_bias=False, dtype=self.dtype, name="classifier")(x)

    def _level(self, name: str, x: Map, features: int, repeats: int, *, train: bool) -> tuple[Map, Map]:
        """Return the map behind the ESP module that halves the resolution, and the one behind those that follow it."""
        x = Pyramid(features, 3, stride=2, dtype=self.dtype, name=f"{name}_down")(x)
        down = x = NormAct(dtype=self.dtype, name=f"{name}_down_norm")(x, train=train)
        for i in range(repeats):
            x = x + Pyramid(features, dtype=self.dtype, name=f"{name}_{i}")(x)
            x = NormAct(dtype=self.dtype, name=f"{name}_{i}_norm")(x, train=train)
        return down, x


DILATIONS = (1, 2, 4, 8, 16)
"""Of the parallel convolutions of an ESP module."""


class Pyramid(nn.Module):
    """The ESP module without its residual and normalisation (Figures 1 and 2): reduce, split, transform, merge.

    The first convolution reduces to a fifth of the channels; each branch sees that map at its own dilation. The branch
    of dilation 1 makes up what a fifth leaves over and stands alone; the others are summed one onto the other, which
    removes the gridding of large dilations.

    >>> block, x = Pyramid(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Map ``[b y x c]`` to ``[b y x features]``, at half the resolution where the stride is 2."""
        n = self.features // 5
        if n == 0:
            raise BadInput(
                f"ESPNet spreads its channels, or classes, over five branches: at least 5, not {self.features}"
            )
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        x = conv(n, self.kernel_size, stride=self.stride, padding=self.kernel_size // 2, name="reduce")(x)
        first, *others = (
            conv(self.features - 4 * n if d == 1 else n, 3, padding=d, dilation=d, name=f"d{d}")(x) for d in DILATIONS
        )
        return jnp.concatenate([first, *accumulate(others, add)], -1)


class NormAct(nn.Module):
    """BatchNorm and PReLU.

    >>> block, x = NormAct(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        return PReLU(name="act")(BatchNorm(epsilon=1e-3, dtype=self.dtype, name="norm")(x, train=train))


_PLACES = (
    (r"(?:encoder\.)?level1", "encoder/level1_norm"),
    (r"(?:encoder\.)?b1", "encoder/half_norm"),
    (r"(?:encoder\.)?b2", "encoder/quarter_norm"),
    (r"(?:encoder\.)?b3", "encoder/eighth_norm"),
    (r"(?:encoder\.)?level([23])_0", r"encoder/level\1_down_norm"),
    (r"(?:encoder\.)?level([23])\.(\d+)\.bn", r"encoder/level\1_\2_norm"),
    (r"combine_l2_l3\.0", "merge2_norm"),
    (r"combine_l2_l3\.1\.bn", "esp2_norm"),
    (r"up_l2\.1", "up2_norm"),
    ("conv", "merge1_norm"),
)
"""Where a BatchNorm ``bn`` and a PReLU ``act`` stand in the authors' code, and the :class:`NormAct` that they are."""

TORCH_NAMES: Rules = (
    (r"(?:encoder\.)?level1\.conv\.weight", "encoder/level1/kernel"),
    (r"(?:encoder\.)?level([23])_0\.c1\.conv\.weight", r"encoder/level\1_down/reduce/kernel"),
    (r"(?:encoder\.)?level([23])_0\.(d\d+)\.conv\.weight", r"encoder/level\1_down/\2/kernel"),
    (r"(?:encoder\.)?level([23])\.(\d+)\.c1\.conv\.weight", r"encoder/level\1_\2/reduce/kernel"),
    (r"(?:encoder\.)?level([23])\.(\d+)\.(d\d+)\.conv\.weight", r"encoder/level\1_\2/\3/kernel"),
    (r"(?:encoder\.)?classifier\.conv\.weight", "encoder/classifier/kernel"),
    (r"br\.weight", "up3_norm/scale"),
    (r"br\.bias", "up3_norm/bias"),
    (r"br\.running_(mean|var)", r"up3_norm/\1"),
    (r"up_l([23])\.0\.weight", r"up\1/kernel|iohw"),
    (r"classifier\.weight", "up1/kernel|iohw"),
    (r"level3_C\.conv\.weight", "score2/kernel"),
    (r"combine_l2_l3\.1\.c1\.conv\.weight", "esp2/reduce/kernel"),
    (r"combine_l2_l3\.1\.(d\d+)\.conv\.weight", r"esp2/\1/kernel"),
    (r"conv\.conv\.weight", "merge1/kernel"),
    *(
        (rf"{theirs}\.{layer}", f"{ours}/{leaf}")
        for theirs, ours in _PLACES
        for layer, leaf in (
            (r"bn\.weight", "norm/scale"),
            (r"bn\.bias", "norm/bias"),
            (r"bn\.running_mean", "norm/mean"),
            (r"bn\.running_var", "norm/var"),
            (r"act\.weight", "act/alpha"),
        )
    ),
    (r".*\.num_batches_tracked", None),
)
"""Rules from the state dicts of sacmehta/ESPNet, whole network or encoder alone, to the paths of this file."""


@register(
    task="semantic",
    paper="arXiv:1803.06815",
    params=354_517,
    names={"sacmehta": TORCH_NAMES},
    small={"num_classes": 5, "p": 0, "q": 1, "widths": (6, 10, 15)},
    overfit=Overfit(),
)
def espnet(
    num_classes: int = 12,
    p: int = 2,
    q: int = 8,
    widths: tuple[int, int, int] = (16, 64, 128),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ESPNet:
    """ESPNet: pyramids of dilated convolutions; 0.35 M parameters for CamVid's 11 classes and void."""
    return ESPNet(
        num_classes=num_classes,
        p=p,
        q=q,
        widths=widths,
        in_channels=in_channels,
        standardize=statistics(standardize, CAMVID, in_channels),
        dtype=dtype,
    )


@register(task="semantic", paper="arXiv:1803.06815", names={"sacmehta": TORCH_NAMES})
def espnet_c(
    num_classes: int = 12,
    p: int = 2,
    q: int = 8,
    widths: tuple[int, int, int] = (16, 64, 128),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ESPNetC:
    """ESPNet-C: ESPNet's encoder with its classifier at 1/8, what is trained first."""
    return ESPNetC(
        num_classes=num_classes,
        p=p,
        q=q,
        widths=widths,
        in_channels=in_channels,
        standardize=statistics(standardize, CAMVID, in_channels),
        dtype=dtype,
    )
