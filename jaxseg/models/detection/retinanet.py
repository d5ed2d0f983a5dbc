"""RetinaNet: focal loss for dense object detection (Lin et al. 2017, arXiv:1708.02002).

One stage: nine anchors in every cell of the pyramid's levels 3 to 7, and on each level the same two small networks, one
for classes and one for boxes. The geometry is torchvision's.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.canvas import mean_outside, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.fpn import FPN, torchvision_fpn_names
from jaxseg.layers.norm import make_norm
from jaxseg.layers.standardize import Standardize
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import torchvision_anchors
from jaxseg.ops.backend import map_images
from jaxseg.ops.nms import nms, top_k
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]

RATIOS = (0.5, 1.0, 2.0)

PRIOR = 0.01
"""Probability of an object that the last bias of the class network begins with (section 4.1)."""


def anchor_sizes(base: int) -> tuple[int, ...]:
    """Return the three sizes of a level: octave, and a third and two thirds above, whole pixels as in torchvision.

    >>> anchor_sizes(32)
    (32, 40, 50)
    """
    return tuple(int(base * 2 ** (i / 3)) for i in range(3))


class RetinaNet(nn.Module):
    """RetinaNet on any backbone.

    Attributes:
      backbone: gives ``maps``.
      fpn: the pyramid on them, with levels 6 and 7.
      num_classes: outputs of each anchor; torchvision's networks count an unused class 0.
      maps: backbone maps under the pyramid, finest first.
      head_norm: of the heads' convolutions: "none", or "group" in torchvision's second version.
      convs: convolutions of each head.
      smallest: root of the area of the least anchors, pixels; it doubles with each level.
      candidates: best boxes of each level that enter suppression.
      score_threshold: detections score above it.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      dtype: compute dtype.

    >>> model, image = on_resnet(18, 3, width=4, features=4), jnp.zeros((1, 64, 96, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["scores"].shape
    (1, 300)
    """

    backbone: nn.Module
    fpn: FPN
    num_classes: int = 91
    maps: tuple[str, ...] = ("c3", "c4", "c5")
    head_norm: str = "none"
    convs: int = 4
    smallest: int = 32
    candidates: int = 1000
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 300
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Any]:
        """Return detections of raw images: ``boxes``, ``scores``, ``classes``, ``valid``.

        Args:
          image: canvases; what is no image counts as the mean colour.
          size: rows and columns of each canvas that are image; None for all.
          targets: of no use to a network that samples no regions; taken so that one task serves both kinds.
          train: return instead ``class_logits`` [b a k], ``anchor_deltas`` [b a 4] and ``anchors`` [a 4].
        """
        del targets
        if size is None:
            size = whole(image)
        canvas = zeros_to_multiple(mean_outside(image, size, self.backbone.standardize), 32)
        found = self.backbone(canvas, train=train)
        levels = self.fpn([found[name] for name in self.maps], train=train)
        per_cell = 3 * len(RATIOS)
        options = {"convs": self.convs, "features": self.fpn.features, "norm": self.head_norm, "dtype": self.dtype}
        prior = -math.log((1 - PRIOR) / PRIOR)
        logits = Subnet(per_cell, self.num_classes, bias=prior, **options, name="class_head")(levels, train=train)
        deltas = Subnet(per_cell, 4, **options, name="box_head")(levels, train=train)
        grids = [(x.shape[1], x.shape[2]) for x in levels]
        sizes = [anchor_sizes(self.smallest << i) for i in range(len(levels))]
        canvas_size = (canvas.shape[1], canvas.shape[2])
        anchors, counts = torchvision_anchors(canvas_size, grids, sizes, [RATIOS] * len(levels))
        if train:
            return {"class_logits": logits, "anchor_deltas": deltas, "anchors": anchors}
        return self._detect(logits, deltas, anchors, counts, size)

    def _detect(
        self, logits: Array, deltas: Array, anchors: Array, counts: tuple[int, ...], size: Array
    ) -> dict[str, Array]:
        starts = [sum(counts[:i]) for i in range(len(counts))]
        k = self.num_classes

        def one(logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
            boxes, scores, classes, valid = [], [], [], []
            for start, count in zip(starts, counts, strict=True):
                level = slice(start, start + count)
                score = jax.nn.sigmoid(logits[level]).reshape(-1)
                best = top_k(score, min(self.candidates, count * k), valid=score > self.score_threshold)
                row = best.index // k
                found = box_ops.decode(deltas[level][row], anchors[level][row])
                boxes.append(box_ops.clip(found, size[0], size[1]))
                scores.append(best.value)
                classes.append(best.index % k)
                valid.append(best.valid)
            box, score, kind, there = (jnp.concatenate(x) for x in (boxes, scores, classes, valid))
            kept = nms(box, score, threshold=self.nms_threshold, count=self.detections, valid=there, classes=kind)
            return {
                "boxes": jnp.where(kept.valid[:, None], box[kept.index], 0),
                "scores": jnp.where(kept.valid, score[kept.index], 0),
                "classes": jnp.where(kept.valid, kind[kept.index], 0),
                "valid": kept.valid,
            }

        return map_images(one)(logits, deltas, size)


class Subnet(nn.Module):
    """Convolutions that every level shares, and a last one with ``outputs`` numbers for each anchor of a cell.

    >>> net, levels = Subnet(9, 4, features=2), [jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 2, 2, 2))]
    >>> jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), levels, train=False)[0]).shape
    (1, 180, 4)
    """

    anchors: int
    outputs: int
    bias: float = 0.0
    convs: int = 4
    features: int = 256
    norm: str = "none"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, levels: list[Map], *, train: bool) -> Float[Array, "b a q"]:
        """Return the numbers of all anchors, level by level, float32."""
        options = {"padding": 1, "kernel_init": nn.initializers.normal(0.01), "dtype": self.dtype}
        biased = self.norm == "none"
        convs = [Conv(self.features, 3, use_bias=biased, **options, name=f"conv{i}") for i in range(self.convs)]
        norms = [make_norm(self.norm)(dtype=self.dtype, name=f"conv{i}_norm") for i in range(self.convs)]
        start = nn.initializers.constant(self.bias)
        last = Conv(self.anchors * self.outputs, 3, bias_init=start, **options, name="last")
        found = []
        for x in levels:
            for conv, norm in zip(convs, norms, strict=True):
                x = jax.nn.relu(norm(conv(x), train=train))
            found.append(last(x).reshape(x.shape[0], -1, self.outputs))
        return jnp.concatenate(found, 1).astype(jnp.float32)


def on_resnet(
    layers: int,
    num_classes: int = 91,
    *,
    version: int = 1,
    width: int = 64,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> RetinaNet:
    """Return torchvision's RetinaNet of version 1 or 2 on a ResNet.

    Version 2 normalises the backbone and, by groups, the heads, and takes level 6 from c5.

    >>> on_resnet(50).fpn.extra
    'p6p7_from_p5'
    """
    backbone = resnet.resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    extra, head_norm, norm = ("p6p7_from_p5", "none", "frozen") if version == 1 else ("p6p7_from_c5", "group", "batch")
    return RetinaNet(
        backbone=backbone.clone(norm=norm),
        fpn=FPN(features, extra=extra, dtype=dtype),
        num_classes=num_classes,
        head_norm=head_norm,
        dtype=dtype,
    )


def _head_names(theirs: str, last: str, ours: str) -> Rules:
    leaves = (("weight", "kernel"), ("bias", "bias"))
    conv = rf"head\.{theirs}\.conv\.(\d)"
    rules: list[tuple[str, str | None]] = []
    rules += [(rf"{conv}\.0\.{leaf}", rf"{ours}/conv\1/{target}") for leaf, target in leaves]
    rules += [(rf"{conv}\.1\.{leaf}", rf"{ours}/conv\1_norm/{leaf.replace('weight', 'scale')}") for leaf, _ in leaves]
    # Before version 0.13 convolutions and activations were numbered in one row.
    for i in range(4):
        rules += [(rf"head\.{theirs}\.conv\.{2 * i}\.{leaf}", f"{ours}/conv{i}/{target}") for leaf, target in leaves]
    rules += [(rf"head\.{theirs}\.{last}\.{leaf}", f"{ours}/last/{target}") for leaf, target in leaves]
    return tuple(rules)


TORCHVISION_NAMES: Rules = (
    *((rf"backbone\.body\.{t}", o and f"backbone/{o}") for t, o in resnet.TORCHVISION_NAMES if not t.startswith(".*")),
    *torchvision_fpn_names(r"backbone\.fpn", "fpn"),
    *_head_names("classification_head", "cls_logits", "class_head"),
    *_head_names("regression_head", "bbox_reg", "box_head"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's ``retinanet_resnet50_fpn`` and ``_v2``."""

_register = partial(
    register,
    task="detection",
    paper="arXiv:1708.02002",
    names={"torchvision": TORCHVISION_NAMES},
    small={
        "width": 8,
        "features": 32,
        "convs": 2,
        "backbone.depths": (1, 1, 1, 1),
        "smallest": 8,
        "candidates": 64,
        "detections": 20,
    },
)

retinanet_resnet50_fpn = _register(
    name="retinanet_resnet50_fpn",
    summary="RetinaNet on ResNet-50, as torchvision has it.",
    params=34_014_999,
)(partial(on_resnet, 50))

retinanet_resnet50_fpn_v2 = _register(
    name="retinanet_resnet50_fpn_v2",
    summary="The same with normalised backbone and heads, and level 6 from c5.",
    params=38_198_935,
)(partial(on_resnet, 50, version=2))

retinanet_resnet101_fpn = _register(name="retinanet_resnet101_fpn", summary="RetinaNet on ResNet-101.")(
    partial(on_resnet, 101)
)
