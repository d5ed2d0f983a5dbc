"""UPerNet: unified perceptual parsing for scene understanding (Xiao et al. 2018, arXiv:1807.10221), its scene head.

Pyramid pooling on ``c5``, a feature pyramid down to ``c2`` with bilinear enlargement, one 3x3 convolution per level,
all levels resized to ``c2``, concatenated and fused (Figure 4). ``UPerNet`` adds the auxiliary head on ``c4`` that
mmsegmentation and transformers train it with; ``UPerNetDecoder`` is the rest, over any backbone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.norm import make_norm
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic.pspnet import PyramidPooling
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class UPerNet(nn.Module):
    """Backbone, decoder, classifier and auxiliary head; logits are resized without aligning corners.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("upernet_resnet50"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      features: channels of the decoder.
      aux_features: channels of the auxiliary head.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 150
    features: int = 512
    aux_features: int = 256
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, with ``train=True`` also ``"aux_logits"``."""
        maps = self.backbone(image, train=train)
        x = UPerNetDecoder(self.features, dtype=self.dtype, name="decoder")(maps, train=train)
        outputs = {"logits": Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)}
        if train or self.is_initializing():
            aux = ConvNorm(self.aux_features, dtype=self.dtype, name="aux_head")(maps["c4"], train=train)
            classifier = Conv(self.num_classes, 1, dtype=self.dtype, name="aux_classifier")
            outputs["aux_logits"] = classifier(jax.nn.relu(aux))
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size).astype(jnp.float32) for key, x in outputs.items()}


class UPerNetDecoder(nn.Module):
    """Pyramid pooling, feature pyramid, fusion.

    >>> decoder, maps = UPerNetDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 16, 16, 512)

    Attributes:
      features: channels of all its maps.
      map_norm: of the backbone's maps before they enter: "none", or "pixel" as in segmentation-models-pytorch.
      dtype: compute dtype.
    """

    features: int = 512
    map_norm: str = "none"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c2".."c5"}`` to a map at the resolution of ``c2``."""
        norm = make_norm(self.map_norm)
        last = last_level(maps)
        maps = {
            f"c{k}": norm(dtype=self.dtype, name=f"norm{k}")(maps[f"c{k}"], train=train) for k in range(2, last + 1)
        }
        top = maps[f"c{last}"]
        pooled = PyramidPooling(self.features, dtype=self.dtype, name="pyramid")(top, train=train)
        x = self._step("pyramid_fuse", jnp.concatenate([top, *pooled], axis=-1), 3, train=train)
        levels = [x]
        for k in range(last - 1, 1, -1):
            lateral = self._step(f"lateral{k}", maps[f"c{k}"], 1, train=train)
            x = lateral + resize_bilinear(x, (lateral.shape[1], lateral.shape[2]))
            levels.append(self._step(f"level{k}", x, 3, train=train))
        size = (x.shape[1], x.shape[2])
        levels = [resize_bilinear(level, size) for level in reversed(levels)]
        return self._step("fuse", jnp.concatenate(levels, axis=-1), 3, train=train)

    def _step(self, name: str, x: Map, size: int, *, train: bool) -> Map:
        return jax.nn.relu(ConvNorm(self.features, size, dtype=self.dtype, name=name)(x, train=train))


def _mmseg_names(backbone: Rules, norm: str, classifier: str) -> Rules:
    """Name the modules as mmsegmentation does, from which transformers took the names over but for two words."""
    return (
        (r".*\.num_batches_tracked", None),
        *((rf"backbone\.{name}", path and f"backbone/{path}") for name, path in backbone),
        *(
            rule
            for source, path in (
                *(
                    (rf"decode_head\.psp_modules\.{i}\.1", f"decoder/pyramid/grid{n}")
                    for i, n in enumerate((1, 2, 3, 6))
                ),
                (r"decode_head\.bottleneck", "decoder/pyramid_fuse"),
                *((rf"decode_head\.lateral_convs\.{k - 2}", f"decoder/lateral{k}") for k in (2, 3, 4)),
                *((rf"decode_head\.fpn_convs\.{k - 2}", f"decoder/level{k}") for k in (2, 3, 4)),
                (r"decode_head\.fpn_bottleneck", "decoder/fuse"),
                (r"auxiliary_head\.convs\.0", "aux_head"),
            )
            for rule in torch_names(source, path, conv="conv", norm=norm)
        ),
        *(
            (rf"{head}\.{classifier}\.{source}", f"{path}/{leaf}")
            for head, path in (("decode_head", "classifier"), ("auxiliary_head", "aux_classifier"))
            for source, leaf in (("weight", "kernel"), ("bias", "bias"))
        ),
    )


TRANSFORMERS_NAMES: Rules = _mmseg_names(resnet.TRANSFORMERS_NAMES, "batch_norm", "classifier")
"""Rules from ``UperNetForSemanticSegmentation`` of transformers on its ResNet to the paths of :class:`UPerNet`."""

MMSEG_NAMES: Rules = _mmseg_names(resnet.TORCHVISION_NAMES, "bn", "conv_seg")
"""Rules from mmsegmentation's UPerNet on its plain ``ResNet``; ``ResNetV1c`` has another stem."""


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_channels: int = 256,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put segmentation-models-pytorch's decoder on a backbone, with its options.

    >>> on_backbone(resnet.resnet(18), decoder_channels=64).decoder.features
    64

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      decoder_channels: of all maps of the decoder.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return EncoderDecoder(
        backbone=backbone,
        decoder=UPerNetDecoder(decoder_channels, map_norm="pixel", dtype=dtype),
        num_classes=num_classes,
        kernel_size=1,
        multiple=2 ** depth_of(encoder_depth, least=3),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


def smp_names_of(encoder_depth: int) -> Rules:
    """Return the rules from ``UPerNet`` of segmentation-models-pytorch on a ResNet; it numbers levels from the last.

    >>> smp_names_of(5) == SMP_NAMES
    True
    """
    levels = {k: encoder_depth - 1 - k for k in range(2, encoder_depth)}
    parts = (
        *((rf"psp\.blocks\.{i}\.1", f"pyramid/grid{n}") for i, n in enumerate((1, 2, 3, 6))),
        (r"psp\.out_conv", "pyramid_fuse"),
        *((rf"fpn_lateral_blocks\.{i}\.conv_norm_relu", f"lateral{k}") for k, i in levels.items()),
        *((rf"fpn_conv_blocks\.{i}", f"level{k}") for k, i in levels.items()),
        ("fusion_block", "fuse"),
    )
    norms = tuple(
        (rf"decoder\.feature_norms\.{k - 2}\.{source}", f"decoder/norm{k}/{leaf}")
        for k in (*levels, encoder_depth)
        for source, leaf in (("weight", "scale"), ("bias", "bias"))
    )
    steps = tuple(rule for source, path in parts for rule in torch_names(rf"decoder\.{source}", f"decoder/{path}"))
    return smp_names(resnet.TORCHVISION_NAMES, (*norms, *steps))


SMP_NAMES: Rules = smp_names_of(5)
"""Rules from ``UPerNet`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1807.10221",
    params=66_496_876,
    names={"transformers": TRANSFORMERS_NAMES, "mmseg": MMSEG_NAMES},
    small={"width": 8, "backbone.depths": (1, 1, 1, 1), "backbone.bottleneck": False, "features": 8, "aux_features": 8},
    overfit=Overfit(),
)
def upernet_resnet50(
    num_classes: int = 150,
    width: int = 64,
    features: int = 512,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UPerNet:
    """UPerNet on a ResNet-50, 512 channels, auxiliary head included."""
    backbone = resnet.resnet(
        50,
        width=width,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return UPerNet(backbone=backbone, num_classes=num_classes, features=features, dtype=dtype)


@register(
    task="semantic",
    paper="arXiv:1807.10221",
    params=85_489_004,
    names={"transformers": TRANSFORMERS_NAMES, "mmseg": MMSEG_NAMES},
)
def upernet_resnet101(
    num_classes: int = 150,
    width: int = 64,
    features: int = 512,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UPerNet:
    """UPerNet on a ResNet-101, 512 channels, auxiliary head included."""
    backbone = resnet.resnet(
        101,
        width=width,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return UPerNet(backbone=backbone, num_classes=num_classes, features=features, dtype=dtype)


@register(task="semantic", paper="arXiv:1807.10221", params=37_289_813, names={"smp": SMP_NAMES})
def upernet_resnet50_smp(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """UPerNet of segmentation-models-pytorch on a ResNet-50: 256 channels, the backbone's maps normalised."""
    backbone = resnet.resnet(50, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)
