"""U-Net: convolutional networks for biomedical image segmentation (Ronneberger, Fischer, Brox 2015, arXiv:1505.04597).

A contracting path of two 3x3 convolutions and a 2x2 max-pool per level, an expanding path that doubles the map by a 2x2
transposed convolution, concatenates the encoder's map of that level and convolves twice, and a 1x1 classifier.

``UNetOriginal`` is the paper's Figure 1: valid convolutions, cropped skips, 23 convolutional layers, 572 -> 388 pixels.
``UNet`` is what the field made of it: same padding, so that any image gives scores of its own size, with a
normalisation after each convolution. ``UNetDecoder`` is the expanding path alone, over any backbone, as
segmentation-models-pytorch has it.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import resnet
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv, ConvTranspose
from jaxseg.layers.conv_norm import ConvNorm, torch_names
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder, ImageHead, last_level, smp_names, steps_of
from jaxseg.layers.norm import make_norm
from jaxseg.layers.scse import attend, scse_names
from jaxseg.layers.standardize import GREY, IMAGENET, Standardize, statistics
from jaxseg.ops.conv import pixel_shuffle, pixel_unshuffle
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class UNetOriginal(nn.Module):
    """The paper's network (section 2, Figure 1): no padding anywhere, He initialisation, no normalisation.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("unet_original"), jnp.zeros((1, 188, 188, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 4, 4, 3)

    Attributes:
      num_classes: channels of the logits.
      width: channels of the first level; they double at each of the four poolings.
      dropout: rate at the end of the contracting path, that is after the last two of its levels. The paper says
        "drop-out layers at the end of the contracting path" and no rate.
      in_channels: of the image.
      standardize: statistics of the input; one grey channel in the paper.
      dtype: compute dtype.
    """

    num_classes: int = 2
    width: int = 64
    dropout: float = 0.5
    in_channels: int = 3
    standardize: Standardize = GREY
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h-184 w-184 k]}`` for raw pixels: the scores of the image's central part.

        Raises:
          BadInput: a side is not ``16 m + 60`` with ``m >= 8``.
        """
        self.valid_size(*image.shape[1:3])
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        skips = []
        for level in range(4):
            x = _double_conv(self, f"encoder{level}", x, self.width << level)
            if level == 3:
                x = Dropout(self.dropout, name="encoder3_dropout")(x, train=train)
            skips.append(x)
            x = max_pool(x, 2)
        x = _double_conv(self, "bottom", x, self.width << 4)
        x = Dropout(self.dropout, name="bottom_dropout")(x, train=train)
        for level in reversed(range(4)):
            channels = self.width << level
            x = ConvTranspose(channels, 2, stride=2, dtype=self.dtype, name=f"decoder{level}_up")(x)
            x = jnp.concatenate([_centre(skips[level], x.shape[1], x.shape[2]), x], axis=-1)
            x = _double_conv(self, f"decoder{level}", x, channels)
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        return {"logits": x.astype(jnp.float32)}

    @staticmethod
    def valid_size(height: int, width: int) -> tuple[int, int]:
        """Size of the logits for an image of that size: 184 pixels less on each axis.

        Every pooled map must be even, which leaves ``16 m + 60`` (m is the map that enters the lowest level), and
        below ``m = 8`` nothing would come out.

        Raises:
          BadInput: the size does not fit; the nearest that do are named.
        """
        for name, size in (("height", height), ("width", width)):
            if size < 188 or (size - 60) % 16:
                below, above = (size - 60) // 16 * 16 + 60, -(-(size - 60) // 16) * 16 + 60
                fits = {max(below, 188), max(above, 188)}
                fits = {f for f in fits if abs(f - size) == min(abs(g - size) for g in fits)}
                raise BadInput(
                    f"{name} {size} does not fit U-Net's valid convolutions (16 m + 60, from 188); "
                    f"nearest: {' or '.join(str(f) for f in sorted(fits))}"
                )
        return height - 184, width - 184

    @staticmethod
    def input_size(height: int, width: int) -> tuple[int, int]:
        """Return the smallest valid image whose logits cover ``height`` x ``width`` pixels (the overlap-tile of
        Figure 2).
        """
        rows, columns = (max(-(-(size + 124) // 16), 8) * 16 + 60 for size in (height, width))
        return rows, columns


def _double_conv(net: UNetOriginal, name: str, x: Map, channels: int) -> Map:
    for i in (1, 2):
        x = jax.nn.relu(Conv(channels, 3, dtype=net.dtype, name=f"{name}_conv{i}", parent=net)(x))
    return x


def _centre(x: Map, rows: int, columns: int) -> Map:
    top, left = (x.shape[1] - rows) // 2, (x.shape[2] - columns) // 2
    return x[:, top : top + rows, left : left + columns]


class UNet(nn.Module):
    """The same-padded variant with any depth, width and normalisation.

    >>> net, image = UNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 21)

    Attributes:
      num_classes: channels of the logits.
      depth: number of poolings; the image is padded inside to a multiple of ``patch * 2**depth`` and the logits are
        cropped.
      width: channels of the first level; they double with each pooling.
      norm: "batch", "group", "instance", "layer" or "none"; convolutions have biases only without one.
      dropout: rate after the lowest level.
      patch: side of the blocks of pixels that enter as channels of one cell, and leave as sub-pixels of its scores: 2
        costs a quarter. The paper's network has 1.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    num_classes: int = 21
    depth: int = 4
    width: int = 64
    norm: str = "batch"
    dropout: float = 0.0
    patch: int = 1
    in_channels: int = 3
    standardize: Standardize = IMAGENET
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        h, w = image.shape[1:3]
        multiple = self.patch << self.depth
        x = zeros_to_multiple(self.standardize(image, self.in_channels).astype(self.dtype), multiple)
        x = pixel_unshuffle(x, self.patch)
        skips = []
        for level in range(self.depth):
            x = self._block(f"encoder{level}", x, self.width << level, train=train)
            skips.append(x)
            x = max_pool(x, 2)
        x = self._block("bottom", x, self.width << self.depth, train=train)
        x = Dropout(self.dropout, name="bottom_dropout")(x, train=train)
        for level in reversed(range(self.depth)):
            channels = self.width << level
            x = ConvTranspose(channels, 2, stride=2, dtype=self.dtype, name=f"decoder{level}_up")(x)
            x = jnp.concatenate([skips[level], x], axis=-1)
            x = self._block(f"decoder{level}", x, channels, train=train)
        x = Conv(self.num_classes * self.patch**2, 1, dtype=self.dtype, name="classifier")(x)
        x = pixel_shuffle(x, self.patch)
        return {"logits": x[:, :h, :w].astype(jnp.float32)}

    def _block(self, name: str, x: Map, channels: int, *, train: bool) -> Map:
        norm = make_norm(self.norm)
        for i in (1, 2):
            conv = Conv(channels, 3, padding=1, use_bias=self.norm == "none", dtype=self.dtype, name=f"{name}_conv{i}")
            x = jax.nn.relu(norm(dtype=self.dtype, name=f"{name}_norm{i}")(conv(x), train=train))
        return x


class UNetDecoder(nn.Module):
    """The expanding path over a backbone's five maps: nearest-neighbour enlargement instead of transposed convolutions.

    >>> decoder, maps = UNetDecoder(), {f"c{i}": jnp.ones((1, 64 >> i, 64 >> i, 8)) for i in range(1, 6)}
    >>> jax.eval_shape(lambda key: decoder.init_with_output(key, maps, train=False)[0], jax.random.key(0)).shape
    (1, 64, 64, 16)

    Attributes:
      features: channels after each of the five steps, coarse to fine; as many as there are maps.
      centre: whether two convolutions of ``c5``'s channels come before them, as the library has it on its VGGs.
      attention: "scse" weighs each step's input and output; None for no attention.
      dtype: compute dtype.
    """

    features: tuple[int, ...] = (256, 128, 64, 32, 16)
    centre: bool = False
    attention: str | None = None
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: dict[str, Map], *, train: bool) -> Map:
        """Map ``{"c1".."c5"}``, or a transformer's ``c2`` on, to a map at the image's resolution."""
        last = last_level(maps)
        x = maps[f"c{last}"]
        for j in (1, 2) if self.centre else ():
            x = jax.nn.relu(ConvNorm(x.shape[-1], dtype=self.dtype, name=f"centre{j}")(x, train=train))
        for i, channels in enumerate(self.features):
            skip = maps.get(f"c{last - 1 - i}")
            if skip is None:
                x = resize_nearest(x, (2 * x.shape[1], 2 * x.shape[2]))
            else:
                x = resize_nearest(x, (skip.shape[1], skip.shape[2]))
                x = jnp.concatenate([x, skip], axis=-1)
                x = attend(self.attention, x, dtype=self.dtype, name=f"block{i}_attention1")
            for j in (1, 2):
                x = jax.nn.relu(ConvNorm(channels, dtype=self.dtype, name=f"block{i}_conv{j}")(x, train=train))
            x = attend(self.attention, x, dtype=self.dtype, name=f"block{i}_attention2")
        return x


def on_backbone(
    backbone: nn.Module,
    num_classes: int = 21,
    *,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    centre: bool = False,
    aux_params: AuxParams = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Put the decoder on a backbone, with the options of segmentation-models-pytorch.

    >>> on_backbone(resnet.resnet(18), encoder_depth=4, decoder_channels=(64, 32, 16, 16)).multiple
    16

    Args:
      backbone: ``backbone(image, train=...) -> {"c1" .. "c5"}``.
      num_classes: channels of the logits.
      encoder_depth: how many of the maps are used.
      decoder_channels: after each step, coarse to fine; as many as ``encoder_depth``.
      decoder_attention_type: "scse" or None.
      centre: as of :class:`UNetDecoder`.
      aux_params: a classifier of the whole image beside it, also as a mapping; None for none.
      dtype: compute dtype.

    Raises:
      BadInput: channels for another number of steps, or there is no such depth or head.
    """
    features = steps_of(decoder_channels, encoder_depth)
    return EncoderDecoder(
        backbone=backbone,
        decoder=UNetDecoder(features, centre, decoder_attention_type, dtype=dtype),
        num_classes=num_classes,
        multiple=2**encoder_depth,
        depth=encoder_depth,
        image_head=ImageHead.parse(aux_params),
        dtype=dtype,
    )


SMP_NAMES: Rules = smp_names(
    resnet.TORCHVISION_NAMES,
    (
        *torch_names(r"decoder\.blocks\.(\d)\.conv(\d)", r"decoder/block\1_conv\2"),
        *torch_names(r"decoder\.center\.0", "decoder/centre1"),
        *torch_names(r"decoder\.center\.1", "decoder/centre2"),
        (r"decoder\.blocks\.4\.attention1\..*", None),  # made there and never called
        *scse_names(r"decoder\.blocks\.(\d)\.attention(\d)", r"decoder/block\1_attention\2"),
    ),
)
"""Rules from ``Unet`` of segmentation-models-pytorch on a ResNet."""


def _milesial_names() -> Rules:
    """Name the levels as their repository does: ``inc``, ``down1`` .. ``down4``, ``up1`` .. ``up4``, ``outc``."""
    blocks = [("inc", "encoder0"), *((rf"down{k}\.maxpool_conv\.1", f"encoder{k}") for k in (1, 2, 3))]
    blocks += [(r"down4\.maxpool_conv\.1", "bottom"), *((rf"up{4 - k}\.conv", f"decoder{k}") for k in range(4))]
    rules: list[tuple[str, str | None]] = [(r".*\.num_batches_tracked", None)]
    for source, path in blocks:
        for i, place in ((1, 0), (2, 3)):
            names = rf"{source}\.double_conv\.{{}}"
            conv, norm = names.format(place), names.format(place + 1)
            rules += [
                (rf"{conv}\.weight", f"{path}_conv{i}/kernel"),
                (rf"{norm}\.weight", f"{path}_norm{i}/scale"),
                (rf"{norm}\.bias", f"{path}_norm{i}/bias"),
                (rf"{norm}\.running_(mean|var)", rf"{path}_norm{i}/\1"),
            ]
    for k in range(4):
        rules += [
            (rf"up{4 - k}\.up\.weight", f"decoder{k}_up/kernel|iohw"),
            (rf"up{4 - k}\.up\.bias", f"decoder{k}_up/bias"),
        ]
    return (*rules, (r"outc\.conv\.weight", "classifier/kernel"), (r"outc\.conv\.bias", "classifier/bias"))


MILESIAL_NAMES: Rules = _milesial_names()
"""Rules from milesial/Pytorch-UNet, with transposed convolutions, to the paths of :class:`UNet` of depth 4."""


@register(
    task="semantic",
    paper="arXiv:1505.04597",
    params=31_030_658,
    small={"width": 2},
)
def unet_original(
    num_classes: int = 2,
    width: int = 64,
    dropout: float = 0.5,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UNetOriginal:
    """U-Net as published: valid convolutions, 572 pixels in, 388 out, one grey channel, two classes."""
    return UNetOriginal(
        num_classes=num_classes,
        width=width,
        dropout=dropout,
        in_channels=in_channels,
        standardize=statistics(standardize, GREY, in_channels),
        dtype=dtype,
    )


@register(
    task="semantic",
    paper="arXiv:1505.04597",
    names={"milesial": MILESIAL_NAMES},
    small={"depth": 2, "width": 4},
    overfit=Overfit(),
)
def unet(
    num_classes: int = 21,
    depth: int = 4,
    width: int = 64,
    norm: str = "batch",
    dropout: float = 0.0,
    patch: int = 1,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UNet:
    """U-Net with same padding: any image size, any depth and width, the normalisation of your choice."""
    return UNet(
        num_classes=num_classes,
        depth=depth,
        width=width,
        norm=norm,
        dropout=dropout,
        patch=patch,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


def _on_resnet(
    layers: int,
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
    return on_backbone(
        resnet.resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_attention_type=decoder_attention_type,
        aux_params=aux_params,
        dtype=dtype,
    )


_register = partial(register, task="semantic", paper="arXiv:1505.04597", names={"smp": SMP_NAMES})

unet_resnet18 = _register(
    name="unet_resnet18",
    summary="U-Net whose contracting path is a ResNet-18, as in segmentation-models-pytorch.",
    params=14_331_109,
    overfit=Overfit(
        fields={
            "width": 8,
            "backbone.depths": (1, 1, 1, 1),
            "backbone.bottleneck": False,
            "decoder.features": (16, 16, 8, 8, 8),
        }
    ),
)(partial(_on_resnet, 18))

unet_resnet34 = _register(
    name="unet_resnet34",
    summary="U-Net whose contracting path is a ResNet-34, as in segmentation-models-pytorch.",
    params=24_439_269,
)(partial(_on_resnet, 34))

unet_resnet50 = _register(
    name="unet_resnet50",
    summary="U-Net whose contracting path is a ResNet-50, as in segmentation-models-pytorch.",
    params=32_524_005,
)(partial(_on_resnet, 50))

unet_resnet101 = _register(
    name="unet_resnet101",
    summary="U-Net whose contracting path is a ResNet-101, as in segmentation-models-pytorch.",
    params=51_516_133,
)(partial(_on_resnet, 101))
