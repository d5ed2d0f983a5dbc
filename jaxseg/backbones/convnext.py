"""ConvNeXt: a ConvNet for the 2020s (Liu et al. 2022, arXiv:2201.03545).

A stem of 4x4 patches and four stages at strides 4, 8, 16 and 32; a 2x2 convolution halves the map between them. A block
is a 7x7 depthwise convolution, a normalisation over channels and two dense layers with a GELU, scaled per channel and
added to its input (Figure 4).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, in_timm
from jaxseg.errors import BadInput, pick
from jaxseg.layers.conv import Conv, dense_init
from jaxseg.layers.dropout import DropPath
from jaxseg.layers.norm import LayerNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.window import surely_below
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class ConvNeXt(nn.Module):
    """The encoder.

    >>> net, image = ConvNeXt(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 2, 2, 768)

    Attributes:
      depths: blocks per stage.
      widths: channels per stage.
      drop_path: rate of stochastic depth at the last block; it grows linearly from zero at the first.
      layer_scale: initial value of the factors per channel.
      output_stride: 32, 16 or 8. A stage that keeps its resolution trades its stride for dilation, as in timm.
      map_norm: whether the four maps are normalised on their way out, as UPerNet has it on this encoder.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    drop_path: float = 0.0
    layer_scale: float = 1e-6
    output_stride: int = 32
    map_norm: bool = False
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c2".."c5"}`` for raw pixels, at strides 4, 8, 16 and 32 or ``output_stride``; there is no map at
        2.

        Raises:
          BadInput: a side below 32 pixels, which the stem and three halvings would leave empty, or another stride.
        """
        if self.output_stride not in (8, 16, 32):
            raise BadInput(f"output_stride is {self.output_stride}; there are 8, 16 and 32")
        if any(surely_below(side, 32) for side in image.shape[1:3]):
            raise BadInput(f"an image of {image.shape[1]}x{image.shape[2]} is too small for ConvNeXt; it takes 32x32")
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = Conv(self.widths[0], 4, stride=4, kernel_init=dense_init, dtype=self.dtype, name="stem")(x)
        x = LayerNorm(dtype=self.dtype, name="stem_norm")(x, train=train)
        maps, place, last, stride, dilation = {}, 0, max(sum(self.depths) - 1, 1), 4, 1
        for s, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), 1):
            if s > 1:
                step = 2 if stride < self.output_stride else 1
                x = LayerNorm(dtype=self.dtype, name=f"down{s}_norm")(x, train=train)
                x = self._down(s, x, width, step, dilation)
                stride, dilation = stride * step, dilation * (2 // step)
            for i in range(depth):
                x = Block(
                    dilation=dilation,
                    drop_path=self.drop_path * place / last,
                    layer_scale=self.layer_scale,
                    dtype=self.dtype,
                    name=f"stage{s}_{i}",
                )(x, train=train)
                place += 1
            maps[f"c{s + 1}"] = x
        if self.map_norm:
            return {key: LayerNorm(dtype=self.dtype, name=f"{key}_norm")(x, train=train) for key, x in maps.items()}
        return maps

    def _down(self, stage: int, x: Map, width: int, stride: int, dilation: int) -> Map:
        """Halve the map; without a stride its size is kept by zeros, one less before it than behind it if need be."""
        pads = (dilation // 2, dilation - dilation // 2) if stride == 1 else (0, 0)
        return Conv(
            width,
            2,
            stride=stride,
            padding=(pads, pads),
            dilation=dilation,
            kernel_init=dense_init,
            dtype=self.dtype,
            name=f"down{stage}",
        )(x)


class Block(nn.Module):
    """Depthwise convolution, normalisation, two dense layers, inside a residual.

    >>> block, x = Block(), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    dilation: int = 1
    drop_path: float = 0.0
    layer_scale: float = 1e-6
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of the same shape."""
        c = x.shape[-1]
        options = {"kernel_init": dense_init, "dtype": self.dtype}
        wide = 3 * self.dilation
        y = Conv(c, 7, padding=wide, dilation=self.dilation, groups=c, **options, name="depthwise")(x)
        y = LayerNorm(dtype=self.dtype, name="norm")(y, train=train)
        y = jax.nn.gelu(Conv(4 * c, 1, **options, name="expand")(y), approximate=False)
        y = Conv(c, 1, **options, name="reduce")(y)
        gamma = self.param("scale", nn.initializers.constant(self.layer_scale), (c,), jnp.float32)
        y = y * gamma.astype(y.dtype).reshape(1, 1, 1, c)
        return x + DropPath(self.drop_path, name="drop")(y, train=train)


VARIANTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
}
"""(blocks, channels) per stage (paper section 3)."""


def convnext(
    variant: str,
    *,
    drop_path: float = 0.0,
    output_stride: int = 32,
    map_norm: bool = False,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> ConvNeXt:
    """Return the ConvNeXt "tiny", "small", "base" or "large".

    >>> convnext("small").depths
    (3, 3, 27, 3)

    Raises:
      BadInput: another variant.
    """
    depths, widths = pick(VARIANTS, variant, "ConvNeXt")
    return ConvNeXt(
        depths=depths,
        widths=widths,
        drop_path=drop_path,
        output_stride=output_stride,
        map_norm=map_norm,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _names(stem: tuple[str, str], down: str, block: str, layers: tuple[str, ...], scale: str) -> Rules:
    """Return rename rules by where a library has its parts.

    The stage is ``{s}``, counted from 0, or ``{even}`` and ``{odd}`` where what leads to it is counted too.

    Args:
      stem: the convolution that the network begins with, and its normalisation.
      down: what stands before the normalisation (0) and the convolution (1) that lead to a stage.
      block: what stands before the layers of a block, whose number is the regex's only group.
      layers: the depthwise convolution, the normalisation and the two dense layers of a block.
      scale: the factors of a block.
    """
    ours = (("depthwise", "kernel"), ("norm", "scale"), ("expand", "kernel|dense"), ("reduce", "kernel|dense"))
    name, _, layout = scale.partition("|")
    rules: list[tuple[str, str | None]] = []
    for s in range(4):
        between = ((rf"{down}\.0", f"down{s + 1}_norm", "scale"), (rf"{down}\.1", f"down{s + 1}", "kernel"))
        parts = [
            *(between if s else ((stem[0], "stem", "kernel"), (stem[1], "stem_norm", "scale"))),
            *((block + layer, rf"stage{s + 1}_\1/{p}", w) for layer, (p, w) in zip(layers, ours, strict=True)),
        ]
        places = {"s": s, "even": 2 * s, "odd": 2 * s + 1}
        for source, path, weight in parts:
            source = source.format(**places)
            rules += [(rf"{source}\.weight", f"{path}/{weight}"), (rf"{source}\.bias", f"{path}/bias")]
        rules.append(((block + name).format(**places), rf"stage{s + 1}_\1/scale" + f"|{layout}" * bool(layout)))
    return tuple(rules)


TIMM_NAMES: Rules = (
    *_names(
        (r"stem\.0", r"stem\.1"),
        r"stages\.{s}\.downsample",
        r"stages\.{s}\.blocks\.(\d+)\.",
        ("conv_dw", "norm", r"mlp\.fc1", r"mlp\.fc2"),
        "gamma",
    ),
    (r"(head|norm_pre)\..*", None),
)
"""Rules from timm's classifier to the paths of :class:`ConvNeXt`."""

TIMM_MAPS_NAMES: Rules = tuple(
    (name.replace(r"stem\.", "stem_").replace(r"stages\.", "stages_"), path) for name, path in TIMM_NAMES if path
)
"""Rules from timm's network of maps (``features_only=True``), which segmentation-models-pytorch takes."""

TORCHVISION_NAMES: Rules = (
    *_names(
        (r"features\.0\.0", r"features\.0\.1"),
        r"features\.{even}",
        r"features\.{odd}\.(\d+)\.",
        (r"block\.0", r"block\.2", r"block\.3", r"block\.5"),
        "layer_scale|c11",
    ),
    (r"classifier\..*", None),
)
"""Rules from torchvision's classifier."""

TRANSFORMERS_NAMES: Rules = (
    *_names(
        (r"(?:convnext\.)?embeddings\.patch_embeddings", r"(?:convnext\.)?embeddings\.layernorm"),
        r"(?:convnext\.)?encoder\.stages\.{s}\.downsampling_layer",
        r"(?:convnext\.)?encoder\.stages\.{s}\.layers\.(\d+)\.",
        ("dwconv", "layernorm", "pwconv1", "pwconv2"),
        "layer_scale_parameter",
    ),
    *((rf"hidden_states_norms\.stage{s}\.weight", f"c{s + 1}_norm/scale") for s in (1, 2, 3, 4)),
    *((rf"hidden_states_norms\.stage{s}\.bias", f"c{s + 1}_norm/bias") for s in (1, 2, 3, 4)),
    (r"(?:convnext\.)?layernorm\..*|classifier\..*", None),
)
"""Rules from ``ConvNextForImageClassification`` and ``ConvNextBackbone`` of transformers."""

OFFICIAL_NAMES: Rules = (
    *_names(
        (r"downsample_layers\.0\.0", r"downsample_layers\.0\.1"),
        r"downsample_layers\.{s}",
        r"stages\.{s}\.(\d+)\.",
        ("dwconv", "norm", "pwconv1", "pwconv2"),
        "gamma",
    ),
    (r"(norm|head)\..*", None),
)
"""Rules from the authors' files (github.com/facebookresearch/ConvNeXt)."""


def _pruned(net: ConvNeXt, stages: int) -> ConvNeXt:
    return net.clone(depths=net.depths[:stages], widths=net.widths[:stages])


ENCODERS: dict[str, EncoderSpec] = {
    f"tu-convnext_{name}": EncoderSpec(partial(convnext, name), in_timm(TIMM_MAPS_NAMES), finest=4, prune=_pruned)
    for name in VARIANTS
}
"""By the name in segmentation-models-pytorch."""
