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
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, last_level, smp_names, steps_of
from jaxseg.layers.scse import attend, scse_names
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
      attention: "scse" weighs each node's input and output; None for no attention.
      dtype: compute dtype.
    """

    features: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention: str | None = None
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}``, or a transformer's ``c2`` on, to a map at the image's resolution."""
        nodes: dict[tuple[int, int], Map] = {}
        last = last_level(maps)
        for j in range(last - 1):
            skip = maps.get(f"c{last - 1 - j}")
            for i in range(j, -1, -1) if skip is not None else (0,):
                below = maps[f"c{last - j}"] if i == j else nodes[i, j - 1]
                others = [] if skip is None else [*(nodes[k, j] for k in range(i + 1, j + 1)), skip]
                channels = self.features[j] if i == 0 or skip is None else skip.shape[-1]
                nodes[i, j] = self._node(f"x_{i}_{j}", below, others, channels, train=train)
        return self._node(f"x_0_{last - 1}", nodes[0, last - 2], [], self.features[last - 1], train=train)

    def _node(self, name: str, x: Map, others: list[Map], channels: int, *, train: bool) -> Map:
        size = others[-1].shape[1:3] if others else (2 * x.shape[1], 2 * x.shape[2])
        x = jnp.concatenate([resize_nearest(x, (size[0], size[1])), *others], axis=-1)
        if others:
            x = attend(self.attention, x, dtype=self.dtype, name=f"{name}_attention1")
        for i in (1, 2):
            x = jax.nn.relu(ConvNorm(channels, dtype=self.dtype, name=f"{name}_conv{i}")(x, train=train))
        return attend(self.attention, x, dtype=self.dtype, name=f"{name}_attention2")


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put the decoder on a backbone, with the options of segmentation-models-pytorch.

    >>> on_backbone(resnet.resnet(18), decoder_attention_type="scse").decoder.attention
    'scse'

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      decoder_channels: of the outer diagonal, coarse to fine; as many as ``encoder_depth``.
      decoder_attention_type: "scse" or None.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: channels for another number of steps, or there is no such depth or head.
    """
    features = steps_of(decoder_channels, encoder_depth)
    return EncoderDecoder(
        backbone=backbone,
        decoder=UNetPlusPlusDecoder(features, decoder_attention_type, dtype=dtype),
        num_classes=num_classes,
        multiple=2**encoder_depth,
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        *torch_names(r"decoder\.blocks\.(x_\d_\d)\.conv(\d)", r"decoder/\1_conv\2"),
        (r"decoder\.blocks\.x_0_4\.attention1\..*", None),  # made there and never called
        *scse_names(r"decoder\.blocks\.(x_\d_\d)\.attention(\d)", r"decoder/\1_attention\2"),
    ),
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
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """UNet++ on a ResNet-34: nested, dense skips."""
    return on_backbone(
        resnet.resnet(34, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_attention_type=decoder_attention_type,
        aux_params=aux_params,
        dtype=dtype,
    )
