"""LinkNet: exploiting encoder representations for efficient semantic segmentation (Chaurasia, Culurciello 2017,
arXiv:1707.03718).

A ResNet and four decoder blocks: 1x1 to a quarter of the channels, a transposed convolution that doubles the map, 1x1
to the channels of the encoder's map of that resolution, and the sum with that map (Figures 1 and 2).

``LinkNet`` is the paper's network on a ResNet-18. ``LinkNetDecoder`` is that of segmentation-models-pytorch, over any
backbone: 4x4 transposed convolutions, a fifth block, and the skip of the stem in between.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.conv import ConvTranspose
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, depth_of, last_level, smp_names
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.pad import pad_to_multiple
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class LinkNet(nn.Module):
    """The paper's network (Figure 1): four blocks, then a head that brings 1/4 to full size.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("linknet"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: ResNet.
      num_classes: channels of the logits.
      features: channels of the head.
      dtype: compute dtype.
    """

    backbone: nn.Module
    num_classes: int = 21
    features: int = 32
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        h, w = image.shape[1:3]
        maps = self.backbone(pad_to_multiple(image, 32), train=train)
        x = maps["c5"]
        for k in (4, 3, 2):
            channels = maps[f"c{k}"].shape[-1]
            x = DecoderBlock(channels, 3, dtype=self.dtype, name=f"block{k}")(x, train=train) + maps[f"c{k}"]
        x = DecoderBlock(x.shape[-1], 3, stride=1, dtype=self.dtype, name="block1")(x, train=train)
        x = UpNorm(self.features, 3, dtype=self.dtype, name="head_up")(x, train=train)
        x = jax.nn.relu(ConvNorm(self.features, dtype=self.dtype, name="head_conv")(jax.nn.relu(x), train=train))
        x = ConvTranspose(self.num_classes, 2, stride=2, dtype=self.dtype, name="classifier")(x)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}


class LinkNetDecoder(nn.Module):
    """segmentation-models-pytorch's decoder: five blocks, the first four with a sum.

    >>> decoder, maps = LinkNetDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 64, 64, 32)

    Attributes:
      features: channels after the last block.
      dtype: compute dtype.
    """

    features: int = 32
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}`` at strides 2 to 32, or a transformer's ``c2`` on, to a map at the image's resolution."""
        last = last_level(maps)
        x = maps[f"c{last}"]
        for i, k in enumerate(range(last - 1, 0, -1)):
            skip = maps.get(f"c{k}")
            channels = x.shape[-1] if skip is None else skip.shape[-1]
            x = DecoderBlock(channels, 4, use_bias=True, dtype=self.dtype, name=f"block{i}")(x, train=train)
            x = x if skip is None else x + skip
        block = DecoderBlock(self.features, 4, use_bias=True, dtype=self.dtype, name=f"block{last - 1}")
        return block(x, train=train)


class DecoderBlock(nn.Module):
    """Figure 2: 1x1, transposed convolution, 1x1, each with normalisation and ReLU.

    >>> block, x = DecoderBlock(features=8, kernel_size=3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 32, 32, 8)

    Attributes:
      features: channels of the result.
      kernel_size: of the transposed convolution.
      stride: factor of enlargement.
      use_bias: of the transposed convolution.
      dtype: compute dtype.
    """

    features: int
    kernel_size: int
    stride: int = 2
    use_bias: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the map enlarged by ``stride``."""
        inner = x.shape[-1] // 4
        x = jax.nn.relu(ConvNorm(inner, 1, dtype=self.dtype, name="reduce")(x, train=train))
        up = UpNorm(inner, self.kernel_size, self.stride, self.use_bias, dtype=self.dtype, name="up")
        x = jax.nn.relu(up(x, train=train))
        return jax.nn.relu(ConvNorm(self.features, 1, dtype=self.dtype, name="expand")(x, train=train))


class UpNorm(nn.Module):
    """A transposed convolution that multiplies the size by its stride, then a normalisation.

    >>> block, x = UpNorm(features=8, kernel_size=3), jnp.ones((1, 16, 16, 8))
    >>> jax.eval_shape(lambda key: block.init_with_output(key, x, train=False)[0], jax.random.key(0)).shape
    (1, 32, 32, 8)
    """

    features: int
    kernel_size: int
    stride: int = 2
    use_bias: bool = False
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Map:
        """Return the enlarged map."""
        conv = ConvTranspose(
            self.features,
            self.kernel_size,
            stride=self.stride,
            padding=1,
            output_padding=self.stride + 2 - self.kernel_size,
            use_bias=self.use_bias,
            dtype=self.dtype,
            name="conv",
        )
        return BatchNorm(dtype=self.dtype, name="norm")(conv(x), train=train)


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put segmentation-models-pytorch's decoder on a backbone, with its options.

    >>> on_backbone(resnet.resnet(18), encoder_depth=4).depth
    4

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: there is no such depth or head.
    """
    return EncoderDecoder(
        backbone=backbone,
        decoder=LinkNetDecoder(dtype=dtype),
        num_classes=num_classes,
        kernel_size=1,
        multiple=2 ** depth_of(encoder_depth, least=2),
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        *torch_names(r"decoder\.blocks\.(\d)\.block\.0", r"decoder/block\1/reduce"),
        *torch_names(r"decoder\.blocks\.(\d)\.block\.1", r"decoder/block\1/up", transposed=True),
        *torch_names(r"decoder\.blocks\.(\d)\.block\.2", r"decoder/block\1/expand"),
    ),
)
"""Rules from ``Linknet`` of segmentation-models-pytorch on a ResNet."""


@register(
    task="semantic",
    paper="arXiv:1707.03718",
    rounded="11.5 M",
    small={"width": 16, "backbone.depths": (1, 1, 1, 1), "backbone.bottleneck": False, "features": 8},
    overfit=Overfit(),
)
def linknet(
    num_classes: int = 21,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> LinkNet:
    """LinkNet as published: a ResNet-18, sums instead of concatenations, 11.5 M parameters."""
    backbone = resnet.resnet(
        18,
        width=width,
        in_channels=in_channels,
        standardize=standardize,
        dtype=dtype,
    )
    return LinkNet(backbone=backbone, num_classes=num_classes, dtype=dtype)


@register(task="semantic", paper="arXiv:1707.03718", params=11_664_437, names={"smp": SMP_NAMES})
def linknet_resnet18(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """LinkNet of segmentation-models-pytorch on a ResNet-18: five decoder blocks, 4x4 transposed convolutions."""
    return _smp(18, num_classes, width, encoder_depth, aux_params, in_channels, standardize, dtype)


@register(task="semantic", paper="arXiv:1707.03718", params=21_772_597, names={"smp": SMP_NAMES})
def linknet_resnet34(
    num_classes: int = 21,
    width: int = 64,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """LinkNet of segmentation-models-pytorch on a ResNet-34: five decoder blocks, 4x4 transposed convolutions."""
    return _smp(34, num_classes, width, encoder_depth, aux_params, in_channels, standardize, dtype)


def _smp(
    layers: int,
    num_classes: int,
    width: int,
    encoder_depth: int,
    aux_params: AuxParams,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> EncoderDecoder:
    backbone = resnet.resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)
