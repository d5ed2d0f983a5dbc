"""DPT: vision transformers for dense prediction (Ranftl et al. 2021, arXiv:2103.13413).

Tokens behind four blocks of a vision transformer are put back in their places, each as a map at another stride
(section 3, "Convolutional decoder"), and fused coarse to fine by residual units and bilinear steps; three convolutions
make the depth of the result. Trained on data sets whose depth has no common unit, the network says how near a pixel is
up to scale and shift.

DPT-Hybrid has its transformer on the maps of a residual network, and two of that network's maps in the place of the
first two blocks.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import vit
from jaxseg.backbones.vit_blocks import ViTBlocks
from jaxseg.backbones.vit_hybrid import BIT_NAMES, HybridViTBlocks
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.standardize import CENTRED, Standardize, statistics
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class DPT(nn.Module):
    """Transformer, decoder and depth head.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("depth_anything_v2_small"), jnp.zeros((1, 40, 50, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["inverse_depth"].shape
    (1, 40, 50)

    Attributes:
      backbone: ``backbone(image, train=...)`` with ``block{i}`` and ``class{i}``, and before them a hybrid's ``c2`` and
        ``c3``.
      widths: channels of the four reassembled maps, finest first; a hybrid's first two are as wide as its network has
        them.
      features: channels of the decoder.
      head_features: channels of the second last convolution.
      readout: join the class token to every other one, by a dense layer (section 3, "project").
      by_stride: each fusion doubles the map, and the image is resized to a multiple of twice the patch, as DPT does it;
        else each fusion leads to the next map's size, and the head to a multiple of the patch (Depth Anything).
      max_depth: metres of the largest depth, for networks that give metres; 0 for inverse depth without a unit.
      dtype: compute dtype.
    """

    backbone: ViTBlocks
    widths: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    features: int = 256
    head_features: int = 32
    readout: bool = True
    by_stride: bool = True
    max_depth: float = 0.0
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return f32[b h w] for raw pixels of any size: ``depth`` in metres, or ``inverse_depth``, larger where it is
        nearer and 0 far away.

        Images whose sides are no multiples of the patch are resized to the nearest ones inside.
        """
        h, w = image.shape[1:3]
        multiple = self.backbone.patch_size * (2 if self.by_stride else 1)
        rows, columns = (nearest_multiple(n, multiple) for n in (h, w))
        tokens = self.backbone(image, (rows, columns), train=train)
        x = Decoder(self.widths, self.features, self.readout, self.by_stride, dtype=self.dtype, name="decoder")(
            [(tokens[key], None) for key in ("c2", "c3") if key in tokens]
            + [(tokens[f"block{i}"], tokens[f"class{i}"]) for i in self.backbone.out_blocks]
        )
        x = Conv(self.features // 2, 3, padding=1, dtype=self.dtype, name="head1")(x)
        x = resize_bilinear(x, (rows, columns), align_corners=True)
        x = jax.nn.relu(Conv(self.head_features, 3, padding=1, dtype=self.dtype, name="head2")(x))
        x = Conv(1, 1, dtype=self.dtype, name="head3")(x).astype(jnp.float32)
        x = self.max_depth * jax.nn.sigmoid(x) if self.max_depth else jax.nn.relu(x)
        return {"depth" if self.max_depth else "inverse_depth": resize_bilinear(x, (h, w), align_corners=True)[..., 0]}


class Decoder(nn.Module):
    """Reassemble tokens to maps at a quarter, half, once and twice the patch's stride, and fuse them (Figure 1).

    >>> decoder, blocks = Decoder((8, 8, 8, 8), 4), [(jnp.ones((1, 2, 4, 6)), jnp.ones((1, 1, 1, 6)))] * 4
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, blocks)[0], jax.random.key(0)).shape
    (1, 16, 32, 4)

    Attributes:
      widths: see :class:`DPT`, and so are the others.
    """

    widths: tuple[int, int, int, int]
    features: int
    readout: bool = True
    by_stride: bool = True
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, blocks: Sequence[tuple[Map, Float[Array, "b 1 1 c"] | None]]) -> Map:
        """Map tokens of patches and the class token of each block, first to last, to a map at an eighth of the patch's
        stride. Without a class token it is a map of a convolutional network, which is at its stride.
        """
        maps = [self._reassembled(i, *tokens) for i, tokens in enumerate(blocks)]
        x = None
        for i in reversed(range(len(maps))):
            fusion = Fusion(self.features, dtype=self.dtype, name=f"fusion{i}")
            finer = (maps[i - 1].shape[1], maps[i - 1].shape[2]) if i and not self.by_stride else None
            x = fusion(maps[i], None, finer) if x is None else fusion(x, maps[i], finer)
        assert x is not None
        return x

    def _reassembled(self, i: int, x: Map, token: Float[Array, "b 1 1 c"] | None) -> Map:
        reduce = Conv(self.features, 3, padding=1, use_bias=False, dtype=self.dtype, name=f"reduce{i}")
        return reduce(x if token is None else self._at_its_stride(i, x, token))

    def _at_its_stride(self, i: int, x: Map, token: Float[Array, "b 1 1 c"]) -> Map:
        dtype = self.dtype
        if self.readout:
            joined = jnp.concatenate([x, jnp.broadcast_to(token, x.shape)], axis=-1)
            x = jax.nn.gelu(Conv(x.shape[-1], 1, dtype=dtype, name=f"readout{i}")(joined), approximate=False)
        x = Conv(self.widths[i], 1, dtype=dtype, name=f"project{i}")(x)
        if i < 2:
            factor = 4 >> i
            x = ConvTranspose(self.widths[i], factor, stride=factor, dtype=dtype, name=f"resize{i}")(x)
        if i == 3:
            x = Conv(self.widths[i], 3, stride=2, padding=1, dtype=dtype, name="resize3")(x)
        return x


class Fusion(nn.Module):
    """Add a finer map to what came before, refine the sum and enlarge it (RefineNet's block, supplement A).

    >>> fusion, x = Fusion(4), jnp.ones((1, 2, 2, 4))
    >>> jax.eval_shape(lambda key: fusion.init_with_output(key, x, x, None)[0], jax.random.key(0)).shape
    (1, 4, 4, 4)
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, finer: Map | None, size: tuple[int, int] | None) -> Map:
        """Return the fused map, of that size or doubled."""
        if finer is not None:
            x = x + self._residual("unit1", resize_bilinear(finer, (x.shape[1], x.shape[2])))
        x = self._residual("unit2", x)
        x = resize_bilinear(x, size or (2 * x.shape[1], 2 * x.shape[2]), align_corners=True)
        return Conv(self.features, 1, dtype=self.dtype, name="project")(x)

    def _residual(self, name: str, x: Map) -> Map:
        y = x
        for i in (1, 2):
            y = Conv(self.features, 3, padding=1, dtype=self.dtype, name=f"{name}_{i}")(jax.nn.relu(y))
        return x + y


def nearest_multiple(n: int, multiple: int) -> int:
    """Return the nearest positive multiple, the larger of two.

    >>> nearest_multiple(45, 14), nearest_multiple(3, 14)
    (42, 14)
    """
    return max((n + multiple // 2) // multiple, 1) * multiple


def fusion_names(fusion: str, ours: str) -> Rules:
    """Return rename rules of one fusion of transformers.

    >>> fusion_names("layers\\\\.3", "decoder/fusion0")[0]
    ('layers\\\\.3\\\\.projection\\\\.weight', 'decoder/fusion0/project/kernel')
    """
    return tuple(
        (rf"{fusion}\.{theirs}\.{leaf}", f"{ours}/{path}/{ours_leaf}")
        for theirs, path in (
            ("projection", "project"),
            *((rf"residual_layer{k}\.convolution{i}", f"unit{k}_{i}") for k in (1, 2) for i in (1, 2)),
        )
        for leaf, ours_leaf in (("weight", "kernel"), ("bias", "bias"))
    )


def neck_names() -> Rules:
    """Return rename rules of the decoder of transformers, but for the names of its readout.

    The first fusion has a residual unit in their files that nothing calls; it is left out.

    >>> len(neck_names()) > 30
    True
    """
    stage = r"neck\.reassemble_stage\.layers"
    return (
        (r"neck\.fusion_stage\.layers\.0\.residual_layer1\..*", None),
        *(
            (rf"{stage}\.{i}\.{theirs}\.{leaf}", f"decoder/{path}{i}/{ours}")
            for i in range(4)
            for theirs, path in (("projection", "project"), ("resize", "resize"))
            for leaf, ours in (("weight", "kernel|iohw" if path == "resize" and i < 2 else "kernel"), ("bias", "bias"))
        ),
        *((rf"neck\.convs\.{i}\.weight", f"decoder/reduce{i}/kernel") for i in range(4)),
        *(
            rule
            for i in range(4)
            for rule in fusion_names(rf"neck\.fusion_stage\.layers\.{3 - i}", f"decoder/fusion{i}")
        ),
    )


TRANSFORMERS_NAMES: Rules = (
    (r"dpt\.(?:layernorm|pooler)\..*", None),
    *((rf"dpt\.{name}", path and f"backbone/{path}") for name, path in vit.TRANSFORMERS_NAMES),
    *neck_names(),
    *(
        (rf"neck\.reassemble_stage\.readout_projects\.{i}\.0\.{leaf}", f"decoder/readout{i}/{ours}")
        for i in range(4)
        for leaf, ours in (("weight", "kernel|dense"), ("bias", "bias"))
    ),
    *(
        (rf"head\.head\.{number}\.{leaf}", f"head{i}/{ours}")
        for i, number in ((1, 0), (2, 2), (3, 4))
        for leaf, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
)
"""Rules from ``DPTForDepthEstimation`` of transformers, as in the files of ``Intel/dpt-large``."""

HYBRID_NAMES: Rules = (
    *((rf"dpt\.embeddings\.backbone\.bit\.{name}", f"backbone/resnet/{path}") for name, path in BIT_NAMES),
    (r"dpt\.embeddings\.projection\.weight", "backbone/patches/kernel"),
    (r"dpt\.embeddings\.projection\.bias", "backbone/patches/bias"),
    *TRANSFORMERS_NAMES,
)
"""The same with ``is_hybrid``, as in the files of ``Intel/dpt-hybrid-midas``."""


@register(
    task="relative_depth",
    paper="arXiv:2103.13413",
    names={"transformers": TRANSFORMERS_NAMES},
)
def dpt_large(
    max_depth: float = 0.0,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DPT:
    """DPT-Large, on ViT-L/16 for images of 384 pixels."""
    backbone = ViTBlocks(
        grid=24,
        width=1024,
        depth=24,
        heads=16,
        interpolation="bilinear",
        epsilon=1e-12,
        in_channels=in_channels,
        standardize=statistics(standardize, CENTRED, in_channels),
        dtype=dtype,
        out_blocks=(5, 11, 17, 23),
        normalize=False,
    )
    return DPT(backbone=backbone, max_depth=max_depth, dtype=dtype)


@register(
    task="relative_depth",
    paper="arXiv:2103.13413",
    names={"transformers": HYBRID_NAMES},
    small={
        "backbone.resnet_depths": (1, 1, 1),
        "backbone.resnet_width": 32,
        "backbone.width": 16,
        "backbone.depth": 2,
        "backbone.heads": 2,
        "backbone.grid": 4,
        "backbone.out_blocks": (0, 1),
        "widths": (128, 256, 12, 16),
        "features": 8,
        "head_features": 8,
    },
)
def dpt_hybrid(
    max_depth: float = 0.0,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DPT:
    """DPT-Hybrid, on R50+ViT-B/16 for images of 384 pixels."""
    backbone = HybridViTBlocks(
        grid=24,
        width=768,
        depth=12,
        heads=12,
        interpolation="bilinear",
        epsilon=1e-12,
        in_channels=in_channels,
        standardize=statistics(standardize, CENTRED, in_channels),
        dtype=dtype,
        out_blocks=(8, 11),
        normalize=False,
    )
    return DPT(backbone=backbone, widths=(256, 512, 768, 768), max_depth=max_depth, dtype=dtype)
