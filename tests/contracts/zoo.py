"""The zoo in small: one model of each family that compiles in seconds, and the sizes that every model is asked for.

A family that is not listed here is still held to its shapes, its count and its paths, for which nothing runs.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.backbones.mit import MiT
from jaxseg.backbones.resnet import ResNet
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic.attention_unet import attention_unet
from jaxseg.models.semantic.enet import enet
from jaxseg.models.semantic.fcn import ResNetFCN, fcn8s_atonce_vgg16
from jaxseg.models.semantic.fpn import FPNDecoder
from jaxseg.models.semantic.linknet import LinkNet
from jaxseg.models.semantic.pspnet import PSPNet
from jaxseg.models.semantic.segformer import SegFormer
from jaxseg.models.semantic.segnet import fcn_basic, segnet_basic
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.models.semantic.upernet import UPerNet

CLASSES = 3


def small_fcn_resnet(dtype: Any) -> ResNetFCN:
    backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8, dtype=dtype)
    return ResNetFCN(backbone=backbone, num_classes=CLASSES, dtype=dtype)


def tiny_resnet(dtype: Any, **fields: Any) -> ResNet:
    return ResNet(depths=(1, 1, 1, 1), bottleneck=False, dtype=dtype, **{"width": 8, **fields})


def small_fpn(dtype: Any) -> EncoderDecoder:
    decoder = FPNDecoder(pyramid=8, features=32, dtype=dtype)
    return EncoderDecoder(backbone=tiny_resnet(dtype), decoder=decoder, num_classes=CLASSES, kernel_size=1, dtype=dtype)


def small_pspnet(dtype: Any) -> PSPNet:
    backbone = tiny_resnet(dtype, stem="3x3x3", output_stride=8, multi_grid=(1,))
    return PSPNet(backbone=backbone, num_classes=CLASSES, features=8, dtype=dtype)


def small_segformer(dtype: Any) -> SegFormer:
    backbone = MiT(depths=(1, 1, 1, 1), widths=(8, 8, 10, 16), reductions=(4, 2, 1, 1), dtype=dtype)
    return SegFormer(backbone=backbone, num_classes=CLASSES, features=8, dtype=dtype)


SMALL: dict[str, Callable[[Any], nn.Module]] = {
    "attention_unet": lambda dtype: attention_unet(CLASSES, width=4, dtype=dtype),
    "enet": lambda dtype: enet(CLASSES, dtype=dtype),
    "fcn8s_atonce_vgg16": lambda dtype: fcn8s_atonce_vgg16(CLASSES, width=8, fc_features=8, dtype=dtype),
    "fcn_resnet50": small_fcn_resnet,
    "fcn_basic": lambda dtype: fcn_basic(CLASSES, width=4, dtype=dtype),
    "fpn_resnet50": small_fpn,
    "linknet": lambda dtype: LinkNet(
        backbone=tiny_resnet(dtype, width=16), num_classes=CLASSES, features=8, dtype=dtype
    ),
    "pspnet_resnet50": small_pspnet,
    "segformer_b0": small_segformer,
    "segnet_basic": lambda dtype: segnet_basic(CLASSES, width=4, dtype=dtype),
    "unet": lambda dtype: unet(CLASSES, depth=2, width=4, dtype=dtype),
    "unet_original": lambda dtype: unet_original(CLASSES, width=2, dtype=dtype),
    "upernet_resnet50": lambda dtype: UPerNet(
        backbone=tiny_resnet(dtype), num_classes=CLASSES, features=8, aux_features=8, dtype=dtype
    ),
}

ODD = (37, 50)
"""A size that no stride divides."""


def sizes(model: Any) -> list[tuple[int, int]]:
    """Two sizes that the model takes, one of them odd where its geometry allows."""
    return [(188, 188), (188, 204)] if hasattr(model, "valid_size") else [(64, 96), ODD]


def output_size(model: Any, size: tuple[int, int]) -> tuple[int, int]:
    """How large the logits are for an image of that size."""
    return model.valid_size(*size) if hasattr(model, "valid_size") else size


def image_of(size: tuple[int, int], batch: int = 2) -> jnp.ndarray:
    """u8[b h w 3], a different pattern in every image."""
    import numpy as np

    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch, *size, 3), dtype=np.uint8))
