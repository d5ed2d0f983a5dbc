"""MA-Net: a multi-scale attention network for liver and tumor segmentation (Fan et al. 2020).

doi:10.1109/ACCESS.2020.3025372

A U-Net over any backbone with two kinds of attention: between all places of ``c5`` (position-wise attention block), and
over the channels of both maps that meet at each skip (multi-scale fusion attention block). The layout is that of
segmentation-models-pytorch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import resnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, last_level, smp_names, steps_of
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class MANetDecoder(nn.Module):
    """Attention on ``c5``, then five steps of doubling, four of them with a skip.

    >>> decoder, maps = MANetDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 64, 64, 16)

    Attributes:
      features: channels after each of the five steps, coarse to fine.
      attention: channels in which places are compared.
      reduction: of the channels inside the gates.
      dtype: compute dtype.
    """

    features: tuple[int, ...] = (256, 128, 64, 32, 16)
    attention: int = 64
    reduction: int = 16
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}``, or a transformer's ``c2`` on, to a map at the image's resolution."""
        last = last_level(maps)
        x = PositionAttention(self.attention, dtype=self.dtype, name="centre")(maps[f"c{last}"])
        for i, channels in enumerate(self.features):
            skip = maps.get(f"c{last - 1 - i}")
            if skip is not None:
                x = FusionAttention(self.reduction, dtype=self.dtype, name=f"block{i}")(x, skip, train=train)
            else:
                x = resize_nearest(x, (2 * x.shape[1], 2 * x.shape[2]))
            for j in (1, 2):
                x = jax.nn.relu(ConvNorm(channels, dtype=self.dtype, name=f"block{i}_conv{j}")(x, train=train))
        return x


class PositionAttention(nn.Module):
    """Position-wise attention block: every place gathers from all, by one softmax over all pairs of places.

    The gathered values are read back in the order of places before channels, as the reference does: its reshape
    mixes the two.

    >>> block, x = PositionAttention(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Return a map of the same shape."""
        b, h, w, c = x.shape
        top = Conv(self.features, 1, dtype=self.dtype, name="top")(x).reshape(b, h * w, -1)
        centre = Conv(self.features, 1, dtype=self.dtype, name="centre")(x).reshape(b, h * w, -1)
        bottom = Conv(c, 3, padding=1, dtype=self.dtype, name="bottom")(x).reshape(b, h * w, c)
        pairs = jnp.einsum("bnc,bmc->bnm", centre, top).astype(jnp.float32)
        weight = jax.nn.softmax(pairs, axis=(1, 2)).astype(self.dtype)
        gathered = jnp.einsum("bnm,bmc->bnc", weight, bottom).reshape(b, c, h, w).transpose(0, 2, 3, 1)
        return Conv(c, 3, padding=1, dtype=self.dtype, name="out")(x.astype(self.dtype) + gathered)


class FusionAttention(nn.Module):
    """Multi-scale fusion attention block: gates from the skip and from the enlarged map, summed, on the latter.

    >>> block, x, skip = FusionAttention(), jnp.ones((1, 4, 4, 8)), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, skip, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    reduction: int = 16
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, skip: Map, *, train: bool) -> Map:
        """Both maps at the size of the skip, one behind the other, twice its channels."""
        x = jax.nn.relu(ConvNorm(x.shape[-1], dtype=self.dtype, name="high1")(x, train=train))
        x = jax.nn.relu(ConvNorm(skip.shape[-1], 1, dtype=self.dtype, name="high2")(x, train=train))
        x = resize_nearest(x, (skip.shape[1], skip.shape[2]))
        x = x * (self._gate("gate_high", x) + self._gate("gate_low", skip))
        return jnp.concatenate([x, skip], axis=-1)

    def _gate(self, name: str, x: Map) -> Map:
        c = x.shape[-1]
        x = jnp.mean(x, axis=(1, 2), keepdims=True)
        x = Conv(max(1, c // self.reduction), 1, dtype=self.dtype, name=f"{name}1")(x)
        return jax.nn.sigmoid(Conv(c, 1, dtype=self.dtype, name=f"{name}2")(jax.nn.relu(x)))


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    decoder_pab_channels: int = 64,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put the decoder on a backbone, with the options of segmentation-models-pytorch.

    >>> on_backbone(resnet.resnet(18), decoder_pab_channels=32).decoder.attention
    32

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      decoder_channels: after each step, coarse to fine; as many as ``encoder_depth``.
      decoder_pab_channels: in which places are compared.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: channels for another number of steps, or there is no such depth or head.
    """
    features = steps_of(decoder_channels, encoder_depth)
    return EncoderDecoder(
        backbone=backbone,
        decoder=MANetDecoder(features, decoder_pab_channels, dtype=dtype),
        num_classes=num_classes,
        multiple=2**encoder_depth,
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        *(
            (rf"decoder\.center\.{theirs}_conv\.{source}", f"decoder/centre/{ours}/{leaf}")
            for theirs, ours in (("top", "top"), ("center", "centre"), ("bottom", "bottom"), ("out", "out"))
            for source, leaf in (("weight", "kernel"), ("bias", "bias"))
        ),
        *(
            (rf"decoder\.blocks\.(\d)\.SE_{theirs}\.{layer}\.{source}", rf"decoder/block\1/gate_{ours}/{leaf}")
            for theirs, side in (("ll", "low"), ("hl", "high"))
            for layer, ours in ((1, f"{side}1"), (3, f"{side}2"))
            for source, leaf in (("weight", "kernel"), ("bias", "bias"))
        ),
        *torch_names(r"decoder\.blocks\.(\d)\.hl_conv\.0", r"decoder/block\1/high1"),
        *torch_names(r"decoder\.blocks\.(\d)\.hl_conv\.1", r"decoder/block\1/high2"),
        *torch_names(r"decoder\.blocks\.(\d)\.conv(\d)", r"decoder/block\1_conv\2"),
    ),
)
"""Rules from ``MAnet`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="doi:10.1109/ACCESS.2020.3025372",
    params=31_786_533,
    names={"smp": SMP_NAMES},
    overfit=Overfit(
        fields={
            "width": 8,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "decoder.features": (16, 16, 8, 8, 8),
            "decoder.attention": 8,
            "decoder.reduction": 4,
        }
    ),
)
def manet_resnet34(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    decoder_pab_channels: int = 64,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """MA-Net on a ResNet-34."""
    return on_backbone(
        resnet.resnet(34, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_pab_channels=decoder_pab_channels,
        aux_params=aux_params,
        dtype=dtype,
    )
