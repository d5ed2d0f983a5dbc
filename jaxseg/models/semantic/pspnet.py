"""PSPNet: pyramid scene parsing network (Zhao et al. 2017, arXiv:1612.01105).

A ResNet of output stride 8 with a stem of three 3x3 convolutions; ``c5`` averaged over 1, 4, 9 and 36 regions, each
reduced by a 1x1 convolution, enlarged again and put beside ``c5``; an auxiliary head on ``c4`` (section 3.2, Figure 3).
Geometry and names follow the authors' PyTorch code (hszhao/semseg): bilinear resizing aligns corners, and the first
block of a dilated stage has the stage's own dilation.

``PSPDecoder`` is that of segmentation-models-pytorch, which sits on ``c3`` and normalises nothing in its global branch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.conv import Conv
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, smp_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pool import adaptive_avg_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class PSPNet(nn.Module):
    """The paper's network.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("pspnet_resnet50"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: of output stride 8.
      num_classes: channels of the logits.
      features: channels before the classifier; the auxiliary head has half as many.
      sizes: sides of the grids of regions.
      dropout: rate of whole channels before each classifier.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 150
    features: int = 512
    sizes: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = 0.1
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size, with ``train=True`` also ``"aux_logits"``."""
        maps = self.backbone(image, train=train)
        x = maps["c5"]
        pyramid = PyramidPooling(x.shape[-1] // len(self.sizes), self.sizes, True, dtype=self.dtype, name="pyramid")
        x = jnp.concatenate([x, *pyramid(x, train=train)], axis=-1)
        outputs = {"logits": self._head("head", x, self.features, train=train)}
        if train or self.is_initializing():
            outputs["aux_logits"] = self._head("aux_head", maps["c4"], self.features // 2, train=train)
        size = (image.shape[1], image.shape[2])
        return {key: resize_bilinear(x, size, align_corners=True).astype(jnp.float32) for key, x in outputs.items()}

    def _head(self, name: str, x: Map, channels: int, *, train: bool) -> Map:
        x = jax.nn.relu(ConvNorm(channels, dtype=self.dtype, name=name)(x, train=train))
        x = Dropout(self.dropout, spatial=True, name=f"{name}_dropout")(x, train=train)
        return Conv(self.num_classes, 1, dtype=self.dtype, name=f"{name}_classifier")(x)


class PyramidPooling(nn.Module):
    """Means over grids of regions, 1x1, normalisation, ReLU, and bilinear enlargement to the map again.

    >>> block, x = PyramidPooling(8), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0))[0].shape
    (1, 16, 16, 8)

    Attributes:
      features: channels of each result.
      sizes: sides of the grids.
      align_corners: of the enlargement.
      norms: of each grid; a branch with "none" has a bias.
      dtype: compute dtype.
    """

    features: int
    sizes: tuple[int, ...] = (1, 2, 3, 6)
    align_corners: bool = False
    norms: tuple[str, ...] = ("batch",) * 4
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> list[Map]:
        """Return a map of the size of ``x`` for every grid."""
        maps, size = [], (x.shape[1], x.shape[2])
        for side, norm in zip(self.sizes, self.norms, strict=True):
            reduce = ConvNorm(
                self.features, 1, use_bias=norm == "none", norm=norm, dtype=self.dtype, name=f"grid{side}"
            )
            y = jax.nn.relu(reduce(adaptive_avg_pool(x, side), train=train))
            maps.append(resize_bilinear(y, size, align_corners=self.align_corners))
        return maps


class PSPDecoder(nn.Module):
    """segmentation-models-pytorch's: pyramid pooling on one map of the backbone and a 1x1 convolution.

    >>> decoder, maps = PSPDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 8, 8, 512)

    Attributes:
      level: the map: ``c3``, or ``c5`` of a dilated backbone.
      features: channels of the result.
      dropout: rate of whole channels at the end.
      dtype: compute dtype.
    """

    level: int = 3
    features: int = 512
    dropout: float = 0.2
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Return a map at the resolution of the level."""
        x = maps[f"c{self.level}"]
        norms = ("none", "batch", "batch", "batch")
        pyramid = PyramidPooling(x.shape[-1] // 4, align_corners=True, norms=norms, dtype=self.dtype, name="pyramid")
        x = jnp.concatenate([*pyramid(x, train=train), x], axis=-1)
        x = jax.nn.relu(ConvNorm(self.features, 1, dtype=self.dtype, name="fuse")(x, train=train))
        return Dropout(self.dropout, spatial=True, name="dropout")(x, train=train)


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 3,
    psp_out_channels: int = 512,
    psp_dropout: float = 0.2,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put segmentation-models-pytorch's decoder on a backbone, with its options.

    >>> on_backbone(resnet.resnet(18), encoder_depth=4).decoder.level
    4

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: the map that is pooled, counted from 1.
      psp_out_channels: of the decoder.
      psp_dropout: rate of whole channels before the classifier.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return EncoderDecoder(
        backbone=backbone,
        decoder=PSPDecoder(encoder_depth, psp_out_channels, psp_dropout, dtype=dtype),
        num_classes=num_classes,
        multiple=2 ** depth_of(encoder_depth, least=2),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


def _grids(source: str, path: str, conv: str, norm: str) -> Rules:
    """Return rename rules for the four branches, which the references number from 0."""
    sides = enumerate((1, 2, 3, 6))
    return tuple(
        rule for i, side in sides for rule in torch_names(source.format(i), f"{path}/grid{side}", conv=conv, norm=norm)
    )


SEMSEG_NAMES: Rules = (
    (r".*\.num_batches_tracked", None),
    *(
        rule
        for i in (1, 2, 3)
        for rule in (
            (rf"layer0\.{3 * i - 3}\.weight", f"backbone/conv{i}/kernel"),
            (rf"layer0\.{3 * i - 2}\.weight", f"backbone/norm{i}/scale"),
            (rf"layer0\.{3 * i - 2}\.bias", f"backbone/norm{i}/bias"),
            (rf"layer0\.{3 * i - 2}\.running_(mean|var)", rf"backbone/norm{i}/\1"),
        )
    ),
    *((name, path and f"backbone/{path}") for name, path in resnet.TORCHVISION_NAMES if name.startswith("layer")),
    *_grids(r"ppm\.features\.{}", "pyramid", "1", "2"),
    *torch_names("cls", "head"),
    *torch_names("aux", "aux_head"),
    *(
        (rf"{source}\.4\.{theirs}", f"{path}_classifier/{ours}")
        for source, path in (("cls", "head"), ("aux", "aux_head"))
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
)
"""Rules from the authors' PyTorch code (hszhao/semseg) to the paths of :class:`PSPNet`."""

SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        *_grids(r"decoder\.psp\.blocks\.{}\.pool\.1", "decoder/pyramid", "0", "1"),
        *torch_names(r"decoder\.conv", "decoder/fuse"),
    ),
)
"""Rules from ``PSPNet`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1612.01105",
    rounded="49.2 M",
    names={"semseg": SEMSEG_NAMES},
    small={
        "width": 8,
        "backbone.depths": (1, 1, 1, 1),
        "backbone.bottleneck": False,
        "backbone.multi_grid": (1,),
        "features": 8,
    },
    overfit=Overfit(),
)
def pspnet_resnet50(
    num_classes: int = 150,
    width: int = 64,
    features: int = 512,
    dropout: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> PSPNet:
    """PSPNet on a ResNet-50 of output stride 8 with a stem of three convolutions, auxiliary head included."""
    return _dilated(50, num_classes, width, features, dropout, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1612.01105", names={"semseg": SEMSEG_NAMES})
def pspnet_resnet101(
    num_classes: int = 150,
    width: int = 64,
    features: int = 512,
    dropout: float = 0.1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> PSPNet:
    """PSPNet on a ResNet-101 of output stride 8 with a stem of three convolutions, auxiliary head included."""
    return _dilated(101, num_classes, width, features, dropout, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1612.01105", params=21_530_165, names={"smp": SMP_NAMES})
def pspnet_resnet34_smp(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 3,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """The light PSPNet of segmentation-models-pytorch: pyramid pooling on the second stage of a ResNet-34."""
    backbone = resnet.resnet(
        34,
        width=width,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)


def _dilated(
    layers: int,
    num_classes: int,
    width: int,
    features: int,
    dropout: float,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> PSPNet:
    backbone = resnet.resnet(
        layers,
        width=width,
        stem="3x3x3",
        output_stride=8,
        multi_grid=(1, 1, 1),
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return PSPNet(backbone=backbone, num_classes=num_classes, features=features, dropout=dropout, dtype=dtype)
