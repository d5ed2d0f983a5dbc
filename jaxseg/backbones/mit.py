"""MiT: the mix transformer, SegFormer's hierarchical encoder (Xie et al. 2021, arXiv:2105.15203, section 3.1).

Four stages at strides 4, 8, 16 and 32. Overlapping patches are merged by a strided convolution; in each block the keys
and values of the attention come from a map reduced by another, and a 3x3 depthwise convolution between the two layers
of the feed-forward part tells places apart, so that there is no positional encoding.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput, pick
from jaxseg.layers.conv import Conv, dense_init
from jaxseg.layers.dropout import DropPath
from jaxseg.layers.norm import LayerNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.window import surely_below
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

window_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""N(0, sqrt(2 / fan_out)): of convolutions."""


class MiT(nn.Module):
    """The encoder.

    >>> net, image = MiT(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 256)

    Attributes:
      depths: blocks per stage.
      widths: channels per stage.
      heads: of the attention per stage.
      reductions: side of the window that becomes one key and value, per stage.
      expansion: of the channels inside the feed-forward part.
      drop_path: rate of stochastic depth at the last block; it grows linearly from zero at the first.
      epsilon: of the normalisations in and after the blocks; transformers has 1e-5 everywhere, as the authors' code
        has after patches and reductions, mmsegmentation 1e-6.
      patch_epsilon: of those after patches and reductions.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (32, 64, 160, 256)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    expansion: int = 4
    drop_path: float = 0.1
    epsilon: float = 1e-6
    patch_epsilon: float = 1e-5
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c2".."c5"}`` for raw pixels, at strides 4, 8, 16 and 32; there is no map at 2.

        Raises:
          BadInput: a side below 29 pixels, which leaves no window for the first keys.
        """
        if any(surely_below(side, 29) for side in image.shape[1:3]):
            raise BadInput(f"an image of {image.shape[1]}x{image.shape[2]} is too small for MiT; it takes 29 and more")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        maps, place, last = {}, 0, max(sum(self.depths) - 1, 1)
        for s, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            size, stride = (7, 4) if s == 1 else (3, 2)
            x = _conv(self, f"patches{s}", x, width, size, stride=stride, padding=size // 2)
            x = LayerNorm(self.patch_epsilon, dtype=self.dtype, name=f"patches{s}_norm")(x, train=train)
            for i in range(depth):
                x = Block(
                    heads=self.heads[s - 1],
                    reduction=self.reductions[s - 1],
                    expansion=self.expansion,
                    drop_path=self.drop_path * place / last,
                    epsilon=self.epsilon,
                    patch_epsilon=self.patch_epsilon,
                    dtype=self.dtype,
                    name=f"stage{s}_{i}",
                )(x, train=train)
                place += 1
            x = LayerNorm(self.epsilon, dtype=self.dtype, name=f"norm{s}")(x, train=train)
            maps[f"c{s + 1}"] = x
        return maps


class Block(nn.Module):
    """Attention and Mix-FFN, each behind a normalisation and inside a residual.

    >>> block, x = Block(heads=2, reduction=2), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    heads: int
    reduction: int
    expansion: int = 4
    drop_path: float = 0.0
    epsilon: float = 1e-6
    patch_epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        c = x.shape[-1]
        y = LayerNorm(self.epsilon, dtype=self.dtype, name="norm1")(x, train=train)
        attention = Attention(self.heads, self.reduction, self.patch_epsilon, dtype=self.dtype, name="attention")
        y = attention(y, train=train)
        x = x + DropPath(self.drop_path, name="drop1")(y, train=train)
        y = LayerNorm(self.epsilon, dtype=self.dtype, name="norm2")(x, train=train)
        y = _conv(self, "expand", y, self.expansion * c, 1)
        y = _conv(self, "depthwise", y, self.expansion * c, 3, padding=1, groups=self.expansion * c)
        y = _conv(self, "reduce", jax.nn.gelu(y, approximate=False), c, 1)
        return x + DropPath(self.drop_path, name="drop2")(y, train=train)


class Attention(nn.Module):
    """Efficient self-attention (equation 2): queries from every place, keys and values from every window.

    >>> block, x = Attention(heads=2, reduction=2), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    heads: int
    reduction: int
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        b, h, w, c = x.shape
        source = x
        if self.reduction > 1:
            source = _conv(self, "window", x, c, self.reduction, stride=self.reduction)
            source = LayerNorm(self.epsilon, dtype=self.dtype, name="window_norm")(source, train=train)
        query, key, value = (
            _conv(self, name, y, c, 1).reshape(b, -1, self.heads, c // self.heads)
            for name, y in (("query", x), ("key", source), ("value", source))
        )
        scores = jnp.einsum("bnhd,bmhd->bhnm", query, key).astype(jnp.float32) * (c // self.heads) ** -0.5
        gathered = jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, axis=-1).astype(self.dtype), value)
        return _conv(self, "out", gathered.reshape(b, h, w, c), c, 1)


def _conv(
    module: MiT | Block | Attention,
    name: str,
    x: Map,
    features: int,
    size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Map:
    return Conv(
        features,
        size,
        stride=stride,
        padding=padding,
        groups=groups,
        kernel_init=dense_init if size == 1 else window_init,
        dtype=module.dtype,
        name=name,
        parent=module,
    )(x)


VARIANTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "b0": ((2, 2, 2, 2), (32, 64, 160, 256)),
    "b1": ((2, 2, 2, 2), (64, 128, 320, 512)),
    "b2": ((3, 4, 6, 3), (64, 128, 320, 512)),
    "b3": ((3, 4, 18, 3), (64, 128, 320, 512)),
    "b4": ((3, 8, 27, 3), (64, 128, 320, 512)),
    "b5": ((3, 6, 40, 3), (64, 128, 320, 512)),
}
"""(blocks, channels) per stage (paper Table 6)."""


def mit(
    variant: str,
    *,
    drop_path: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MiT:
    """Return the mix transformer "b0" to "b5".

    >>> mit("b0").depths
    (2, 2, 2, 2)

    Raises:
      BadInput: another variant.
    """
    depths, widths = pick(VARIANTS, variant, "MiT")
    return MiT(
        depths=depths,
        widths=widths,
        drop_path=drop_path,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _names(patches: str, patches_norm: str, norm: str, block: str, layers: tuple[str, ...]) -> Rules:
    """Return rename rules from where a library has the parts of stage ``{i}``, counted from 0, or ``{k}``, from 1.

    Args:
      patches: the convolution that a stage begins with.
      patches_norm: its normalisation.
      norm: the one that ends a stage.
      block: what stands before the layers of a block, whose number is the regex's only group.
      layers: a block's, in the order of :data:`_LAYERS`; of ten the third is keys and values in one.
    """
    ours = _LAYERS if len(layers) == len(_LAYERS) else _LAYERS_IN_ONE
    rules: list[tuple[str, str | None]] = []
    for i in range(4):
        parts = [
            (patches, f"patches{i + 1}", "kernel"),
            (patches_norm, f"patches{i + 1}_norm", "scale"),
            (norm, f"norm{i + 1}", "scale"),
            *(
                (block + layer, rf"stage{i + 1}_\1/{path}", weight)
                for layer, (path, weight) in zip(layers, ours, strict=True)
            ),
        ]
        for source, path, weight in parts:
            name = source.format(i=i, k=i + 1)
            rules += [(rf"{name}\.weight", f"{path}/{weight}"), (rf"{name}\.bias", f"{path}/bias")]
    return tuple(rules)


_DENSE = "kernel|dense"

_LAYERS = (
    ("norm1", "scale"),
    ("attention/query", _DENSE),
    ("attention/key", _DENSE),
    ("attention/value", _DENSE),
    ("attention/out", _DENSE),
    ("attention/window", "kernel"),
    ("attention/window_norm", "scale"),
    ("norm2", "scale"),
    ("expand", _DENSE),
    ("depthwise", "kernel"),
    ("reduce", _DENSE),
)
"""A block's layers here, and what their weight is."""

_LAYERS_IN_ONE = (*_LAYERS[:2], ("attention/{key,value}", _DENSE), *_LAYERS[4:])
"""The same where one layer gives keys and values."""

TRANSFORMERS_NAMES: Rules = _names(
    r"stages\.{i}\.patch_embeddings\.proj",
    r"stages\.{i}\.patch_embeddings\.layer_norm",
    r"stages\.{i}\.layer_norm",
    r"stages\.{i}\.blocks\.(\d+)\.",
    (
        "layernorm_before",
        *(rf"attention\.{letter}_proj" for letter in "qkvo"),
        r"attention\.sequence_reduction\.sequence_reduction",
        r"attention\.sequence_reduction\.layer_norm",
        "layernorm_after",
        *(r"mlp\.fc1", r"mlp\.dwconv\.dwconv", r"mlp\.fc2"),
    ),
)
"""Rules from ``SegformerModel`` of transformers (5 and later) to the paths of :class:`MiT`."""

HUB_NAMES: Rules = _names(
    r"encoder\.patch_embeddings\.{i}\.proj",
    r"encoder\.patch_embeddings\.{i}\.layer_norm",
    r"encoder\.layer_norm\.{i}",
    r"encoder\.block\.{i}\.(\d+)\.",
    (
        "layer_norm_1",
        *(rf"attention\.self\.{name}" for name in ("query", "key", "value")),
        r"attention\.output\.dense",
        *(r"attention\.self\.sr", r"attention\.self\.layer_norm"),
        "layer_norm_2",
        *(r"mlp\.dense1", r"mlp\.dwconv\.dwconv", r"mlp\.dense2"),
    ),
)
"""Rules from the names in published files, which transformers had before version 5."""

SMP_NAMES: Rules = _names(
    r"patch_embed{k}\.proj",
    r"patch_embed{k}\.norm",
    "norm{k}",
    r"block{k}\.(\d+)\.",
    (
        "norm1",
        *(rf"attn\.{name}" for name in ("q", "kv", "proj", "sr", "norm")),
        "norm2",
        *(r"mlp\.fc1", r"mlp\.dwconv\.dwconv", r"mlp\.fc2"),
    ),
)
"""Rules from segmentation-models-pytorch's encoder, and the authors' own, where one layer gives keys and values."""


def _mmseg_names() -> Rules:
    rules: list[tuple[str, str | None]] = []
    for i in range(4):
        stage, block, path = rf"layers\.{i}\.", rf"layers\.{i}\.1\.(\d+)\.", rf"stage{i + 1}_\1/"
        parts = (
            (rf"{stage}0\.projection", f"patches{i + 1}", "kernel"),
            (rf"{stage}0\.norm", f"patches{i + 1}_norm", "scale"),
            (rf"{stage}2", f"norm{i + 1}", "scale"),
            *((rf"{block}norm{k}", f"{path}norm{k}", "scale") for k in (1, 2)),
            (rf"{block}attn\.attn\.out_proj", f"{path}attention/out", _DENSE),
            (rf"{block}attn\.sr", f"{path}attention/window", "kernel"),
            (rf"{block}attn\.norm", f"{path}attention/window_norm", "scale"),
            (rf"{block}ffn\.layers\.0", f"{path}expand", "kernel"),
            (rf"{block}ffn\.layers\.1", f"{path}depthwise", "kernel"),
            (rf"{block}ffn\.layers\.4", f"{path}reduce", "kernel"),
        )
        for source, ours, weight in parts:
            rules += [(rf"{source}\.weight", f"{ours}/{weight}"), (rf"{source}\.bias", f"{ours}/bias")]
        of_all = f"{path}attention/{{query,key,value}}"
        rules += [
            (rf"{block}attn\.attn\.in_proj_weight", f"{of_all}/{_DENSE}"),
            (rf"{block}attn\.attn\.in_proj_bias", f"{of_all}/bias"),
        ]
    return tuple(rules)


MMSEG_NAMES: Rules = _mmseg_names()
"""Rules from mmsegmentation's ``MixVisionTransformer``, where one array gives queries, keys and values."""
