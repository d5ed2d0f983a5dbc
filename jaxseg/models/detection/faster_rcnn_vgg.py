"""Faster R-CNN on VGG16, the network of the paper (Ren et al. 2015, arXiv:1506.01497).

One map, conv5_3; nine anchors in every cell, which a softmax of two tells from background; RoI pooling and the two
dense layers of VGG16. Anchors, coding and rounding of regions are those of the authors' Python code (py-faster-rcnn).

Both trainings of section 3.2 are recipes: jointly end to end, and in four steps. In the first two of them proposal
network and detector have a backbone each (``shared=False``); ``freeze`` of a stage says what learns.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxseg.layers.roi_heads import BoxHead
from jaxseg.layers.rpn import Proposing, RPNHead, caffe_rpn_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection.fast_rcnn import CAFFE_NAMES as FAST_RCNN_NAMES
from jaxseg.models.detection.fast_rcnn import ON_ONE_MAP, RATIOS, SMALL_VGG, vgg16_map
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.ops import codings
from jaxseg.registry import register
from jaxseg.types import Rules

SIZES = (128, 256, 512)
"""Roots of the anchors' areas, pixels; for COCO 64 comes before."""

EVERY = 1_000_000
"""More anchors than any image has."""


def on_vgg16(
    num_classes: int = 20,
    *,
    shared: bool = True,
    anchor_sizes: tuple[int, ...] = SIZES,
    width: int = 64,
    dense: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return Faster R-CNN as the paper has it, 20 classes of VOC by default.

    Args:
      num_classes: without background.
      shared: whether proposal network and detector share the backbone. Otherwise each has its own, and all anchors
        enter suppression, as in the first two steps of alternating training.
      anchor_sizes: roots of the anchors' areas, pixels.
      width: channels of the first block.
      dense: units of fc6 and fc7.
      in_channels: of the image.
      standardize: statistics of the input; those of the authors by default.
      dtype: compute dtype.

    >>> on_vgg16().rpn.anchors, on_vgg16(80, anchor_sizes=(64, *SIZES)).rpn.anchors
    (9, 12)
    """
    # One module in two places would have one set of weights: each is built on its own.
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone, other = vgg16_map(width=width, **options), vgg16_map(width=width, **options)
    return FasterRCNN(
        backbone=backbone,
        rpn=RPNHead(8 * width, len(RATIOS) * len(anchor_sizes), outputs=2, dtype=dtype),
        box_head=BoxHead((), (dense, dense), dropout=0.5, dtype=dtype),
        proposal_backbone=None if shared else other,
        num_classes=num_classes,
        anchors="py_faster_rcnn",
        anchor_sizes=(anchor_sizes,),
        coding=codings.INCLUSIVE,
        samples=128,
        train_proposing=Proposing(12_000 if shared else EVERY, 2000, min_size=16.0),
        test_proposing=Proposing(6000, 300, min_size=16.0),
        dtype=dtype,
        **ON_ONE_MAP,
    )


CAFFE_NAMES: Rules = (*FAST_RCNN_NAMES, *caffe_rpn_names("rpn"))
"""Rules from the authors' ``VGG16_faster_rcnn_final.caffemodel``."""

SMALL: Mapping[str, Any] = {
    **{key: value for key, value in SMALL_VGG.items() if key != "windows"},
    "anchor_sizes": (8, 16, 32),
    "train_proposing": Proposing(256, 64, min_size=2.0),
    "test_proposing": Proposing(256, 64, min_size=2.0),
}
"""The small variants: few channels, anchors for images of 64 to 128 pixels."""

faster_rcnn_vgg16 = register(
    task="detection",
    paper="arXiv:1506.01497",
    name="faster_rcnn_vgg16",
    summary="Faster R-CNN on VGG16, the network of the paper.",
    params=137_078_239,
    names={"caffe": CAFFE_NAMES},
    small=SMALL,
)(on_vgg16)
