"""DenseNet: densely connected convolutional networks (Huang et al. 2017, arXiv:1608.06993).

Every layer of a block sees the maps of all layers before it, side by side; between blocks a 1x1 convolution halves the
channels and a mean pool the sides (Table 1). The names are torchvision's, which normalises before it convolves.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.encoder import EncoderSpec, fixed
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import IMAGENET, Standardize, statistics
from jaxseg.ops.pool import avg_pool, max_pool
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class DenseNet(nn.Module):
    """The backbone without its classifier.

    >>> net, image = densenet(121), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> maps = jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))
    >>> {name: x.shape[-1] for name, x in sorted(maps.items())}
    {'c1': 64, 'c2': 256, 'c3': 512, 'c4': 1024, 'c5': 1024}

    Attributes:
      depths: layers per block.
      growth: channels that a layer adds.
      width: channels of the stem.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    depths: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    width: int = 64
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c1".."c5"}`` for raw pixels at strides 2 to 32: the stem; each block, normalised, before its
        transition; ``c5``, which has none, without its ReLU, as segmentation-models-pytorch takes it.
        """
        norm = partial(BatchNorm, dtype=self.dtype)
        conv = partial(Conv, use_bias=False, dtype=self.dtype)
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        x = conv(self.width, 7, stride=2, padding=3, name="stem_conv")(x)
        x = jax.nn.relu(norm(name="stem_norm")(x, train=train))
        maps = {"c1": x}
        x = max_pool(x, 3, stride=2, padding=1)
        for block, layers in enumerate(self.depths, 1):
            for i in range(1, layers + 1):
                name = f"block{block}_{i}"
                y = jax.nn.relu(norm(name=f"{name}_norm1")(x, train=train))
                y = conv(4 * self.growth, 1, name=f"{name}_conv1")(y)
                y = jax.nn.relu(norm(name=f"{name}_norm2")(y, train=train))
                y = conv(self.growth, 3, padding=1, name=f"{name}_conv2")(y)
                x = jnp.concatenate([x, y], axis=-1)
            if block == len(self.depths):
                maps[f"c{block + 1}"] = norm(name="norm")(x, train=train)
                break
            x = jax.nn.relu(norm(name=f"transition{block}_norm")(x, train=train))
            maps[f"c{block + 1}"] = x
            x = avg_pool(conv(x.shape[-1] // 2, 1, name=f"transition{block}_conv")(x), 2)
        return maps


VARIANTS: dict[int, tuple[tuple[int, ...], int, int]] = {
    121: ((6, 12, 24, 16), 32, 64),
    161: ((6, 12, 36, 24), 48, 96),
    169: ((6, 12, 32, 32), 32, 64),
    201: ((6, 12, 48, 32), 32, 64),
}
"""Layers per block, growth, channels of the stem (Table 1; 161 is the authors' wider one)."""


def densenet(
    layers: int,
    *,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DenseNet:
    """Return the network of 121, 161, 169 or 201 layers.

    >>> densenet(161).growth
    48

    Raises:
      BadInput: another number of layers.
    """
    if layers not in VARIANTS:
        raise BadInput(f"no DenseNet of {layers} layers; there are: {', '.join(map(str, VARIANTS))}")
    depths, growth, width = VARIANTS[layers]
    return DenseNet(
        depths=depths,
        growth=growth,
        width=width,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


_PARTS: tuple[tuple[str, str], ...] = (
    (r"features\.{}0", "stem_{}"),
    (r"features\.denseblock(\d)\.denselayer(\d+)\.{}([12])", r"block\1_\2_{}\3"),
    # Files from before torch 0.4 have a point more.
    (r"features\.denseblock(\d)\.denselayer(\d+)\.{}\.([12])", r"block\1_\2_{}\3"),
    (r"features\.transition(\d)\.{}", r"transition\1_{}"),
)

_LEAVES = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))

TORCHVISION_NAMES: Rules = (
    *((rf"{source.format('conv')}\.weight", f"{path.format('conv')}/kernel") for source, path in _PARTS),
    *(
        (rf"{source.format('norm')}\.{theirs}", f"{path.format('norm')}/{ours}")
        for source, path in (*_PARTS, (r"features\.norm5", "norm"))
        for theirs, ours in _LEAVES
    ),
    (r".*\.num_batches_tracked", None),
    (r"classifier\..*", None),
)
"""Rules from torchvision's state dict, timm's and segmentation-models-pytorch's, to the paths of :class:`DenseNet`."""

ENCODERS: dict[str, EncoderSpec] = {
    f"densenet{layers}": fixed(densenet, TORCHVISION_NAMES, layers=layers) for layers in VARIANTS
}
"""By the name in segmentation-models-pytorch; poolings between blocks cannot be dilated."""
