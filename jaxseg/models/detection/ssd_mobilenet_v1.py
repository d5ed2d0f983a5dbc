"""SSD on MobileNetV1 with TensorFlow's conventions (Howard et al. 2017, arXiv:1704.04861, section 4.6; Huang et al.
2017, arXiv:1611.10012).

TensorFlow pads so that the odd pixel is at the end, has ReLU6 after every convolution of the extractor, predicts by 1x1
convolutions, takes the sigmoid of every class, background among them, and codes boxes y before x: rules turn the
arrays. The published weights have their BatchNorm folded into the convolutions.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxseg.backbones import mobilenet
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.layers.standardize import Standardize, statistics
from jaxseg.models.detection.ssd import SSD
from jaxseg.models.detection.ssdlite import MobileNeck
from jaxseg.registry import register
from jaxseg.types import Rules

BYTES = Standardize((1.0, 1.0, 1.0), scale=1 / 128)
"""RGB from -1 to 1 as the quantised network has it: ``(q - 128) / 128``."""

SCALES = (*(0.2 + 0.75 * i / 5 for i in range(6)), 1.0)


def on_mobilenet_v1(
    num_classes: int = 90,
    *,
    width: float = 1.0,
    norm: str = "none",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SSD:
    """Return SSD on MobileNetV1 for images of 300 pixels.

    Args:
      num_classes: without background; TensorFlow counts 90 for COCO, ten of them never used.
      width: of the backbone and the maps after it.
      norm: "none" as published, folded; "batch" to train.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.

    >>> on_mobilenet_v1(width=0.75).neck.extras
    ((192, 384), (96, 192), (96, 192), (48, 96))
    """
    options: dict[str, Any] = {"padding": "SAME", "norm": norm, "epsilon": 1e-3, "dtype": dtype}
    given = statistics(standardize, BYTES, in_channels)
    extras = tuple((int(a * width), int(b * width)) for a, b in ((256, 512), (128, 256), (128, 256), (64, 128)))
    return SSD(
        backbone=mobilenet.mobilenet_v1(width=width, in_channels=in_channels, standardize=given, **options),
        neck=MobileNeck(("c4", "c5"), extras, separable=False, **options),
        boxes=DefaultBoxes(SCALES, ((2.0,), *[(2.0, 3.0)] * 5), order="tensorflow"),
        num_classes=num_classes,
        head="pointwise",
        scores="sigmoid",
        score_threshold=1e-8,
        nms_threshold=0.6,
        candidates=100,
        detections=100,
        dtype=dtype,
    )


def _names(dot: str, weights: str, bias: str, last_bias: str) -> Rules:
    """Rules of one writer: what stands between parts of a name, and what its arrays are called."""
    feature = rf"FeatureExtractor{dot}MobilenetV1{dot}"
    body = rf"{feature}MobilenetV1{dot}"
    rules: list[tuple[str, str | None]] = [
        (rf"{body}Conv2d_0{dot}{weights}", "backbone/stem/conv/kernel|ohwi"),
        (rf"{body}Conv2d_0{dot}{bias}", "backbone/stem/conv/bias"),
    ]
    for part, layout, of_fold in (("depthwise", "1hwc", "depthwise_Fold_bias"), ("pointwise", "ohwi", bias)):
        rules.append((rf"{body}Conv2d_(\d+)_{part}{dot}{weights}", rf"backbone/block\1/{part}/conv/kernel|{layout}"))
        rules.append((rf"{body}Conv2d_(\d+)_{part}{dot}{of_fold}", rf"backbone/block\1/{part}/conv/bias"))
    for i, width in enumerate((192, 96, 96, 48)):  # its names tell the channels
        for part, name in (
            (f"1_Conv2d_{i + 2}_1x1_{width}", "reduce"),
            (f"2_Conv2d_{i + 2}_3x3_s2_{2 * width}", "conv"),
        ):
            source = rf"{feature}Conv2d_13_pointwise_{part}{dot}"
            rules.append((source + weights, f"neck/extra{i}_{name}/conv/kernel|ohwi"))
            rules.append((source + bias, f"neck/extra{i}_{name}/conv/bias"))
    for theirs, ours, layout in (("BoxEncoding", "box_head", " yxhw"), ("Class", "class_head", "")):
        source = rf"BoxPredictor_(\d){dot}{theirs}Predictor{dot}"
        rules.append((source + weights, rf"{ours}\1/last/kernel|ohwi{layout}"))
        rules.append((source + last_bias, rf"{ours}\1/last/bias" + ("|yxhw" if layout else "")))
    return (*rules, (rf"anchors|Squeeze_shape|BoxPredictor_\d{dot}stack(?:_1)?", None))


TENSORFLOW_NAMES = _names(r"\.", "weights", r"Conv2D_Fold_bias", r"Conv2D_bias")
"""Rules from TensorFlow's own names with dots, kernels as TFLite has them."""

TFLITE_NAMES = _names("/", "weights_quant/FakeQuantWithMinMaxVars", "Conv2D_Fold_bias", "Conv2D_bias")
"""Rules from TensorFlow's quantised .tflite, ``coco_ssd_mobilenet_v1_0.75_quant_300``."""

ssd300_mobilenet_v1_075 = register(
    task="detection",
    paper="arXiv:1704.04861",
    name="ssd300_mobilenet_v1_075",
    summary="SSD on three quarters of MobileNetV1 for images of 300 pixels, as TensorFlow has it.",
    names={"tensorflow": TENSORFLOW_NAMES, "tflite": TFLITE_NAMES},
    small={
        "width": 0.25,
        "neck.extras": ((16, 32), (16, 32)),
        "image_size": (96, 96),
        "boxes": DefaultBoxes((0.2, 0.4, 0.6, 0.8, 1.0), ((2.0,), *[(2.0, 3.0)] * 3), order="tensorflow"),
        "detections": 20,
        "candidates": 50,
    },
)(partial(on_mobilenet_v1, width=0.75))
