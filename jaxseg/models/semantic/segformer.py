"""SegFormer: simple and efficient design for semantic segmentation with transformers (Xie et al. 2021,
arXiv:2105.15203).

The mix transformer's four maps, each reduced or widened to the same channels by one linear layer, resized to 1/4 of the
image, concatenated coarse to fine, fused by a second layer and classified by a third (section 3.2).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mit
from jaxseg.layers.conv import Conv, dense_init
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class SegFormer(nn.Module):
    """Backbone and all-MLP head.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("segformer_b0"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ``backbone(image, train=...)`` with maps ``"c2" .. "c5"``; the paper's is
        :class:`jaxseg.backbones.mit.MiT`.
      num_classes: channels of the logits.
      features: channels of the head: 256 for B0 and B1, 768 for the others.
      dropout: rate of whole channels before the classifier.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 150
    features: int = 256
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size; sides below 32 are padded to that inside."""
        h, w = image.shape[1:3]
        padded = pad_to_multiple(image, 1, least=32)
        maps = self.backbone(padded, train=train)
        size = (maps["c2"].shape[1], maps["c2"].shape[2])
        levels = []
        for k in (5, 4, 3, 2):
            linear = Conv(self.features, 1, kernel_init=dense_init, dtype=self.dtype, name=f"linear{k}")
            levels.append(resize_bilinear(linear(maps[f"c{k}"]), size))
        fuse = ConvNorm(self.features, 1, dtype=self.dtype, name="fuse")
        x = jax.nn.relu(fuse(jnp.concatenate(levels, axis=-1), train=train))
        x = Dropout(self.dropout, spatial=True, name="dropout")(x, train=train)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        x = resize_bilinear(x, (padded.shape[1], padded.shape[2]))
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


class SegFormerDecoder(nn.Module):
    """segmentation-models-pytorch's all-MLP head: every map of the backbone, also that at stride 2, comes to stride 4.

    >>> decoder, maps = SegFormerDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 256)

    Attributes:
      features: channels of the result, and to which each map is brought.
      dtype: compute dtype.
    """

    features: int = 256
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}``, or a transformer's ``c2`` on, to a map at stride 4; ``linear0`` is that of the last."""
        size = (maps["c2"].shape[1], maps["c2"].shape[2])
        levels = []
        for k in range(last_level(maps), 0, -1):
            if f"c{k}" in maps:
                linear = Conv(self.features, 1, dtype=self.dtype, name=f"linear{len(levels)}")
                levels.append(resize_bilinear(linear(maps[f"c{k}"]), size))
        fuse = ConvNorm(self.features, 1, dtype=self.dtype, name="fuse")
        return jax.nn.relu(fuse(jnp.concatenate(levels, axis=-1), train=train))


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_segmentation_channels: int = 256,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put segmentation-models-pytorch's head on a backbone, with its options.

    >>> on_backbone(mit.mit("b0"), decoder_segmentation_channels=64).decoder.features
    64

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      decoder_segmentation_channels: of the head.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return EncoderDecoder(
        backbone=backbone,
        decoder=SegFormerDecoder(decoder_segmentation_channels, dtype=dtype),
        num_classes=num_classes,
        kernel_size=1,
        multiple=2 ** depth_of(encoder_depth, least=3),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    mit.SMP_NAMES,
    (
        (r"decoder\.mlp_stage\.(\d)\.linear\.weight", r"decoder/linear\1/kernel|dense"),
        (r"decoder\.mlp_stage\.(\d)\.linear\.bias", r"decoder/linear\1/bias"),
        *torch_names(r"decoder\.fuse_stage", "decoder/fuse"),
    ),
)
"""Rules from ``Segformer`` of segmentation-models-pytorch on a mix transformer."""

TRANSFORMERS_NAMES: Rules = (
    *((rf"segformer\.{name}", f"backbone/{path}") for name, path in (*mit.TRANSFORMERS_NAMES, *mit.HUB_NAMES)),
    *(
        (rf"decode_head\.{layers}\.{k - 2}\.proj\.{source}", f"linear{k}/{leaf}")
        for layers in ("linear_projections", "linear_c")
        for k in (2, 3, 4, 5)
        for source, leaf in (("weight", "kernel|dense"), ("bias", "bias"))
    ),
    (r"decode_head\.linear_fuse\.weight", "fuse/conv/kernel"),
    (r"decode_head\.batch_norm\.weight", "fuse/norm/scale"),
    (r"decode_head\.batch_norm\.bias", "fuse/norm/bias"),
    (r"decode_head\.batch_norm\.running_(mean|var)", r"fuse/norm/\1"),
    (r"decode_head\.batch_norm\.num_batches_tracked", None),
    (r"decode_head\.classifier\.weight", "classifier/kernel"),
    (r"decode_head\.classifier\.bias", "classifier/bias"),
)
"""Rules from ``SegformerForSemanticSegmentation`` of transformers, in memory (version 5) and in published files."""

NVLABS_NAMES: Rules = (
    *((rf"backbone\.{name}", path and f"backbone/{path}") for name, path in mit.SMP_NAMES),
    *(
        (rf"decode_head\.linear_c{k - 1}\.proj\.{source}", f"linear{k}/{leaf}")
        for k in (2, 3, 4, 5)
        for source, leaf in (("weight", "kernel|dense"), ("bias", "bias"))
    ),
    *torch_names(r"decode_head\.linear_fuse", "fuse", conv="conv", norm="bn"),
    (r".*\.num_batches_tracked", None),
    (r"decode_head\.conv_seg\..*", None),  # of the class above, which nothing calls
    (r"decode_head\.linear_pred\.weight", "classifier/kernel"),
    (r"decode_head\.linear_pred\.bias", "classifier/bias"),
)
"""Rules from the authors' published files (NVlabs/SegFormer)."""


def _segformer(
    variant: str,
    num_classes: int = 150,
    features: int = 256,
    drop_path: float = 0.1,
    dropout: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SegFormer:
    backbone = mit.mit(variant, drop_path=drop_path, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return SegFormer(backbone=backbone, num_classes=num_classes, features=features, dropout=dropout, dtype=dtype)


_register = partial(
    register,
    task="semantic",
    paper="arXiv:2105.15203",
    names={"transformers": TRANSFORMERS_NAMES, "nvlabs": NVLABS_NAMES},
)

segformer_b0 = _register(
    name="segformer_b0",
    summary="SegFormer-B0: the smallest.",
    params=3_752_694,
    small={
        "backbone.depths": (1, 1, 1, 1),
        "backbone.widths": (8, 8, 10, 16),
        "backbone.reductions": (4, 2, 1, 1),
        "features": 8,
    },
    overfit=Overfit(),
)(partial(_segformer, "b0"))

segformer_b1 = _register(name="segformer_b1", summary="SegFormer-B1.", params=13_715_798)(partial(_segformer, "b1"))

segformer_b2 = _register(name="segformer_b2", summary="SegFormer-B2.", params=27_461_974)(
    partial(_segformer, "b2", features=768)
)

segformer_b3 = _register(name="segformer_b3", summary="SegFormer-B3.", params=47_337_814)(
    partial(_segformer, "b3", features=768)
)

segformer_b4 = _register(name="segformer_b4", summary="SegFormer-B4.", params=64_108_374)(
    partial(_segformer, "b4", features=768)
)

segformer_b5 = _register(name="segformer_b5", summary="SegFormer-B5: the largest.", params=84_708_694)(
    partial(_segformer, "b5", features=768)
)
