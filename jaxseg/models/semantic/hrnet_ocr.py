"""OCR: object-contextual representations for semantic segmentation (Yuan et al. 2020, arXiv:1909.11065), on HRNet.

An auxiliary head scores every pixel; the softmax of a class over all pixels says how much each belongs to its region,
and the weighted mean of the pixels represents it. Every pixel then gathers the representations of the regions that are
like it, by attention, and is classified from those and from itself (Figure 3). The auxiliary head is trained too.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import hrnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class HRNetOCR(nn.Module):
    """Backbone, auxiliary head and head.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("hrnet_ocr_w18"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ``backbone(image, train=...)`` with maps ``"c2" .. "c5"``, whose resized concatenation is the feature.
      num_classes: channels of the logits.
      features: channels of the pixels' and of the regions' representations.
      key_features: channels in which they are compared.
      dropout: rate of whole channels before the classifier.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 19
    features: int = 512
    key_features: int = 256
    dropout: float = 0.05
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, with ``train=True`` also ``"aux_logits"``."""
        maps = self.backbone(image, train=train)
        size = (maps["c2"].shape[1], maps["c2"].shape[2])
        x = jnp.concatenate([resize_bilinear(maps[f"c{k}"], size, align_corners=True) for k in (2, 3, 4, 5)], axis=-1)
        aux = ConvNorm(x.shape[-1], 1, use_bias=True, dtype=self.dtype, name="aux_head")(x, train=train)
        aux = Conv(self.num_classes, 1, dtype=self.dtype, name="aux_classifier")(jax.nn.relu(aux))
        x = jax.nn.relu(ConvNorm(self.features, use_bias=True, dtype=self.dtype, name="pixels")(x, train=train))
        attention = RegionAttention(self.key_features, dtype=self.dtype, name="attention")
        context = attention(x, regions(x, aux), train=train)
        fuse = ConvNorm(self.features, 1, dtype=self.dtype, name="fuse")
        x = jax.nn.relu(fuse(jnp.concatenate([context, x], axis=-1), train=train))
        x = Dropout(self.dropout, spatial=True, name="dropout")(x, train=train)
        outputs = {"logits": Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)}
        if train:
            outputs["aux_logits"] = aux
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size, align_corners=True).astype(jnp.float32) for key, x in outputs.items()}


def regions(x: Map, scores: Map) -> Map:
    """Return the representation of every class: the mean of the pixels, weighted by its softmax over them (equation 7).

    >>> x = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    >>> regions(x, jnp.zeros((1, 1, 2, 4))).ravel().tolist()
    [2.0, 2.0, 2.0, 2.0]

    Args:
      x: pixels, [b y x c].
      scores: of the classes, [b y x k].

    Returns:
      One row of ``k`` cells, [b 1 k c].
    """
    weight = jax.nn.softmax(scores.astype(jnp.float32), axis=(1, 2)).astype(x.dtype)
    return jnp.einsum("byxk,byxc->bkc", weight, x)[:, None]


class RegionAttention(nn.Module):
    """Every pixel gathers from the regions (equations 8 and 9): two-layer queries and keys, one-layer values.

    >>> block, x, objects = RegionAttention(4), jnp.ones((1, 8, 8, 6)), jnp.ones((1, 1, 3, 6))
    >>> jax.eval_shape(lambda k: block.init_with_output(k, x, objects, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 6)
    """

    features: int
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, objects: Map, *, train: bool) -> Map:
        """Return the context of every pixel, with as many channels."""

        def step(name: str, x: Map, features: int) -> Map:
            return jax.nn.relu(ConvNorm(features, 1, dtype=self.dtype, name=name)(x, train=train))

        query = step("query2", step("query1", x, self.features), self.features)
        key = step("key2", step("key1", objects, self.features), self.features)[:, 0]
        value = step("value", objects, self.features)[:, 0]
        alike = jnp.einsum("byxc,bkc->byxk", query, key).astype(jnp.float32) * self.features**-0.5
        context = jnp.einsum("byxk,bkc->byxc", jax.nn.softmax(alike, axis=-1).astype(self.dtype), value)
        return step("out", context, x.shape[-1])


_ROOT = r"(?:module\.)?(?:model\.)?"
_BLOCK = _ROOT + r"ocr_distri_head\.object_context_block\."

OFFICIAL_NAMES: Rules = (
    *((_ROOT + name, path and f"backbone/{path}") for name, path in hrnet.BRANCH_NAMES),
    *torch_names(_ROOT + r"aux_head", "aux_head"),
    *torch_names(_ROOT + r"conv3x3_ocr", "pixels"),
    *(
        rule
        for source, path in (("f_pixel", "query"), ("f_object", "key"))
        for i, (conv, norm) in enumerate((("0", r"1\.0"), ("2", r"3\.0")), 1)
        for rule in torch_names(_BLOCK + source, f"attention/{path}{i}", conv=conv, norm=norm)
    ),
    *torch_names(_BLOCK + "f_down", "attention/value", norm=r"1\.0"),
    *torch_names(_BLOCK + "f_up", "attention/out", norm=r"1\.0"),
    *torch_names(_ROOT + r"ocr_distri_head\.conv_bn_dropout", "fuse", norm=r"1\.0"),
    *(
        (rf"{_ROOT}{source}\.{theirs}", f"{path}/{ours}")
        for source, path in ((r"aux_head\.3", "aux_classifier"), ("cls_head", "classifier"))
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
)
"""Rules from the authors' files (github.com/HRNet/HRNet-Semantic-Segmentation, branch HRNet-OCR)."""


def _hrnet_ocr(
    width: int,
    num_classes: int = 19,
    features: int = 512,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> HRNetOCR:
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = hrnet.hrnet(width, align_corners=True, **options)
    return HRNetOCR(backbone=backbone, num_classes=num_classes, features=features, dtype=dtype)


_register = partial(register, task="semantic", paper="arXiv:1909.11065", names={"hrnet": OFFICIAL_NAMES})

hrnet_ocr_w18 = _register(
    name="hrnet_ocr_w18",
    summary="HRNet-W18 with object-contextual representations.",
    small={
        "backbone.width": 4,
        "backbone.modules": (1, 1, 1),
        "backbone.blocks": 1,
        "features": 16,
        "key_features": 8,
    },
    overfit=Overfit(),
)(partial(_hrnet_ocr, 18))

hrnet_ocr_w32 = _register(name="hrnet_ocr_w32", summary="HRNet-W32 with object-contextual representations.")(
    partial(_hrnet_ocr, 32)
)

hrnet_ocr_w48 = _register(name="hrnet_ocr_w48", summary="HRNet-W48 with object-contextual representations.")(
    partial(_hrnet_ocr, 48)
)
