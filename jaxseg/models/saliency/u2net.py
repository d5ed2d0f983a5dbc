"""U^2-Net: going deeper with nested U-structure for salient object detection (Qin et al. 2020, arXiv:2005.09007).

A U-Net of eleven stages, each of which is a small U-Net itself (RSU, paper section 3.1): it keeps its input's
resolution and is added to its own first convolution. Six stages have a side output; a 1x1 convolution fuses them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import make_norm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


FULL_WIDTHS = (
    *((32, 64), (32, 128), (64, 256), (128, 512), (256, 512), (256, 512)),
    *((256, 512), (128, 256), (64, 128), (32, 64), (16, 64)),
)
"""Channels inside of a stage and of its output, down and up again (paper Figure 5)."""

SMALL_WIDTHS = ((16, 64),) * 11
"""The same of U^2-NetP."""

HEIGHTS = (7, 6, 5, 4, 0, 0, 0, 4, 5, 6, 7)
"""Levels of each stage's own U; 0 for RSU-4F, which dilates instead of pooling."""

STAGES = tuple(f"stage{name}" for name in ("1", "2", "3", "4", "5", "6", "5d", "4d", "3d", "2d", "1d"))


class U2Net(nn.Module):
    """The nested U.

    >>> net, image = U2Net(((2, 4),) * 11), jnp.zeros((1, 64, 48, 3), jnp.uint8)
    >>> shapes = jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))
    >>> shapes["saliency_logits"].shape, shapes["side_logits"].shape
    ((1, 64, 48), (1, 64, 48, 6))

    Attributes:
      widths: channels inside of each of the eleven stages, and of its output.
      norm: of every convolution; "none" for weights into which it has been folded.
      own_range: whether the pixels of an image are first divided by its largest, as the authors' programs do.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    widths: tuple[tuple[int, int], ...] = FULL_WIDTHS
    norm: str = "batch"
    own_range: bool = True
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``saliency_logits`` f32[b h w] and ``side_logits`` f32[b h w 6] for raw pixels of any size."""
        size = (image.shape[1], image.shape[2])
        x = self.standardize(self._ranged(image), self.in_channels).astype(self.dtype)
        stages = {
            name: RSU(height, *widths, norm=self.norm, dtype=self.dtype, name=name)
            for name, height, widths in zip(STAGES, HEIGHTS, self.widths, strict=True)
        }
        down = []
        for name in STAGES[:6]:
            x = stages[name](x if not down else max_pool(x, 2, ceil_mode=True), train=train)
            down.append(x)
        sides = [x]
        for name, skip in zip(STAGES[6:], down[4::-1], strict=True):
            x = resize_bilinear(x, (skip.shape[1], skip.shape[2]))
            x = stages[name](jnp.concatenate([x, skip], axis=-1), train=train)
            sides.append(x)
        scores = []
        for number, side in enumerate(reversed(sides), 1):
            side = Conv(1, 3, padding=1, dtype=self.dtype, name=f"side{number}")(side)
            scores.append(resize_bilinear(side, size))
        x = jnp.concatenate(scores, axis=-1)
        fused = Conv(1, 1, dtype=self.dtype, name="outconv")(x)
        return {"saliency_logits": fused[..., 0].astype(jnp.float32), "side_logits": x.astype(jnp.float32)}

    def _ranged(self, image: Shaped[Array, "b h w c"]) -> Array:
        """Return the image, its largest value that of white."""
        if not self.own_range:
            return image
        white = 255.0 if self.standardize.channels else 1.0
        x = self.standardize.to_float(image)
        return x * (white / jnp.maximum(x.max((1, 2, 3), keepdims=True), 1e-6))


class RSU(nn.Module):
    """A residual U-block of some height; of height 0, four dilated layers without pooling.

    >>> block, x = RSU(4, 2, 6), jnp.ones((1, 16, 16, 3))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 6)

    Attributes:
      height: layers of its contracting path, the dilated one at the bottom included; 0 for RSU-4F.
      inner: channels inside.
      features: channels of the output.
      norm: of every convolution.
      dtype: compute dtype.
    """

    height: int
    inner: int
    features: int
    norm: str = "batch"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels at the resolution of ``x``."""
        flat = self.height == 0
        height = self.height or 4
        first = x = self._layer("in", x, self.features, 1, train=train)
        down = []
        for level in range(1, height):
            x = max_pool(x, 2, ceil_mode=True) if level > 1 and not flat else x
            x = self._layer(f"{level}", x, self.inner, 2 ** (level - 1) if flat else 1, train=train)
            down.append(x)
        x = self._layer(f"{height}", x, self.inner, 8 if flat else 2, train=train)
        for level in range(height - 1, 0, -1):
            skip = down[level - 1]
            x = resize_bilinear(x, (skip.shape[1], skip.shape[2]))
            features = self.features if level == 1 else self.inner
            dilation = 2 ** (level - 1) if flat else 1
            x = self._layer(f"{level}d", jnp.concatenate([x, skip], axis=-1), features, dilation, train=train)
        return first + x

    def _layer(self, name: str, x: Map, features: int, dilation: int, *, train: bool) -> Map:
        """Convolve 3x3, normalise, rectify."""
        x = Conv(features, 3, padding=dilation, dilation=dilation, dtype=self.dtype, name=f"conv{name}")(x)
        return jax.nn.relu(make_norm(self.norm)(dtype=self.dtype, name=f"norm{name}")(x, train=train))


TORCH_NAMES: Rules = (
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.conv_s1\.weight", r"\1/conv\2/kernel"),
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.conv_s1\.bias", r"\1/conv\2/bias"),
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.bn_s1\.weight", r"\1/norm\2/scale"),
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.bn_s1\.bias", r"\1/norm\2/bias"),
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.bn_s1\.running_mean", r"\1/norm\2/mean"),
    (r"(stage\dd?)\.rebnconv(in|\dd?)\.bn_s1\.running_var", r"\1/norm\2/var"),
    (r".*\.num_batches_tracked", None),
    (r"(side\d|outconv)\.weight", r"\1/kernel"),
    (r"(side\d|outconv)\.bias", r"\1/bias"),
)
"""Rules from the authors' u2net.pth and u2netp.pth to :class:`U2Net`."""


def layers() -> list[str]:
    """Return the paths of all convolutions of the stages, in the order in which they are computed.

    >>> len(layers()), layers()[:2], layers()[-1]
    (112, ['stage1/convin', 'stage1/conv1'], 'stage1d/conv1d')
    """
    found = []
    for stage, height in zip(STAGES, HEIGHTS, strict=True):
        count = height or 4
        parts = ["in", *map(str, range(1, count + 1)), *(f"{level}d" for level in range(count - 1, 0, -1))]
        found += [f"{stage}/conv{part}" for part in parts]
    return found


def _onnx_names(first: int) -> Rules:
    """Names of an export that folded normalisation: it numbers kernel, bias and result of each convolution."""
    rules: list[tuple[str, str | None]] = list(TORCH_NAMES[-2:])
    for number, path in enumerate(layers()):
        rules += [(f"{first + 3 * number}", f"{path}/kernel"), (f"{first + 3 * number + 1}", f"{path}/bias")]
    return tuple(rules)


ONNX_NAMES: Rules = _onnx_names(1967)
"""Rules from the published u2netp.onnx to :class:`U2Net` without normalisation (``norm="none"``)."""


@register(
    task="saliency",
    paper="arXiv:2005.09007",
    params=44_009_869,
    names={"xuebinqin": TORCH_NAMES},
)
def u2net(
    norm: str = "batch",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> U2Net:
    """U^2-Net: a U of eleven small Us for salient objects and cut-outs, 44 million parameters."""
    return U2Net(
        FULL_WIDTHS,
        norm=norm,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


@register(
    task="saliency",
    paper="arXiv:2005.09007",
    params=1_131_181,
    names={"xuebinqin": TORCH_NAMES, "xuebinqin-onnx": ONNX_NAMES},
    small={"widths": ((4, 8),) * 11},
    overfit=Overfit(steps=100, learning_rate=1e-2, size=(64, 64)),
)
def u2netp(
    norm: str = "batch",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> U2Net:
    """U^2-NetP: the same of 16 channels inside and 64 outside of every stage, 1.1 million parameters."""
    return U2Net(
        SMALL_WIDTHS,
        norm=norm,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )
