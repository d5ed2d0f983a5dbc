"""Colorful image colorization (Zhang et al. 2016, arXiv:1603.08511) and its interactive successor (Zhang et al. 2017,
arXiv:1705.02999).

From the lightness of an image alone, :class:`ECCV16` gives every fourth pixel scores of 313 colours; the mean colour
under them, sharpened, is enlarged to the image. :class:`SIGGRAPH17` also takes colours that a user gives at some
pixels, has skip connections to the image's own resolution, and regresses the colours there.

Both take RGB, grey or not, and look at its lightness only.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped

from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.norm import BatchNorm
from jaxseg.ops.color import REACH, ab_bins, all_bins
from jaxseg.ops.lab import rgb_to_lab
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

DEEP = ((4, 8, 1), (5, 8, 2), (6, 8, 2), (7, 8, 1))
"""Number, channels over ``width`` and dilation of the blocks at an eighth of the resolution."""


class ECCV16(nn.Module):
    """Eight blocks of convolutions; BatchNorm after the last ReLU of each but the eighth.

    >>> net, image = ECCV16(width=2), jnp.zeros((1, 32, 50, 3), jnp.uint8)
    >>> shapes = jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))
    >>> shapes["ab_logits"].shape, shapes["ab"].shape
    ((1, 8, 14, 313), (1, 32, 50, 2))

    Attributes:
      width: channels of the first block.
      temperature: by which scores are divided before the mean colour is taken: 0.38 in the paper, where 0 is the mode
        and 1 the mean; the authors' PyTorch weights have it in their scores, so that it is 1.
      in_channels: of the image.
      dtype: compute dtype.
    """

    width: int = 64
    temperature: float = 1.0
    in_channels: int = 3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``ab_logits`` f32[b y x 313] at a quarter of the resolution, and ``ab`` f32[b h w 2], for any size."""
        block = _Blocks(self.width, self.dtype, train)
        x = (_lightness(image, self.in_channels) / 100).astype(self.dtype)
        for number, features, count in ((1, 1, 2), (2, 2, 2), (3, 4, 3)):
            x = block(self, number, x, features, count, stride=2)
        for number, features, dilation in DEEP:
            x = block(self, number, x, features, 3, dilation=dilation)
        x = ConvTranspose(4 * self.width, 4, stride=2, padding=1, dtype=self.dtype, name="conv8_1")(x)
        for i in (2, 3):
            x = Conv(4 * self.width, 3, padding=1, dtype=self.dtype, name=f"conv8_{i}")(jax.nn.relu(x))
        bins = ab_bins()
        logits = Conv(len(bins), 1, dtype=self.dtype, name="classifier")(jax.nn.relu(x)).astype(jnp.float32)
        shares = jax.nn.softmax(logits / self.temperature, axis=-1)
        centres = nn.initializers.constant(jnp.asarray(bins / REACH, jnp.float32)[None, None])
        ab = REACH * Conv(2, 1, use_bias=False, kernel_init=centres, name="decode")(shares)
        ab = resize_bilinear(ab, (4 * ab.shape[1], 4 * ab.shape[2]))
        return {"ab_logits": logits, "ab": ab[:, : image.shape[1], : image.shape[2]]}


class SIGGRAPH17(nn.Module):
    """The same trunk with shortcuts from blocks 1 to 3 to blocks 10 to 8, and two heads.

    >>> net, image = SIGGRAPH17(width=2), jnp.zeros((1, 32, 50, 3), jnp.uint8)
    >>> shapes = jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))
    >>> shapes["ab_logits"].shape, shapes["ab"].shape
    ((1, 8, 13, 529), (1, 32, 50, 2))

    Attributes:
      width: channels of the first block.
      classifying: whether the trunk learns by the scores of colours and the regression stops in front of it; otherwise
        it learns by the regression, and the scores stop.
      in_channels: of the image.
      dtype: compute dtype.
    """

    width: int = 64
    classifying: bool = False
    in_channels: int = 3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        *,
        hints: Float[Array, "b h w 2"] | None = None,
        hint_valid: Bool[Array, "b h w"] | None = None,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return ``ab_logits`` f32[b y x 529] at a quarter of the resolution, and ``ab`` f32[b h w 2], for any size.

        Args:
          image: raw RGB.
          hints: a and b that the user gives.
          hint_valid: where; None for nowhere.
          train: normalise by the batch.
        """
        block = _Blocks(self.width, self.dtype, train)
        lightness = _lightness(image, self.in_channels) / 100
        if hints is None or hint_valid is None:
            hints, hint_valid = jnp.zeros((*image.shape[:3], 2)), jnp.zeros(image.shape[:3], bool)
        given = hint_valid[..., None].astype(jnp.float32)
        x = jnp.concatenate([lightness, hints * given / REACH, given - 0.5], axis=-1).astype(self.dtype)
        one = block(self, 1, x, 1, 2)
        two = block(self, 2, one[:, ::2, ::2], 2, 2)
        three = block(self, 3, two[:, ::2, ::2], 4, 3)
        x = three[:, ::2, ::2]
        for number, features, dilation in DEEP:
            x = block(self, number, x, features, 3, dilation=dilation)
        eight = block.joined(self, 8, x, three, 4, 2)
        stopped = jax.lax.stop_gradient
        below = eight if self.classifying else stopped(eight)
        if self.classifying:
            eight, two, one = (stopped(x) for x in (eight, two, one))
        logits = Conv(len(all_bins()), 1, dtype=self.dtype, name="classifier")(below)
        x = block.joined(self, 9, eight, two, 2, 1)
        x = block.joined(self, 10, x, one, 2, 1, last=True)
        ab = REACH * jnp.tanh(Conv(2, 1, dtype=self.dtype, name="colors")(x).astype(jnp.float32))
        return {"ab_logits": logits.astype(jnp.float32), "ab": ab}


class _Blocks:
    """Convolutions of both networks, called in the network's own scope."""

    def __init__(self, width: int, dtype: jnp.dtype | type, train: bool) -> None:
        self.width, self.dtype, self.train = width, dtype, train

    def __call__(
        self, net: nn.Module, number: int, x: Map, features: int, count: int, *, stride: int = 1, dilation: int = 1
    ) -> Map:
        """Convolve ``count`` times, the last with the stride, and normalise."""
        for i in range(1, count + 1):
            conv = Conv(
                features * self.width,
                3,
                stride=stride if i == count else 1,
                padding=dilation,
                dilation=dilation,
                dtype=self.dtype,
                name=f"conv{number}_{i}",
                parent=net,
            )
            x = jax.nn.relu(conv(x))
        return BatchNorm(dtype=self.dtype, name=f"norm{number}", parent=net)(x, train=self.train)

    def joined(
        self, net: nn.Module, number: int, x: Map, skip: Map, features: int, count: int, *, last: bool = False
    ) -> Map:
        """Double the map, add the shortcut and convolve; the last block ends with a leaky ReLU instead of a norm."""
        channels, size = features * self.width, (skip.shape[1], skip.shape[2])
        up = ConvTranspose(channels, 4, stride=2, padding=1, dtype=self.dtype, name=f"conv{number}_up", parent=net)
        short = Conv(channels, 3, padding=1, dtype=self.dtype, name=f"conv{number}_short", parent=net)
        x = jax.nn.relu(up(x)[:, : size[0], : size[1]] + short(skip))
        for i in range(1, count + 1):
            name = f"conv{number}_{i}"
            x = Conv(channels, 3, padding=1, dtype=self.dtype, name=name, parent=net)(x)
            x = jax.nn.leaky_relu(x, 0.2) if last else jax.nn.relu(x)
        return x if last else BatchNorm(dtype=self.dtype, name=f"norm{number}", parent=net)(x, train=self.train)


def _lightness(image: Shaped[Array, "b h w c"], channels: int) -> Float[Array, "b h w 1"]:
    """Return L - 50 of the image."""
    given = image.shape[-1]
    if channels not in (1, 3) or given != channels:
        raise BadInput(
            f"the image has {given} channel{'s' * (given != 1)} and the network takes {channels}: "
            "colours are of RGB (in_channels=3) or grey (in_channels=1)"
        )
    levels = image.astype(jnp.float32) / 257 if image.dtype == jnp.uint16 else image.astype(jnp.float32)
    return rgb_to_lab(jnp.broadcast_to(levels, (*levels.shape[:3], 3)))[..., :1] - 50


def _names(blocks: tuple[tuple[int, tuple[int, ...], int], ...]) -> list[tuple[str, str | None]]:
    """Rules of plain blocks: number, places of the convolutions in torch's sequence, place of the norm."""
    rules: list[tuple[str, str | None]] = []
    for number, places, norm in blocks:
        for i, place in enumerate(places, 1):
            rules += _pair(rf"model{number}\.{place}", f"conv{number}_{i}")
        if norm:
            source, path = rf"model{number}\.{norm}", f"norm{number}"
            pairs = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
            rules += [(rf"{source}\.{theirs}", f"{path}/{ours}") for theirs, ours in pairs]
            rules.append((rf"{source}\.num_batches_tracked", None))
    return rules


def _pair(source: str, path: str, layout: str = "") -> list[tuple[str, str | None]]:
    return [(rf"{source}\.weight", f"{path}/kernel{layout}"), (rf"{source}\.bias", f"{path}/bias")]


_TRUNK = ((1, (0, 2), 4), (2, (0, 2), 4), *((number, (0, 2, 4), 6) for number in range(3, 8)))

ECCV16_NAMES: Rules = (
    *_names(_TRUNK),
    *_pair(r"model8\.0", "conv8_1", "|iohw"),
    *_pair(r"model8\.2", "conv8_2"),
    *_pair(r"model8\.4", "conv8_3"),
    *_pair(r"model8\.6", "classifier"),
    (r"model_out\.weight", "decode/kernel"),
)
"""Rules from the authors' PyTorch weights of 2016 (richzhang/colorization) to :class:`ECCV16`."""

SIGGRAPH17_NAMES: Rules = (
    *_names((*_TRUNK, (8, (1, 3), 5), (9, (1,), 3), (10, (1,), 0))),
    *(rule for k in (8, 9, 10) for rule in _pair(rf"model{k}up\.0", f"conv{k}_up", "|iohw")),
    *(rule for k, of in ((8, 3), (9, 2), (10, 1)) for rule in _pair(rf"model{of}short{k}\.0", f"conv{k}_short")),
    *_pair(r"model_class\.0", "classifier"),
    *_pair(r"model_out\.0", "colors"),
)
"""Rules from the authors' PyTorch weights of 2017 to :class:`SIGGRAPH17`."""


@register(
    task="colorization",
    paper="arXiv:1603.08511",
    params=32_236_011,
    names={"richzhang": ECCV16_NAMES},
    small={"width": 4},
    overfit=Overfit(steps=120, learning_rate=1e-2),
)
def colorization_eccv16(
    temperature: float = 1.0, width: int = 64, in_channels: int = 3, dtype: jnp.dtype | type = jnp.float32
) -> ECCV16:
    """Colours of 2016: scores of 313 colours at a quarter of the resolution, from lightness alone."""
    return ECCV16(width=width, temperature=temperature, in_channels=in_channels, dtype=dtype)


@register(
    task="colorization",
    paper="arXiv:1705.02999",
    params=34_187_027,
    names={"richzhang": SIGGRAPH17_NAMES},
    small={"width": 4},
)
def colorization_siggraph17(
    classifying: bool = False, width: int = 64, in_channels: int = 3, dtype: jnp.dtype | type = jnp.float32
) -> SIGGRAPH17:
    """Colours of 2017: shortcuts, colours regressed at full resolution, hints of a user at some pixels."""
    return SIGGRAPH17(width=width, classifying=classifying, in_channels=in_channels, dtype=dtype)
