"""One small network of every family of the zoo, as it is taught: the contracts' own where that learns.

Networks that begin with VGG's or AlexNet's weights take pixels of unit variance here: without those weights the first
scores would be as large as the pixels, hundreds. They are wider than the contracts', since ReLUs die and nothing
normalises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
from jaxseg.models.semantic.crfrnn import crfrnn_vgg16
from jaxseg.models.semantic.deeplab import (
    DeepLabV2ResNet,
    deeplab_largefov_vgg16,
    deeplab_msc_largefov_vgg16,
    deeplabv2_vgg16,
)
from jaxseg.models.semantic.deeplabv3 import DeepLabV3
from jaxseg.models.semantic.dilated import dilated_basic_vgg16
from jaxseg.models.semantic.fcn import fcn8s_vgg16, fcn32s_alexnet
from jaxseg.models.semantic.hair import mediapipe_hair
from jaxseg.models.semantic.manet import MANetDecoder
from jaxseg.models.semantic.pan import PANDecoder
from jaxseg.models.semantic.retina_unet import retina_unet
from jaxseg.models.semantic.sliding_window import full_resolution_fcn
from jaxseg.models.semantic.unet import UNetDecoder
from jaxseg.models.semantic.unetplusplus import UNetPlusPlusDecoder
from tests.contracts.zoo import CLASSES, SMALL, tiny_resnet

STEPS = (16, 16, 8, 8, 8)
"""Channels of a decoder's five steps."""


@dataclass(frozen=True)
class Family:
    """A network and how it is taught: updates of Adam, their rate, sides of the scenes, variance of the kernels that it
    begins with times their taps (two suits ReLUs; without normalisation a sum of many blocks would grow with it)."""

    build: Callable[[], nn.Module]
    steps: int = 60
    rate: float = 1e-2
    size: tuple[int, int] = (48, 64)
    gain: float = 2.0
    quick: bool = False


def small(name: str) -> Callable[[], nn.Module]:
    return partial(SMALL[name], jnp.float32)


def on_resnet(decoder: nn.Module, *, backbone: dict[str, Any] | None = None, **fields: Any) -> Callable[[], nn.Module]:
    return lambda: EncoderDecoder(
        backbone=tiny_resnet(jnp.float32, **(backbone or {})), decoder=decoder, num_classes=CLASSES, **fields
    )


def on_vgg(builder: Callable[..., nn.Module], **fields: Any) -> Callable[[], nn.Module]:
    return partial(builder, CLASSES, width=8, fc_features=32, standardize=IMAGENET, **fields)


def alexnet() -> nn.Module:
    return fcn32s_alexnet(CLASSES, widths=(16, 16, 16, 16, 16), fc_features=32, standardize=IMAGENET)


def deeplabv2_resnet() -> DeepLabV2ResNet:
    backbone = tiny_resnet(jnp.float32, output_stride=8, ceil_mode=True)
    return DeepLabV2ResNet(backbone=backbone, num_classes=CLASSES, rates=(2, 4), scales=(1.0, 0.5))


def deeplabv3() -> DeepLabV3:
    return DeepLabV3(backbone=tiny_resnet(jnp.float32, output_stride=8), num_classes=CLASSES, rates=(2, 4), features=8)


FAMILIES: dict[str, Family] = {
    "attention_unet": Family(small("attention_unet")),
    "bayesian_segnet_basic": Family(partial(bayesian_segnet_basic, CLASSES, width=8), steps=80),
    "crfrnn_vgg16": Family(on_vgg(crfrnn_vgg16, iterations=(3, 3)), rate=3e-3, steps=60, size=(32, 48)),
    "deconvnet_vgg16": Family(small("deconvnet_vgg16"), quick=True),
    "deeplab_largefov_vgg16": Family(on_vgg(deeplab_largefov_vgg16, rate=2), rate=3e-3, steps=100),
    "deeplab_msc_largefov_vgg16": Family(on_vgg(deeplab_msc_largefov_vgg16, mlp_features=16), rate=3e-3),
    "deeplabv2_vgg16": Family(on_vgg(deeplabv2_vgg16, rates=(2, 4)), rate=3e-3, steps=100),
    "deeplabv2_resnet101": Family(deeplabv2_resnet),
    "deeplabv3_resnet50": Family(deeplabv3),
    "deeplabv3plus_xception65": Family(small("deeplabv3plus_xception65")),
    "dilated_basic_vgg16": Family(on_vgg(dilated_basic_vgg16), rate=3e-3, steps=120, size=(32, 48)),
    "enet": Family(small("enet")),
    "encoder_addition": Family(small("encoder_addition")),
    "espnet": Family(small("espnet")),
    "fcn32s_alexnet": Family(alexnet, rate=3e-3, steps=100, size=(96, 128)),
    "fcn8s_vgg16": Family(on_vgg(fcn8s_vgg16), rate=3e-3, steps=60, size=(32, 48)),
    "fcn_resnet50": Family(small("fcn_resnet50")),
    "fpn_resnet50": Family(small("fpn_resnet50")),
    "full_resolution_fcn": Family(partial(full_resolution_fcn, CLASSES, depth=4, width=8), quick=True),
    "linknet": Family(small("linknet"), quick=True),
    "lraspp_mobilenet_v3_large": Family(small("lraspp_mobilenet_v3_large"), quick=True),
    "manet_resnet34": Family(on_resnet(MANetDecoder(features=STEPS, attention=8, reduction=4))),
    "mediapipe_hair": Family(partial(mediapipe_hair, CLASSES), rate=3e-3, steps=100, gain=1.0),
    "pan_resnet50": Family(
        on_resnet(PANDecoder(features=8), backbone={"output_stride": 16, "multi_grid": (1,)}, multiple=16, least=128)
    ),
    "patch_classifier": Family(small("patch_classifier"), steps=200),
    "pspnet_resnet50": Family(small("pspnet_resnet50")),
    "retina_unet": Family(partial(retina_unet, CLASSES, width=12), rate=3e-3),
    "segformer_b0": Family(small("segformer_b0")),
    "segnet_basic": Family(small("segnet_basic")),
    "segnet_vgg16": Family(small("segnet_vgg16"), quick=True),
    "unet": Family(small("unet")),
    "unet_resnet18": Family(on_resnet(UNetDecoder(features=STEPS))),
    "unetplusplus_resnet34": Family(
        on_resnet(UNetPlusPlusDecoder(features=STEPS), backbone={"width": 4}),
    ),
    "upernet_resnet50": Family(small("upernet_resnet50")),
}
"""By the name of one network of the family."""
