"""mmsegmentation's own FCN, PSPNet, DeepLab v3 and SegFormer, into which its checkpoints go whole.

They are not the papers' networks. The ResNets have a stem of three convolutions (``ResNetV1c``); FCN's head has two
convolutions and sees their input again; DeepLab's pyramid of 512 channels is joined by a 3x3 convolution; SegFormer's
head normalises and rectifies each level, finest first. All of them end in :class:`Segmentor`.

Reference: mmsegmentation 1.2.2, ``mmseg/models`` (github.com/open-mmlab/mmsegmentation, Apache-2.0).
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mit, resnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic.pspnet import PyramidPooling
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class Segmentor(nn.Module):
    """A backbone, a head, and a classifier of one layer; in training an auxiliary head of one convolution on ``c4``.

    >>> model = on_resnet(50, DeepFCNHead(8), num_classes=3, width=4, aux=4)
    >>> image = jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ``backbone(image, train=...)`` with maps ``"c2" .. "c5"``.
      head: ``head(maps, train=...)``, a map.
      num_classes: channels of the logits.
      aux: channels of the auxiliary head, 0 for none.
      dropout: rate of whole channels before each classifier.
      dtype: compute dtype.
    """

    backbone: nn.Module
    head: nn.Module
    num_classes: int = 19
    aux: int = 256
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size; sides below 32 are padded to that inside.

        With ``train=True`` also ``"aux_logits"``, where there is such a head.
        """
        h, w = image.shape[1:3]
        padded = pad_to_multiple(image, 1, least=32)
        maps = self.backbone(padded, train=train)
        outputs = {"logits": self._classified("classifier", self.head(maps, train=train), train=train)}
        if self.aux and (train or self.is_initializing()):
            x = Step(self.aux, 3, dtype=self.dtype, name="aux_conv")(maps["c4"], train=train)
            outputs["aux_logits"] = self._classified("aux_classifier", x, train=train)
        size = (padded.shape[1], padded.shape[2])
        return {key: resize_bilinear(x, size)[:, :h, :w].astype(jnp.float32) for key, x in outputs.items()}

    def _classified(self, name: str, x: Map, *, train: bool) -> Map:
        x = Dropout(self.dropout, spatial=True, name=f"{name}_dropout")(x, train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name=name)(x)


class DeepFCNHead(nn.Module):
    """Two 3x3 convolutions on ``c5``, and a third that sees what entered the first beside their result.

    >>> head, maps = DeepFCNHead(8), {"c5": jnp.ones((1, 8, 8, 16))}
    >>> jax.eval_shape(lambda key: head.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    features: int = 512
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        x = y = maps["c5"]
        for i in range(2):
            y = Step(self.features, 3, dtype=self.dtype, name=f"conv{i}")(y, train=train)
        return Step(self.features, 3, dtype=self.dtype, name="join")(jnp.concatenate([x, y], -1), train=train)


class PSPHead(nn.Module):
    """Pyramid pooling on ``c5`` without aligned corners, and a 3x3 convolution.

    >>> head, maps = PSPHead(8), {"c5": jnp.ones((1, 8, 8, 16))}
    >>> jax.eval_shape(lambda key: head.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    features: int = 512
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        x = maps["c5"]
        pyramid = PyramidPooling(self.features, dtype=self.dtype, name="pyramid")(x, train=train)
        return Step(self.features, 3, dtype=self.dtype, name="join")(jnp.concatenate([x, *pyramid], -1), train=train)


class ASPPHead(nn.Module):
    """The mean of ``c5``, a 1x1 convolution and three dilated ones side by side, joined by a 3x3 convolution.

    >>> head, maps = ASPPHead(8), {"c5": jnp.ones((1, 8, 8, 16))}
    >>> jax.eval_shape(lambda key: head.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    features: int = 512
    rates: tuple[int, ...] = (12, 24, 36)
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        x = maps["c5"]
        mean = Step(self.features, 1, dtype=self.dtype, name="pool")(jnp.mean(x, (1, 2), keepdims=True), train=train)
        branches = [Step(self.features, 1, dtype=self.dtype, name="branch0")(x, train=train)]
        for i, rate in enumerate(self.rates, 1):
            branches.append(Step(self.features, 3, rate, self.dtype, name=f"branch{i}")(x, train=train))
        mean = jnp.broadcast_to(mean, branches[0].shape)
        return Step(self.features, 3, dtype=self.dtype, name="join")(
            jnp.concatenate([mean, *branches], -1), train=train
        )


class NormedMLPHead(nn.Module):
    """Each map to the same channels, normalised and rectified, enlarged to the finest, and joined.

    >>> head, maps = NormedMLPHead(8), {f"c{k}": jnp.ones((1, 64 >> k, 64 >> k, 16)) for k in (2, 3, 4, 5)}
    >>> jax.eval_shape(lambda key: head.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 8)
    """

    features: int = 256
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Return a map of ``features`` channels at stride 4."""
        size, levels = (maps["c2"].shape[1], maps["c2"].shape[2]), []
        for k in (2, 3, 4, 5):
            x = Step(self.features, 1, dtype=self.dtype, name=f"level{k}")(maps[f"c{k}"], train=train)
            levels.append(resize_bilinear(x, size))
        return Step(self.features, 1, dtype=self.dtype, name="join")(jnp.concatenate(levels, -1), train=train)


class Step(nn.Module):
    """Convolution, normalisation, ReLU.

    >>> block, x = Step(8, 3), jnp.ones((1, 8, 8, 4))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 8)
    """

    features: int
    kernel_size: int
    dilation: int = 1
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return a map of ``features`` channels."""
        both = ConvNorm(self.features, self.kernel_size, dilation=self.dilation, dtype=self.dtype, name="step")
        return jax.nn.relu(both(x, train=train))


def on_resnet(
    layers: int,
    head: nn.Module | None = None,
    num_classes: int = 19,
    *,
    width: int = 64,
    aux: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Segmentor:
    """Return a head on ``ResNetV1c`` of output stride 8, as the configurations ``*_r50-d8`` have it.

    >>> on_resnet(50).backbone.stem
    '3x3x3 half'
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = resnet.resnet(layers, width=width, stem="3x3x3 half", output_stride=8, **options)
    head = DeepFCNHead() if head is None else head
    return Segmentor(backbone, head.clone(dtype=dtype), num_classes, aux, dtype=dtype)


def on_mit(
    variant: str,
    num_classes: int = 150,
    *,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> Segmentor:
    """Return SegFormer's head on a mix transformer whose normalisations all have an epsilon of 1e-6.

    >>> on_mit("b0").backbone.patch_epsilon
    1e-06
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = mit.mit(variant, **options).clone(patch_epsilon=1e-6)
    return Segmentor(backbone, NormedMLPHead(features, dtype=dtype), num_classes, 0, dtype=dtype)


def _names(backbone: Rules, steps: tuple[tuple[str, str], ...]) -> Rules:
    """Return rename rules of a backbone, of pairs of a convolution and a normalisation, and of the classifiers."""
    return (
        *((rf"backbone\.{name}", path and f"backbone/{path}") for name, path in backbone),
        *(rule for source, path in steps for rule in torch_names(source, path, conv="conv", norm="bn")),
        *torch_names(r"auxiliary_head\.convs\.0", "aux_conv/step", conv="conv", norm="bn"),
        *(
            (rf"{head}\.conv_seg\.{source}", f"{path}/{leaf}")
            for head, path in (("decode_head", "classifier"), ("auxiliary_head", "aux_classifier"))
            for source, leaf in (("weight", "kernel"), ("bias", "bias"))
        ),
        (r".*\.num_batches_tracked", None),
    )


_STEM: Rules = tuple(
    rule
    for i in (1, 2, 3)
    for rule in (
        (rf"stem\.{3 * i - 3}\.weight", f"conv{i}/kernel"),
        (rf"stem\.{3 * i - 2}\.weight", f"norm{i}/scale"),
        (rf"stem\.{3 * i - 2}\.bias", f"norm{i}/bias"),
        (rf"stem\.{3 * i - 2}\.running_(mean|var)", rf"norm{i}/\1"),
    )
)
_RESNET: Rules = (*_STEM, *((name, path) for name, path in resnet.TORCHVISION_NAMES if name.startswith("layer")))

FCN_NAMES: Rules = _names(
    _RESNET,
    ((r"decode_head\.convs\.(\d)", r"head/conv\1/step"), (r"decode_head\.conv_cat", "head/join/step")),
)
"""Rules from mmsegmentation's ``FCNHead`` on ``ResNetV1c``."""

PSP_NAMES: Rules = _names(
    _RESNET,
    (
        *((rf"decode_head\.psp_modules\.{i}\.1", f"head/pyramid/grid{side}") for i, side in enumerate((1, 2, 3, 6))),
        (r"decode_head\.bottleneck", "head/join/step"),
    ),
)
"""Rules from its ``PSPHead`` on ``ResNetV1c``."""

ASPP_NAMES: Rules = _names(
    _RESNET,
    (
        (r"decode_head\.image_pool\.1", "head/pool/step"),
        (r"decode_head\.aspp_modules\.(\d)", r"head/branch\1/step"),
        (r"decode_head\.bottleneck", "head/join/step"),
    ),
)
"""Rules from its ``ASPPHead`` on ``ResNetV1c``."""

MLP_NAMES: Rules = _names(
    mit.MMSEG_NAMES,
    (
        *((rf"decode_head\.convs\.{k - 2}", f"head/level{k}/step") for k in (2, 3, 4, 5)),
        (r"decode_head\.fusion_conv", "head/join/step"),
    ),
)
"""Rules from its ``SegformerHead`` on ``MixVisionTransformer``."""


_NETWORKS = {
    "fcn": ("FCN", "arXiv:1411.4038", DeepFCNHead(), FCN_NAMES),
    "pspnet": ("PSPNet", "arXiv:1612.01105", PSPHead(), PSP_NAMES),
    "deeplabv3": ("DeepLab v3", "arXiv:1706.05587", ASPPHead(), ASPP_NAMES),
}

_TINY: dict[str, Any] = {"width": 8, "aux": 8, "backbone.depths": (1, 1, 1, 1), "backbone.bottleneck": False}

for _name, (_title, _paper, _head, _rules) in _NETWORKS.items():
    for _layers in (50, 101):
        register(
            task="semantic",
            paper=_paper,
            name=f"{_name}_resnet{_layers}_mmseg",
            summary=f"{_title} as mmsegmentation has it, on its ResNet-{_layers} of three stem convolutions.",
            names={"mmseg": _rules},
            overfit=Overfit(fields={**_TINY, "head.features": 8}) if (_name, _layers) == ("fcn", 50) else None,
        )(partial(on_resnet, _layers, _head))

for _variant in mit.VARIANTS:
    register(
        task="semantic",
        paper="arXiv:2105.15203",
        name=f"segformer_{_variant}_mmseg",
        summary=f"SegFormer-{_variant.upper()} as mmsegmentation has it, with another head.",
        names={"mmseg": MLP_NAMES},
    )(partial(on_mit, _variant))
