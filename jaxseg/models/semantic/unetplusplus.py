"""UNet++: a nested U-Net architecture (Zhou et al. 2018, arXiv:1807.10165), over any backbone.

Between the contracting and the expanding path lie intermediate nodes: each convolves the map below it, enlarged,
along with all nodes of its own resolution to its left. The layout, with nearest-neighbour enlargement and a last
step without skip, is that of segmentation-models-pytorch, whose names the nodes keep: ``x_0_j`` are the outer diagonal,
``x_j_j`` stand on the backbone's maps.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import resnet
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.encoder_decoder import EncoderDecoder, smp_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class UNetPlusPlusDecoder(nn.Module):
    """The nested nodes over a backbone's five maps (Figure 1a).

    >>> decoder, maps = UNetPlusPlusDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 64, 64, 16)

    Attributes:
      features: channels of the five nodes of the outer diagonal, coarse to fine. An inner node has the channels of the
        backbone's map of its resolution.
      dtype: compute dtype.
    """

    features: tuple[int, ...] = (256, 128, 64, 32, 16)
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}`` to a map at the image's resolution."""
        nodes: dict[tuple[int, int], Map] = {}
        for j in range(4):
            skip = maps[f"c{4 - j}"]
            for i in range(j, -1, -1):
                below = maps[f"c{5 - j}"] if i == j else nodes[i, j - 1]
                left = [nodes[k, j] for k in range(i + 1, j + 1)]
                channels = self.features[j] if i == 0 else skip.shape[-1]
                nodes[i, j] = self._node(f"x_{i}_{j}", below, [*left, skip], channels, train=train)
        return self._node("x_0_4", nodes[0, 3], [], self.features[4], train=train)

    def _node(self, name: str, x: Map, others: list[Map], channels: int, *, train: bool) -> Map:
        size = others[-1].shape[1:3] if others else (2 * x.shape[1], 2 * x.shape[2])
        x = jnp.concatenate([resize_nearest(x, (size[0], size[1])), *others], axis=-1)
        for i in (1, 2):
            x = jax.nn.relu(ConvNorm(channels, dtype=self.dtype, name=f"{name}_conv{i}")(x, train=train))
        return x


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    torch_names(r"decoder\.blocks\.(x_\d_\d)\.conv(\d)", r"decoder/\1_conv\2"),
)
"""Rules from ``UnetPlusPlus`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1807.10165",
    params=26_081_509,
    names={"smp": SMP_NAMES},
    overfit=Overfit(
        fields={
            "width": 4,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "decoder.features": (16, 16, 8, 8, 8),
        }
    ),
)
def unetplusplus_resnet34(
    num_classes: int = 21,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """UNet++ on a ResNet-34: nested, dense skips."""
    backbone = resnet.resnet(
        34,
        width=width,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    decoder = UNetPlusPlusDecoder(dtype=dtype)
    return EncoderDecoder(backbone=backbone, decoder=decoder, num_classes=num_classes, dtype=dtype)
