"""The zoo in small: one model of each family that compiles in seconds, and the sizes that every model is asked for.

A family that is not listed here is still held to its shapes, its count and its paths, for which nothing runs.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.backbones.mobilenet import Inverted, MobileNet
from jaxseg.backbones.resnet import ResNet
from jaxseg.backbones.xception import Flow, Xception
from jaxseg.models.semantic.deeplabv3plus import DeepLabV3Plus
from jaxseg.models.semantic.enet import enet
from jaxseg.models.semantic.fcn import ResNetFCN, fcn8s_atonce_vgg16
from jaxseg.models.semantic.lraspp import LRASPP
from jaxseg.models.semantic.segnet import fcn_basic, segnet_basic
from jaxseg.models.semantic.unet import unet, unet_original

CLASSES = 3


def small_fcn_resnet(dtype: Any) -> ResNetFCN:
    backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8, dtype=dtype)
    return ResNetFCN(backbone=backbone, num_classes=CLASSES, dtype=dtype)


def small_deeplabv3plus(dtype: Any) -> DeepLabV3Plus:
    blocks = (Flow((4, 4, 8), 2), Flow((8, 8, 16), 2, skip=False))
    backbone = Xception(blocks=blocks, stem=(4, 8), output_stride=8, dtype=dtype)
    options = {"rates": (2,), "features": 8, "low_features": 4, "decoders": 1}
    return DeepLabV3Plus(backbone=backbone, num_classes=CLASSES, kind="separable", **options, dtype=dtype)


def small_lraspp(dtype: Any) -> LRASPP:
    rows = ((8, 16, 3, 2, 0), (8, 16, 3, 2, 8))
    blocks = tuple(Inverted(*row, activation="hard_swish") for row in rows)
    backbone = MobileNet(blocks=blocks, stem=8, last=16, output_stride=8, taps="first", epsilon=1e-3, dtype=dtype)
    return LRASPP(backbone=backbone, num_classes=CLASSES, features=8, dtype=dtype)


SMALL: dict[str, Callable[[Any], nn.Module]] = {
    "deeplabv3plus_xception65": small_deeplabv3plus,
    "enet": lambda dtype: enet(CLASSES, dtype=dtype),
    "fcn8s_atonce_vgg16": lambda dtype: fcn8s_atonce_vgg16(CLASSES, width=8, fc_features=8, dtype=dtype),
    "fcn_resnet50": small_fcn_resnet,
    "fcn_basic": lambda dtype: fcn_basic(CLASSES, width=4, dtype=dtype),
    "lraspp_mobilenet_v3_large": small_lraspp,
    "segnet_basic": lambda dtype: segnet_basic(CLASSES, width=4, dtype=dtype),
    "unet": lambda dtype: unet(CLASSES, depth=2, width=4, dtype=dtype),
    "unet_original": lambda dtype: unet_original(CLASSES, width=2, dtype=dtype),
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
