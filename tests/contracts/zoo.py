"""The zoo in small: one model of each family that compiles in seconds, and the sizes that every model is asked for.

A family that is not listed here is still held to its shapes, its count and its paths, for which nothing runs.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.backbones.resnet import ResNet
from jaxseg.models.semantic.deconvnet import DeconvNet
from jaxseg.models.semantic.enet import enet
from jaxseg.models.semantic.espnet import espnet
from jaxseg.models.semantic.fcn import ResNetFCN, fcn8s_atonce_vgg16
from jaxseg.models.semantic.segnet import SegNet, fcn_basic, segnet_basic
from jaxseg.models.semantic.segnet_variants import encoder_addition
from jaxseg.models.semantic.unet import unet, unet_original

CLASSES = 3


def small_fcn_resnet(dtype: Any) -> ResNetFCN:
    backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8, dtype=dtype)
    return ResNetFCN(backbone=backbone, num_classes=CLASSES, dtype=dtype)


SMALL: dict[str, Callable[[Any], nn.Module]] = {
    "deconvnet_vgg16": lambda dtype: DeconvNet(CLASSES, (1, 1), width=8, fc_features=8, window=2, dtype=dtype),
    "enet": lambda dtype: enet(CLASSES, dtype=dtype),
    "espnet": lambda dtype: espnet(5, p=0, q=1, widths=(6, 10, 15), dtype=dtype),  # five branches share the classes
    "fcn8s_atonce_vgg16": lambda dtype: fcn8s_atonce_vgg16(CLASSES, width=8, fc_features=8, dtype=dtype),
    "fcn_resnet50": small_fcn_resnet,
    "fcn_basic": lambda dtype: fcn_basic(CLASSES, width=4, dtype=dtype),
    "encoder_addition": lambda dtype: encoder_addition(CLASSES, width=4, dtype=dtype),
    "segnet_basic": lambda dtype: segnet_basic(CLASSES, width=4, dtype=dtype),
    # One level: rounding to bfloat16 moves switches between near equals, and each level adds to it.
    "segnet_vgg16": lambda dtype: SegNet(CLASSES, (2,), width=4, dtype=dtype),
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
