"""The vocabulary: axis letters, and the keys of batches, outputs and predictions.

Axis letters, used in every signature (``Float[Array, "b h w k"]``):

==== ========================  ==== =========================
b    batch                     p    proposals
h w  image rows and columns    a    anchors
y x  feature map               d    detections
c    channels                  m    side of a box-relative mask
k    classes                   j    joints
n    ground-truth slots
==== ========================  ==== =========================

Boxes are ``x0 y0 x1 y1`` in absolute pixels, half-open. Classes count from 0; void is 255 in label maps. Images travel
as uint8 RGB, NHWC; kernels are HWIO. Padding is always accompanied by a mask. Nothing here imports JAX, so that data
workers stay light.
"""

from collections.abc import Mapping
from dataclasses import dataclass

VOID = 255
"""The label of pixels that belong to no class: they carry no loss and count in no metric unless one says so."""

DATA_AXIS = "data"
"""Name of the axis over which a batch is spread: mesh axis of sharded steps, ``axis_name`` of replicated ones."""

Rules = tuple[tuple[str, str | None], ...]
"""How the names of another framework's weights lead to ours, see :mod:`jaxseg.weights.names`."""


@dataclass(frozen=True)
class Key:
    """One row of the vocabulary: dtype, axes (letters as above, without quotes) and meaning."""

    dtype: str
    axes: str
    meaning: str


BATCH: Mapping[str, Key] = {
    "image": Key("uint8", "b h w 3", "raw RGB, 0..255"),
    "real": Key("bool", "b", "false on rows that only fill up the last batch"),
    "label": Key("int32", "b h w", "class of each pixel, 255 void"),
    "weight": Key("float32", "b h w", "weight of each pixel in the loss (U-Net's separation map)"),
    "boxes": Key("float32", "b n 4", "x0 y0 x1 y1, pixels, half-open"),
    "classes": Key("int32", "b n", "class of each object"),
    "valid": Key("bool", "b n", "whether the slot holds an object"),
    "crowd": Key("bool", "b n", "whether the object stands for a crowd"),
    "instance_ids": Key("uint16", "b h w", "1 + slot of the object that owns the pixel, 0 for none"),
    "keypoints": Key("float32", "b n j 3", "x, y, visibility as in COCO (0 absent, 1 hidden, 2 visible)"),
    "panoptic": Key("int32", "b h w 2", "class (255 void), instance id (0 for stuff)"),
    "depth": Key("float32", "b h w", "distance along the optical axis, metres"),
    "depth_valid": Key("bool", "b h w", "whether depth is known"),
    "normal": Key("float32", "b h w 3", "unit surface normal in camera axes: x right, y down, z forward"),
    "normal_valid": Key("bool", "b h w", "whether the normal is known"),
    "boundary": Key("bool", "b h w", "object boundary"),
    "saliency": Key("bool", "b h w", "salient foreground"),
    "proposals": Key("float32", "b p 4", "region proposals"),
    "proposal_valid": Key("bool", "b p", "whether the slot holds a proposal"),
}
"""What a batch may hold. A record is one example of it: the same keys without the axis ``b``."""

OUTPUTS: Mapping[str, Key] = {
    "logits": Key("float32", "b h w k", "class scores at image resolution (centre crop for valid convolutions)"),
    "aux_logits": Key("float32", "b h w k", "scores of an auxiliary head, training only; several: aux_logits_<which>"),
    "boxes": Key("float32", "b d 4", "detections, x0 y0 x1 y1"),
    "scores": Key("float32", "b d", "confidence of each detection"),
    "classes": Key("int32", "b d", "class of each detection"),
    "valid": Key("bool", "b d", "whether the slot holds a detection"),
    "masks": Key("float32", "b d m m", "box-relative mask probabilities"),
    "keypoints": Key("float32", "b d j 3", "x, y, score"),
    "depth": Key("float32", "b h w", "metres"),
    "normal": Key("float32", "b h w 3", "unit vectors"),
    "ab_logits": Key("float32", "b y x q", "scores of the quantised ab colours"),
}
"""What a network may return."""

PREDICTIONS: Mapping[str, Key] = {
    "label": Key("int32", "b h w", "most probable class of each pixel"),
    "probability": Key("float32", "b h w k", "class probabilities"),
}
"""What a task makes of a network's outputs."""
