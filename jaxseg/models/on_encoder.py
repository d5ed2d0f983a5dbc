"""Builders of segmentation-models-pytorch's architectures on an encoder by name, with the library's options."""

import jax.numpy as jnp
from flax import linen as nn

from jaxseg.backbones.encoders import ENCODERS
from jaxseg.layers.encoder_decoder import AuxParams, EncoderDecoder
from jaxseg.layers.standardize import Standardize
from jaxseg.models.semantic import (
    deeplabv3,
    deeplabv3plus,
    fpn,
    linknet,
    manet,
    pan,
    pspnet,
    segformer,
    unet,
    unetplusplus,
    upernet,
)
from jaxseg.models.semantic.deeplabv3plus import DeepLabV3Plus

STAIRS = (256, 128, 64, 32, 16)
"""Channels of the steps of U-Net, UNet++ and MA-Net."""


def unet_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = STAIRS,
    decoder_attention_type: str | None = None,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """U-Net on an encoder.

    >>> unet_on("resnet18", 3, decoder_attention_type="scse").decoder.attention
    'scse'
    """
    backbone = _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype)
    return unet.on_backbone(
        backbone,
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_attention_type=decoder_attention_type,
        centre=encoder.startswith("vgg"),
        aux_params=aux_params,
        dtype=dtype,
    )


def unetplusplus_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = STAIRS,
    decoder_attention_type: str | None = None,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """UNet++ on an encoder.

    >>> unetplusplus_on("resnet18", 3, encoder_depth=3, decoder_channels=(64, 32, 16)).multiple
    8
    """
    return unetplusplus.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_attention_type=decoder_attention_type,
        aux_params=aux_params,
        dtype=dtype,
    )


def manet_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_channels: tuple[int, ...] = STAIRS,
    decoder_pab_channels: int = 64,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """MA-Net on an encoder.

    >>> manet_on("resnet18", 3).decoder.features
    (256, 128, 64, 32, 16)
    """
    return manet.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_pab_channels=decoder_pab_channels,
        aux_params=aux_params,
        dtype=dtype,
    )


def linknet_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """LinkNet on an encoder.

    >>> linknet_on("resnet18", 3) == linknet.linknet_resnet18(3)
    True
    """
    backbone = _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype)
    return linknet.on_backbone(backbone, num_classes, encoder_depth=encoder_depth, aux_params=aux_params, dtype=dtype)


def fpn_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_dropout: float = 0.2,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """Semantic FPN on an encoder.

    >>> fpn_on("resnet50") == fpn.fpn_resnet50()
    True
    """
    return fpn.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_pyramid_channels=decoder_pyramid_channels,
        decoder_segmentation_channels=decoder_segmentation_channels,
        decoder_dropout=decoder_dropout,
        aux_params=aux_params,
        dtype=dtype,
    )


def pan_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 32,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """PAN on an encoder.

    >>> pan_on("resnet50") == pan.pan_resnet50()
    True
    """
    return pan.on_backbone(
        _backbone(encoder, encoder_depth, encoder_output_stride, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        encoder_output_stride=encoder_output_stride,
        decoder_channels=decoder_channels,
        aux_params=aux_params,
        dtype=dtype,
    )


def pspnet_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 3,
    psp_out_channels: int = 512,
    psp_dropout: float = 0.2,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """PSPNet of segmentation-models-pytorch on an encoder.

    >>> pspnet_on("resnet34") == pspnet.pspnet_resnet34_smp()
    True
    """
    return pspnet.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        psp_out_channels=psp_out_channels,
        psp_dropout=psp_dropout,
        aux_params=aux_params,
        dtype=dtype,
    )


def upernet_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_channels: int = 256,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """UPerNet of segmentation-models-pytorch on an encoder.

    >>> upernet_on("resnet50") == upernet.upernet_resnet50_smp()
    True
    """
    return upernet.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        aux_params=aux_params,
        dtype=dtype,
    )


def segformer_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    decoder_segmentation_channels: int = 256,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """SegFormer's head of segmentation-models-pytorch on an encoder.

    >>> segformer_on("mit_b0").decoder.features
    256
    """
    return segformer.on_backbone(
        _backbone(encoder, encoder_depth, 32, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_segmentation_channels=decoder_segmentation_channels,
        aux_params=aux_params,
        dtype=dtype,
    )


def deeplabv3_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    encoder_output_stride: int = 8,
    decoder_channels: int = 256,
    decoder_atrous_rates: tuple[int, ...] = (12, 24, 36),
    decoder_aspp_dropout: float = 0.5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> EncoderDecoder:
    """DeepLab v3 of segmentation-models-pytorch on an encoder.

    >>> deeplabv3_on("resnet18").backbone.output_stride
    8
    """
    return deeplabv3.on_backbone(
        _backbone(encoder, encoder_depth, encoder_output_stride, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        encoder_output_stride=encoder_output_stride,
        decoder_channels=decoder_channels,
        decoder_atrous_rates=decoder_atrous_rates,
        decoder_aspp_dropout=decoder_aspp_dropout,
        aux_params=aux_params,
        dtype=dtype,
    )


def deeplabv3plus_on(
    encoder: str,
    num_classes: int = 21,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 256,
    decoder_atrous_rates: tuple[int, ...] = (12, 24, 36),
    decoder_aspp_dropout: float = 0.5,
    aux_params: AuxParams = None,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> DeepLabV3Plus:
    """DeepLab v3+ of segmentation-models-pytorch on an encoder.

    >>> deeplabv3plus_on("resnet50") == deeplabv3plus.deeplabv3plus_smp_resnet50()
    True
    """
    return deeplabv3plus.on_backbone(
        _backbone(encoder, encoder_depth, encoder_output_stride, in_channels, standardize, dtype),
        num_classes,
        encoder_depth=encoder_depth,
        decoder_channels=decoder_channels,
        decoder_atrous_rates=decoder_atrous_rates,
        decoder_aspp_dropout=decoder_aspp_dropout,
        aux_params=aux_params,
        dtype=dtype,
    )


def _backbone(
    encoder: str,
    depth: int,
    output_stride: int,
    in_channels: int,
    standardize: Standardize | None,
    dtype: jnp.dtype | type,
) -> nn.Module:
    options = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    return ENCODERS[encoder].backbone(depth=depth, output_stride=output_stride, **options)
