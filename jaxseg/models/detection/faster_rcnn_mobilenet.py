"""Faster R-CNN on MobileNets: torchvision's two on MobileNetV3, and one on MobileNetV2 for small data.

torchvision's have three levels of two strides: the block of MobileNetV3 that reaches stride 32, its last convolution,
and every second cell of that. Each has anchors of all five sizes, proposals have an objectness of 0.05 or more, and
regions are cut from the first level alone.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxseg.backbones import mobilenet
from jaxseg.layers.fpn import FPN, torchvision_fpn_names
from jaxseg.layers.roi_heads import BoxHead, torchvision_box_names
from jaxseg.layers.rpn import Proposing, RPNHead, torchvision_rpn_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection.faster_rcnn import SMALL, FasterRCNN
from jaxseg.registry import register
from jaxseg.types import Rules

SIZES = (32, 64, 128, 256, 512)
"""Roots of the anchors' areas, pixels."""


def on_mobilenet_v3(
    num_classes: int = 90,
    *,
    proposals: int = 1000,
    width: float = 1.0,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN on MobileNetV3.

    >>> on_mobilenet_v3(proposals=150).test_proposing.after
    150

    Args:
      num_classes: without background.
      proposals: at test time.
      width: of the backbone.
      features: channels of the pyramid.
      dense: units of the box head.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = mobilenet.mobilenet_v3("large", width=width, out_maps="first", epsilon=1e-5, **options)
    return FasterRCNN(
        backbone=backbone.clone(norm="frozen"),
        fpn=FPN(features, dtype=dtype),
        rpn=RPNHead(features, 3 * len(SIZES), dtype=dtype),
        box_head=BoxHead((), (dense, dense), dtype=dtype),
        num_classes=num_classes,
        maps=("c5_blocks", "c5"),
        finest_stride=32,
        roi_levels=1,
        anchor_sizes=(SIZES,) * 3,
        train_proposing=Proposing(2000, 2000, min_score=0.05),
        test_proposing=Proposing(proposals, proposals, min_score=0.05),
        dtype=dtype,
    )


def on_mobilenet_v2(
    num_classes: int = 90,
    *,
    width: float = 1.0,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return Faster R-CNN on a pyramid of MobileNetV2 as on one of a ResNet: strides 4 to 64, a size on each.

    >>> on_mobilenet_v2(3, width=0.25).backbone.stem
    8
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    return FasterRCNN(
        backbone=mobilenet.mobilenet_v2(width=width, norm="frozen", **options),
        fpn=FPN(features, dtype=dtype),
        rpn=RPNHead(features, dtype=dtype),
        box_head=BoxHead((), (dense, dense), dtype=dtype),
        num_classes=num_classes,
        dtype=dtype,
    )


_FEATURES = r"features\."
_BODY = tuple(
    (rf"backbone\.body\.{theirs.removeprefix(_FEATURES)}", f"backbone/{ours}")
    for theirs, ours in mobilenet.TORCHVISION_V3_NAMES
    if theirs.startswith(_FEATURES)
)

TORCHVISION_NAMES: Rules = (
    *_BODY,
    *torchvision_fpn_names(r"backbone\.fpn", "fpn"),
    *torchvision_rpn_names(r"rpn\.head", "rpn"),
    *torchvision_box_names("roi_heads", "box"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's ``fasterrcnn_mobilenet_v3_large_fpn`` and ``_320_fpn``."""

_FEW = {key: value for key, value in SMALL.items() if key not in ("width", "backbone.depths")}
_register = partial(register, task="detection", paper="arXiv:1506.01497")
_v3 = partial(
    _register,
    params=19_386_354,
    names={"torchvision": TORCHVISION_NAMES},
    small={**_FEW, "width": 0.25, "anchor_sizes": ((8, 16, 32, 64, 128),) * 3},
)

faster_rcnn_mobilenet_v3_large_fpn = _v3(
    name="faster_rcnn_mobilenet_v3_large_fpn",
    summary="Faster R-CNN on a pyramid of MobileNetV3, as torchvision has it.",
)(on_mobilenet_v3)

faster_rcnn_mobilenet_v3_large_320_fpn = _v3(
    name="faster_rcnn_mobilenet_v3_large_320_fpn",
    summary="The same with 150 proposals, for images of 320 rows.",
)(partial(on_mobilenet_v3, proposals=150))

faster_rcnn_mobilenet_v2_fpn = _register(
    name="faster_rcnn_mobilenet_v2_fpn",
    summary="Faster R-CNN on a pyramid of MobileNetV2, for small data and ImageNet's weights.",
    small={**_FEW, "width": 0.25},
)(on_mobilenet_v2)
