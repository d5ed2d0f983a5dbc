"""ViT: an image is worth 16x16 words (Dosovitskiy et al. 2021, arXiv:2010.11929), and DINOv2, which is trained without
labels (Oquab et al. 2023, arXiv:2304.07193), with the simple feature pyramid of ViTDet (Li et al. 2022,
arXiv:2203.16527).

Patches of the image, a class token and learned positions go through blocks of attention among all of them. The map of
patches that comes out is the only one; the pyramid makes those at strides 4, 8, 16 and 32 from it, by transposed
convolutions and a pooling (section 3 of the third paper).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, fixed
from jaxseg.errors import pick
from jaxseg.layers.conv import Conv, ConvTranspose, dense_init
from jaxseg.layers.conv_norm import ConvNorm
from jaxseg.layers.dropout import DropPath
from jaxseg.layers.norm import LayerNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_bicubic, resize_bilinear
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

INTERPOLATIONS = {
    "bicubic": lambda table, size, antialias: resize_bicubic(table, size, antialias=antialias),
    "bilinear": lambda table, size, antialias: resize_bilinear(table, size),
}
"""How positions are brought to another grid; see ``ViT.interpolation``."""

STRIDE = 16
"""Pixels of the image along a patch's side; where patches are smaller, the image is reduced for them."""


class ViT(nn.Module):
    """The encoder.

    >>> net, image = ViT(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 256)

    Attributes:
      patch_size: side of a patch. The image is resized so that a patch is 16 of its pixels.
      grid: patches along a side of the images of the pre-training, to which the learned positions belong.
      width: channels of a token.
      depth: blocks.
      heads: of the attention.
      expansion: of the channels inside the feed-forward part.
      layer_scale: initial value of the factors per channel behind both parts of a block; 0 for none, as in ViT.
      interpolation: how positions are brought to another grid, "bicubic" or, in DPT, "bilinear".
      antialias: of bicubic interpolation: as in timm (True), or as transformers and DINOv2 do it, without a wider
        window where positions are reduced (False).
      features: channels of the pyramid.
      drop_path: rate of stochastic depth at the last block; it grows linearly from zero at the first.
      epsilon: of the normalisations; transformers has 1e-12 in its ViT.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    patch_size: int = 16
    grid: int = 14
    width: int = 384
    depth: int = 12
    heads: int = 6
    expansion: int = 4
    layer_scale: float = 0.0
    interpolation: str = "bicubic"
    antialias: bool = True
    features: int = 256
    drop_path: float = 0.0
    epsilon: float = 1e-6
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c2".."c5"}`` for raw pixels of any size, at strides 4, 8, 16 and 32, and ``"c4_patches"``, the
        that the transformer ends with. There is no map at 2.
        """
        padded = pad_to_multiple(image, 2 * STRIDE)
        x = self.standardize(padded, self.in_channels)
        if self.patch_size != STRIDE:
            x = resize_bilinear(x, (x.shape[1] // STRIDE * self.patch_size, x.shape[2] // STRIDE * self.patch_size))
        states, grid = self.states(x.astype(self.dtype), train=train)
        x = LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(states[-1], train=train)
        x = x[:, 0, 1:].reshape(x.shape[0], *grid, self.width)
        return {"c4_patches": x, **Pyramid(self.features, dtype=self.dtype, name="pyramid")(x, train=train)}

    def states(
        self, x: Map, patch_size: int | None = None, *, train: bool
    ) -> tuple[list[Float[Array, "b 1 n c"]], tuple[int, int]]:
        """Return the tokens behind each block, the class token first, and the rows and columns of patches.

        Args:
          x: a standardised image whose sides are multiples of the patch's, or a map of another network.
          patch_size: side of a patch on it; None for that of the image.
          train: whether stochastic depth drops branches.
        """
        size = self.patch_size if patch_size is None else patch_size
        x = Conv(self.width, size, stride=size, kernel_init=dense_init, dtype=self.dtype, name="patches")(x)
        b, h, w, c = x.shape
        positions = self.param("positions", dense_init, (1, 1 + self.grid**2, c), jnp.float32)
        token = self.param("class_token", dense_init, (1, 1, c), jnp.float32)
        table = positions[:, 1:].reshape(1, self.grid, self.grid, c)
        x = x + pick(INTERPOLATIONS, self.interpolation, "interpolation")(table, (h, w), self.antialias).astype(x.dtype)
        first = jnp.broadcast_to((token + positions[:, :1]).astype(x.dtype), (b, 1, c))
        x = jnp.concatenate([first, x.reshape(b, h * w, c)], axis=1)[:, None]
        found = []
        for i in range(self.depth):
            x = Block(
                heads=self.heads,
                expansion=self.expansion,
                layer_scale=self.layer_scale,
                drop_path=self.drop_path * i / max(self.depth - 1, 1),
                epsilon=self.epsilon,
                dtype=self.dtype,
                name=f"block{i}",
            )(x, train=train)
            found.append(x)
        return found, (h, w)


class Block(nn.Module):
    """Attention among all tokens and a feed-forward part, each behind a normalisation and inside a residual.

    >>> block, x = Block(heads=2), jnp.ones((1, 1, 17, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 1, 17, 8)
    """

    heads: int
    expansion: int = 4
    layer_scale: float = 0.0
    drop_path: float = 0.0
    epsilon: float = 1e-6
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b 1 n c"], *, train: bool) -> Float[Array, "b 1 n c"]:
        """Return as many tokens."""
        c, options = x.shape[-1], {"kernel_init": dense_init, "dtype": self.dtype}
        y = LayerNorm(self.epsilon, dtype=self.dtype, name="norm1")(x, train=train)
        query, key, value = (
            Conv(c, 1, **options, name=name)(y)[:, 0].reshape(y.shape[0], -1, self.heads, c // self.heads)
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bnhd,bmhd->bhnm", query, key).astype(jnp.float32) * (c // self.heads) ** -0.5
        y = jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, axis=-1).astype(self.dtype), value)
        y = self._scaled("scale1", Conv(c, 1, **options, name="out")(y.reshape(x.shape)))
        x = x + DropPath(self.drop_path, name="drop1")(y, train=train)
        y = LayerNorm(self.epsilon, dtype=self.dtype, name="norm2")(x, train=train)
        y = jax.nn.gelu(Conv(self.expansion * c, 1, **options, name="expand")(y), approximate=False)
        y = self._scaled("scale2", Conv(c, 1, **options, name="reduce")(y))
        return x + DropPath(self.drop_path, name="drop2")(y, train=train)

    def _scaled(self, name: str, x: Map) -> Map:
        if not self.layer_scale:
            return x
        factor = self.param(name, nn.initializers.constant(self.layer_scale), (x.shape[-1],), jnp.float32)
        return x * factor.astype(x.dtype).reshape(1, 1, 1, -1)


class Pyramid(nn.Module):
    """The simple feature pyramid: one map, enlarged by 4 and 2, as it is, and halved; two convolutions behind each.

    >>> pyramid, x = Pyramid(16), jnp.ones((1, 4, 4, 8))
    >>> jax.eval_shape(lambda key: pyramid.init_with_output(key, x, train=False)[0], jax.random.key(0))["c2"].shape
    (1, 16, 16, 16)

    Reference:
      Li et al. 2022, arXiv:2203.16527, section 3; detectron2, ``SimpleFeaturePyramid``.
    """

    features: int = 256
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> dict[str, Map]:
        """Return ``{"c2".."c5"}``."""
        c, options = x.shape[-1], {"stride": 2, "dtype": self.dtype}
        fine = ConvTranspose(c // 2, 2, **options, name="up2_1")(x)
        fine = jax.nn.gelu(LayerNorm(dtype=self.dtype, name="up2_norm")(fine, train=train), approximate=False)
        maps = {
            "c2": ConvTranspose(c // 4, 2, **options, name="up2_2")(fine),
            "c3": ConvTranspose(c // 2, 2, **options, name="up3")(x),
            "c4": x,
            "c5": max_pool(x, 2),
        }
        for key, level in maps.items():
            for i, size in ((1, 1), (2, 3)):
                conv = ConvNorm(self.features, size, norm="pixel", dtype=self.dtype, name=f"{key}_{i}")
                level = conv(level, train=train)
            maps[key] = level
        return maps


VARIANTS: dict[str, tuple[int, int]] = {"small": (384, 6), "base": (768, 12)}
"""Channels of a token and heads, of 12 blocks (Table 1 of the first paper; the small one is from DeiT)."""


def vit(
    variant: str,
    *,
    patch_size: int = 16,
    grid: int = 14,
    layer_scale: float = 0.0,
    antialias: bool = True,
    features: int = 256,
    drop_path: float = 0.0,
    epsilon: float = 1e-6,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ViT:
    """Return ViT "small" or "base", pre-trained on 224 pixels.

    >>> vit("base").heads
    12

    Raises:
      BadInput: another variant.
    """
    width, heads = pick(VARIANTS, variant, "ViT")
    return ViT(
        patch_size=patch_size,
        grid=grid,
        width=width,
        heads=heads,
        layer_scale=layer_scale,
        antialias=antialias,
        features=features,
        drop_path=drop_path,
        epsilon=epsilon,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def dinov2(
    variant: str,
    *,
    antialias: bool = True,
    features: int = 256,
    drop_path: float = 0.0,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ViT:
    """Return DINOv2 "small" or "base", with patches of 14 pixels, pre-trained on 518.

    >>> dinov2("small").grid
    37

    Raises:
      BadInput: another variant.
    """
    return vit(
        variant,
        patch_size=14,
        grid=37,
        layer_scale=1e-5,
        antialias=antialias,
        features=features,
        drop_path=drop_path,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )


def _lines(source: str, path: str, weight: str = "kernel|dense") -> Rules:
    dot = "_" if source.endswith("in_proj") else r"\."
    return (rf"{source}{dot}weight", f"{path}/{weight}"), (rf"{source}{dot}bias", f"{path}/bias")


def _names(root: tuple[str, str, str, str], block: str, layers: tuple[str, ...], scales: tuple[str, ...]) -> Rules:
    """Return rename rules by where a library has its parts.

    Args:
      root: the convolution of the patches, the class token, the positions and the last normalisation.
      block: what stands before the layers of a block, whose number is the regex's only group.
      layers: the two normalisations, the layer behind the attention, those of the feed-forward part, and one layer for
        queries, keys and values, or one for each.
      scales: the factors behind both parts, where there are some.
    """
    ours = ["norm1", "norm2", "out", "expand", "reduce", "query", "key", "value"]
    ours = ours if len(layers) == len(ours) else [*ours[:5], "{query,key,value}"]
    return (
        *_lines(root[0], "patches", "kernel"),
        (root[1], "class_token"),
        (root[2], "positions"),
        *_lines(root[3], "norm", "scale"),
        *(
            rule
            for layer, path in zip(layers, ours, strict=True)
            for rule in _lines(block + layer, rf"block\1/{path}", "scale" if "norm" in path else "kernel|dense")
        ),
        *((block + name, rf"block\1/scale{i}") for i, name in enumerate(scales, 1)),
    )


TIMM_NAMES: Rules = (
    *_names(
        (r"patch_embed\.proj", "cls_token", "pos_embed", "norm"),
        r"blocks\.(\d+)\.",
        ("norm1", "norm2", r"attn\.proj", r"mlp\.fc1", r"mlp\.fc2", r"attn\.qkv"),
        (r"ls1\.gamma", r"ls2\.gamma"),
    ),
    (r"(head|fc_norm)\..*|mask_token", None),
)
"""Rules from timm's classifier, and from DINOv2's own files, to the paths of :class:`ViT`."""

_ROOT = r"(?:vit\.|dinov2\.)?"

TRANSFORMERS_NAMES: Rules = (
    *_names(
        (
            rf"{_ROOT}embeddings\.patch_embeddings\.projection",
            rf"{_ROOT}embeddings\.cls_token",
            rf"{_ROOT}embeddings\.position_embeddings",
            rf"{_ROOT}layernorm",
        ),
        rf"{_ROOT}encoder\.layer\.(\d+)\.",
        (
            *("layernorm_before", "layernorm_after", r"attention\.output\.dense"),
            *(r"intermediate\.dense", r"output\.dense"),
            *(rf"attention\.attention\.{name}" for name in ("query", "key", "value")),
        ),
        (),
    ),
    (rf"({_ROOT}pooler|classifier)\..*", None),
)
"""Rules from published files of ``ViTForImageClassification`` of transformers, with ``epsilon=1e-12``."""

DINOV2_NAMES: Rules = (
    *_names(
        (
            rf"{_ROOT}embeddings\.patch_embeddings\.projection",
            rf"{_ROOT}embeddings\.cls_token",
            rf"{_ROOT}embeddings\.position_embeddings",
            rf"{_ROOT}layernorm",
        ),
        rf"{_ROOT}encoder\.layer\.(\d+)\.",
        (
            *("norm1", "norm2", r"attention\.(?:output\.dense|o_proj)", r"mlp\.fc1", r"mlp\.fc2"),
            *(rf"attention\.(?:attention\.{name}|{name[0]}_proj)" for name in ("query", "key", "value")),
        ),
        (r"layer_scale1\.lambda1", r"layer_scale2\.lambda1"),
    ),
    (rf"{_ROOT}embeddings\.mask_token|classifier\..*", None),
)
"""Rules from ``Dinov2Model`` of transformers, in published files and in memory, with ``antialias=False``."""

TORCHVISION_NAMES: Rules = (
    *_names(
        ("conv_proj", "class_token", r"encoder\.pos_embedding", r"encoder\.ln"),
        r"encoder\.layers\.encoder_layer_(\d+)\.",
        (
            *("ln_1", "ln_2", r"self_attention\.out_proj", r"mlp\.(?:0|linear_1)", r"mlp\.(?:3|linear_2)"),
            r"self_attention\.in_proj",
        ),
        (),
    ),
    (r"heads\..*", None),
)
"""Rules from torchvision's classifier."""


ENCODERS: dict[str, EncoderSpec] = {
    **{f"vit_{name}": fixed(vit, TIMM_NAMES, finest=4, variant=name) for name in VARIANTS},
    **{f"dinov2_{name}": fixed(dinov2, TIMM_NAMES, finest=4, variant=name) for name in VARIANTS},
}
"""By names of our own: segmentation-models-pytorch has no pyramid on a ViT."""
