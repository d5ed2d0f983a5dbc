"""The zoo in small: one model of each family that compiles in seconds, and the sizes that every model is asked for.

A family that is not listed here is still held to its shapes, its count and its paths, for which nothing runs.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.backbones.mit import MiT
from jaxseg.backbones.mobilenet import Inverted, MobileNet
from jaxseg.backbones.resnet import ResNet
from jaxseg.backbones.xception import Flow, Xception
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic.attention_unet import attention_unet
from jaxseg.models.semantic.crfrnn import crfrnn_vgg16
from jaxseg.models.semantic.deconvnet import DeconvNet
from jaxseg.models.semantic.deeplab import deeplabv2_vgg16
from jaxseg.models.semantic.deeplabv3plus import DeepLabV3Plus
from jaxseg.models.semantic.dilated import dilated_basic_vgg16
from jaxseg.models.semantic.enet import enet
from jaxseg.models.semantic.espnet import espnet
from jaxseg.models.semantic.fcn import ResNetFCN, fcn8s_atonce_vgg16
from jaxseg.models.semantic.fpn import FPNDecoder
from jaxseg.models.semantic.linknet import LinkNet
from jaxseg.models.semantic.lraspp import LRASPP
from jaxseg.models.semantic.pspnet import PSPNet
from jaxseg.models.semantic.retina_unet import retina_unet
from jaxseg.models.semantic.segformer import SegFormer
from jaxseg.models.semantic.segnet import SegNet, fcn_basic, segnet_basic
from jaxseg.models.semantic.segnet_variants import encoder_addition
from jaxseg.models.semantic.sliding_window import full_resolution_fcn, patch_classifier
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.models.semantic.upernet import UPerNet

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
    backbone = MobileNet(blocks=blocks, stem=8, last=16, output_stride=8, out_maps="first", epsilon=1e-3, dtype=dtype)
    return LRASPP(backbone=backbone, num_classes=CLASSES, features=8, dtype=dtype)


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
    "deconvnet_vgg16": lambda dtype: DeconvNet(CLASSES, (1, 1), width=8, fc_features=8, window=2, dtype=dtype),
    "crfrnn_vgg16": lambda dtype: crfrnn_vgg16(CLASSES, width=4, fc_features=8, dtype=dtype),
    "deeplabv2_vgg16": lambda dtype: deeplabv2_vgg16(CLASSES, width=4, fc_features=8, rates=(6, 12), dtype=dtype),
    "dilated_basic_vgg16": lambda dtype: dilated_basic_vgg16(CLASSES, width=4, fc_features=8, dtype=dtype),
    "deeplabv3plus_xception65": small_deeplabv3plus,
    "attention_unet": lambda dtype: attention_unet(CLASSES, width=4, dtype=dtype),
    "enet": lambda dtype: enet(CLASSES, dtype=dtype),
    "espnet": lambda dtype: espnet(5, p=0, q=1, widths=(6, 10, 15), dtype=dtype),  # five branches share the classes
    "fcn8s_atonce_vgg16": lambda dtype: fcn8s_atonce_vgg16(CLASSES, width=8, fc_features=8, dtype=dtype),
    "fcn_resnet50": small_fcn_resnet,
    "fcn_basic": lambda dtype: fcn_basic(CLASSES, width=4, dtype=dtype),
    "encoder_addition": lambda dtype: encoder_addition(CLASSES, width=4, dtype=dtype),
    "full_resolution_fcn": lambda dtype: full_resolution_fcn(CLASSES, depth=2, width=4, dtype=dtype),
    "patch_classifier": lambda dtype: patch_classifier(CLASSES, width=6, hidden=6, kernels=(4, 5), dtype=dtype),
    "lraspp_mobilenet_v3_large": small_lraspp,
    "fpn_resnet50": small_fpn,
    "linknet": lambda dtype: LinkNet(
        backbone=tiny_resnet(dtype, width=16), num_classes=CLASSES, features=8, dtype=dtype
    ),
    "pspnet_resnet50": small_pspnet,
    "segformer_b0": small_segformer,
    "retina_unet": lambda dtype: retina_unet(CLASSES, width=4, dtype=dtype),
    "segnet_basic": lambda dtype: segnet_basic(CLASSES, width=4, dtype=dtype),
    # One level: rounding to bfloat16 moves switches between near equals, and each level adds to it.
    "segnet_vgg16": lambda dtype: SegNet(CLASSES, (2,), width=4, dtype=dtype),
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


def shallow(model: Any) -> Any:
    """The model with one block a stage where its backbone repeats them: what fits does not depend on how often."""
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(backbone, "depths"):
        return model
    *depths, last = backbone.depths
    kept = last if getattr(backbone, "multi_grid", ()) else 1
    return model.clone(backbone=backbone.clone(depths=(*(1 for _ in depths), kept)))
