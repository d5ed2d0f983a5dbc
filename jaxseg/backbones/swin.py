"""Swin: hierarchical vision transformer using shifted windows (Liu et al. 2021, arXiv:2103.14030), and Swin v2: scaling
up capacity and resolution (Liu et al. 2022, arXiv:2111.09883).

Four stages at strides 4, 8, 16 and 32; between them four neighbouring cells become one. Attention is within windows of
a fixed size, which every second block shifts by half a window. The second version normalises behind its layers instead
of before them, compares by cosine, and computes the biases of positions from their logarithmic distance.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import swin_names
from jaxseg.backbones.encoder import EncoderSpec, fixed, in_timm
from jaxseg.errors import BadInput, pick
from jaxseg.layers.conv import Conv, dense_init
from jaxseg.layers.dropout import DropPath
from jaxseg.layers.norm import LayerNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.window import Extent, symbolic

Map = Float[Array, "b _ _ _"]


class Swin(nn.Module):
    """The encoder.

    >>> net, image = Swin(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 768)

    Attributes:
      depths: blocks per stage.
      width: channels of the first stage; they double with each.
      heads: of the attention per stage.
      window: side of the windows, in cells, of all stages or of each. Where a stage's map was smaller than that at the
        pre-training, so are its windows: 8 in the last stage of Swin v2 with windows of 16 on 256 pixels.
      version: 1, or 2 for Swin v2.
      shift_first: whether a map is shifted before zeros fill it up to whole windows, as in timm. The authors,
        torchvision and transformers shift it afterwards; a map of whole windows is the same to both.
      expansion: of the channels inside the feed-forward part.
      drop_path: rate of stochastic depth at the last block; it grows linearly from zero at the first.
      epsilon: of the normalisations.
      map_norm: whether the four maps are normalised on their way out, as UPerNet has it on this encoder.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (2, 2, 6, 2)
    width: int = 96
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int | tuple[int, ...] = 7
    version: int = 1
    shift_first: bool = False
    expansion: int = 4
    drop_path: float = 0.1
    epsilon: float = 1e-5
    map_norm: bool = False
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c2".."c5"}`` for raw pixels of any size, at strides 4, 8, 16 and 32; there is no map at 2.

        Raises:
          BadInput: another version than 1 and 2.
        """
        if self.version not in (1, 2):
            raise BadInput(f"version is {self.version}; there are Swin 1 and 2")
        norm = {"epsilon": self.epsilon, "dtype": self.dtype}
        x = zeros_to_multiple(self.standardize(image, self.in_channels).astype(self.dtype), 4)
        x = Conv(self.width, 4, stride=4, dtype=self.dtype, name="patches")(x)
        x = LayerNorm(**norm, name="patches_norm")(x, train=train)
        maps, place, last = {}, 0, max(sum(self.depths) - 1, 1)
        windows = self.window if isinstance(self.window, tuple) else (self.window,) * len(self.depths)
        for s, depth in enumerate(self.depths, 1):
            if s > 1:
                x = self._merge(s, x, train=train)
            for i in range(depth):
                x = Block(
                    heads=self.heads[s - 1],
                    window=windows[s - 1],
                    shifted=i % 2 == 1,
                    version=self.version,
                    shift_first=self.shift_first,
                    expansion=self.expansion,
                    drop_path=self.drop_path * place / last,
                    epsilon=self.epsilon,
                    dtype=self.dtype,
                    name=f"stage{s}_{i}",
                )(x, train=train)
                place += 1
            maps[f"c{s + 1}"] = x
        if self.map_norm:
            return {key: LayerNorm(**norm, name=f"{key}_norm")(x, train=train) for key, x in maps.items()}
        return maps

    def _merge(self, stage: int, x: Map, *, train: bool) -> Map:
        """Halve the map: the channels of 2x2 cells, column by column, become twice those of one."""
        x = zeros_to_multiple(x, 2)
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5).reshape(b, h // 2, w // 2, 4 * c)
        norm = LayerNorm(self.epsilon, dtype=self.dtype, name=f"merge{stage}_norm")
        dense = Conv(2 * c, 1, use_bias=False, kernel_init=dense_init, dtype=self.dtype, name=f"merge{stage}")
        return dense(norm(x, train=train)) if self.version == 1 else norm(dense(x), train=train)


class Block(nn.Module):
    """Attention within windows and a feed-forward part, each inside a residual.

    >>> block, x = Block(heads=2, window=4), jnp.ones((1, 9, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 9, 16, 8)
    """

    heads: int
    window: int
    shifted: bool = False
    version: int = 1
    shift_first: bool = False
    expansion: int = 4
    drop_path: float = 0.0
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        x = self._residual(1, self._attend, x, train=train)
        return self._residual(2, self._feed_forward, x, train=train)

    def _residual(self, number: int, branch: Callable[[Map], Map], x: Map, *, train: bool) -> Map:
        norm = LayerNorm(self.epsilon, dtype=self.dtype, name=f"norm{number}")
        y = branch(norm(x, train=train)) if self.version == 1 else norm(branch(x), train=train)
        return x + DropPath(self.drop_path, name=f"drop{number}")(y, train=train)

    def _attend(self, x: Map) -> Map:
        h, w = x.shape[1:3]
        shifts = [_shift(n, self.window) if self.shifted else 0 for n in (h, w)]
        moved = any(not isinstance(n, int) or n for n in shifts)
        if moved and self.shift_first:
            x = jnp.roll(x, [-n for n in shifts], axis=(1, 2))
        x = zeros_to_multiple(x, self.window)
        if moved and not self.shift_first:
            x = jnp.roll(x, [-n for n in shifts], axis=(1, 2))
        size = (x.shape[1], x.shape[2])
        mask = _same_region(size, shifts, self.window) if moved else None
        attention = WindowAttention(self.heads, self.window, self.version, dtype=self.dtype, name="attention")
        x = from_windows(attention(to_windows(x, self.window), mask), self.window, *size)
        if moved and not self.shift_first:
            x = jnp.roll(x, shifts, axis=(1, 2))
        x = x[:, :h, :w]
        return jnp.roll(x, shifts, axis=(1, 2)) if moved and self.shift_first else x

    def _feed_forward(self, x: Map) -> Map:
        c, options = x.shape[-1], {"kernel_init": dense_init, "dtype": self.dtype}
        x = Conv(self.expansion * c, 1, **options, name="expand")(x)
        return Conv(c, 1, **options, name="reduce")(jax.nn.gelu(x, approximate=False))


class WindowAttention(nn.Module):
    """Attention among the cells of each window, with a bias by their relative position.

    >>> block, x = WindowAttention(heads=2, window=4), jnp.ones((1, 6, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, None)[0], jax.random.key(0)).shape
    (1, 6, 16, 8)
    """

    heads: int
    window: int
    version: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n m c"], mask: Shaped[Array, "n m m"] | None) -> Float[Array, "b n m c"]:
        """Return the windows, mixed.

        Args:
          x: windows of an image, the cells of each in one row.
          mask: which pairs of cells may attend; None for all.
        """
        c = x.shape[-1]
        query, key, value = (
            Conv(
                c, 1, use_bias=self.version == 1 or name != "key", kernel_init=dense_init, dtype=self.dtype, name=name
            )(x).reshape(*x.shape[:3], self.heads, c // self.heads)
            for name in ("query", "key", "value")
        )
        if self.version == 1:
            query = query * (c // self.heads) ** -0.5
        else:
            query, key = _unit(query), _unit(key)
        scores = jnp.einsum("bwnhd,bwmhd->bwhnm", query, key).astype(jnp.float32)
        if self.version == 2:
            scale = self.param("logit_scale", nn.initializers.constant(np.log(10.0)), (self.heads,), jnp.float32)
            scores = scores * jnp.exp(jnp.minimum(scale, np.log(100.0))).reshape(1, 1, -1, 1, 1)
        bias = self._distances() if self.version == 2 else self._table()
        scores = scores + bias[_relative(self.window)].transpose(2, 0, 1)[None, None]
        if mask is not None:
            scores = scores + jnp.where(mask, 0.0, -100.0)[None, :, None]
        weight = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        mixed = jnp.einsum("bwhnm,bwmhd->bwnhd", weight, value).reshape(x.shape)
        return Conv(c, 1, kernel_init=dense_init, dtype=self.dtype, name="out")(mixed)

    def _table(self) -> Float[Array, "p h"]:
        """Return the learned bias of every relative position."""
        return self.param("table", dense_init, ((2 * self.window - 1) ** 2, self.heads), jnp.float32)

    def _distances(self) -> Float[Array, "p h"]:
        """Return the biases of Swin v2 (section 3.3): two dense layers of the logarithmic distances."""
        x = jnp.asarray(_log_distances(self.window))[None, None]
        x = jax.nn.relu(Conv(512, 1, kernel_init=dense_init, name="position1")(x))
        x = Conv(self.heads, 1, use_bias=False, kernel_init=dense_init, name="position2")(x)
        return 16 * jax.nn.sigmoid(x[0, 0])


def to_windows(x: Shaped[Array, "b h w c"], window: int) -> Shaped[Array, "b n m c"]:
    """Cut a map of whole windows into them, row by row.

    >>> to_windows(jnp.arange(8.0).reshape(1, 2, 4, 1), 2)[0, :, :, 0].tolist()
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    b, h, w, c = x.shape
    rows, columns = h // window, w // window
    x = x.reshape(b, rows, window, columns, window, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, rows * columns, window * window, c)


def from_windows(x: Float[Array, "b n m c"], window: int, height: Any, width: Any) -> Map:
    """Join windows to a map: the inverse of :func:`to_windows`.

    >>> x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    >>> bool((from_windows(to_windows(x, 2), 2, 2, 4) == x).all())
    True
    """
    b, c, rows, columns = x.shape[0], x.shape[-1], height // window, width // window
    x = x.reshape(b, rows, columns, window, window, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, height, width, c)


def _shift(n: Any, window: int) -> Any:
    """Return by how many cells an axis is shifted: half a window, or not at all where one window covers it."""
    if symbolic(n):
        return jnp.where(jnp.asarray(n) <= window, 0, window // 2)
    return 0 if n <= window else window // 2


def _same_region(size: Extent, shifts: list[Any], window: int) -> Shaped[Array, "n m m"]:
    """Return which cells of a window were neighbours before the shift (Figure 4 of the paper)."""
    rows, columns = (
        (jnp.arange(n) >= n - window).astype(jnp.int32) + (jnp.arange(n) >= n - shift).astype(jnp.int32)
        for n, shift in zip(size, shifts, strict=True)
    )
    region = to_windows((3 * rows[:, None] + columns[None])[None, :, :, None], window)[0, :, :, 0]
    return region[:, :, None] == region[:, None, :]


def _unit(x: Float[Array, "b n m h d"]) -> Float[Array, "b n m h d"]:
    norm = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(x.astype(jnp.float32)), axis=-1, keepdims=True), 1e-24))
    return (x / norm).astype(x.dtype)


def _relative(window: int) -> np.ndarray:
    """Return the row of the table of biases for every pair of cells, [m m]."""
    place = np.stack(np.meshgrid(np.arange(window), np.arange(window), indexing="ij")).reshape(2, -1)
    apart = place[:, :, None] - place[:, None, :] + window - 1
    return apart[0] * (2 * window - 1) + apart[1]


def _log_distances(window: int) -> np.ndarray:
    """Return sign(d) log2(1 + 8 |d|) / 3 for all relative positions, -1 <= d <= 1 along both axes, [p 2]."""
    d = 8 * np.arange(1 - window, window, dtype=np.float32) / max(window - 1, 1)
    d = np.sign(d) * np.log2(np.abs(d) + 1) / np.float32(3)
    return np.stack(np.meshgrid(d, d, indexing="ij"), axis=-1).reshape(-1, 2)


VARIANTS: dict[str, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    "tiny": ((2, 2, 6, 2), 96, (3, 6, 12, 24)),
    "small": ((2, 2, 18, 2), 96, (3, 6, 12, 24)),
    "base": ((2, 2, 18, 2), 128, (4, 8, 16, 32)),
}
"""Blocks per stage, channels of the first and heads per stage (section 3.3 of the first paper)."""


def swin(
    variant: str,
    *,
    version: int = 1,
    window: int | tuple[int, ...] | None = None,
    shift_first: bool = False,
    drop_path: float = 0.1,
    map_norm: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Swin:
    """Return the Swin or Swin v2 "tiny", "small" or "base", with windows of 7 or 8 cells unless told otherwise.

    >>> swin("tiny", version=2).window
    8

    Raises:
      BadInput: another variant.
    """
    depths, width, heads = pick(VARIANTS, variant, "Swin")
    return Swin(
        depths=depths,
        width=width,
        heads=heads,
        window=window or (7 if version == 1 else 8),
        version=version,
        shift_first=shift_first,
        drop_path=drop_path,
        map_norm=map_norm,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _pruned(net: Swin, stages: int) -> Swin:
    return net.clone(depths=net.depths[:stages], heads=net.heads[:stages])


def _in_timm(variant: str, version: int, window: int | tuple[int, ...]) -> EncoderSpec:
    rules = in_timm(swin_names.timm(version, of_maps=True))
    options = {"variant": variant, "version": version, "window": window, "shift_first": True}
    return replace(fixed(swin, rules, finest=4, **options), prune=_pruned)


ENCODERS: dict[str, EncoderSpec] = {
    **{f"tu-swin_{name}_patch4_window7_224": _in_timm(name, 1, 7) for name in VARIANTS},
    "tu-swin_base_patch4_window12_384": _in_timm("base", 1, 12),
    **{f"tu-swinv2_{name}_window8_256": _in_timm(name, 2, 8) for name in VARIANTS},
    **{f"tu-swinv2_{name}_window16_256": _in_timm(name, 2, (16, 16, 16, 8)) for name in VARIANTS},
}
"""By the name in segmentation-models-pytorch; the sizes in them are those of the pre-training."""
