"""Faster R-CNN: towards real-time object detection with region proposal networks (Ren et al. 2015, arXiv:1506.01497),
on a feature pyramid (Lin et al. 2017, arXiv:1612.03144).

A pyramid of maps; a region proposal network that picks boxes worth looking at; RoIAlign cuts each out of the level of
its size; a head names what is in it and corrects the box. From pixels to detections everything has a fixed shape:
proposals and detections lie in slots with a mask, and one compiled program holds all of it.

The geometry is torchvision's: rounded anchors, RoIAlign without the half-cell shift, two samples along a bin's side,
background as output 0.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.canvas import mean_outside
from jaxseg.layers.fpn import FPN, torchvision_fpn_names
from jaxseg.layers.roi_heads import BoxHead, BoxPredictor, torchvision_box_names
from jaxseg.layers.rpn import Proposals, Proposing, RPNHead, propose, torchvision_rpn_names
from jaxseg.layers.standardize import Standardize
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import torchvision_anchors
from jaxseg.ops.detections import detections
from jaxseg.ops.match import BELOW, match, sample
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.roi import roi_align
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]

RATIOS = (0.5, 1.0, 2.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of the box codes of the second stage."""


class FasterRCNN(nn.Module):
    """Faster R-CNN on any backbone with a pyramid.

    Attributes:
      backbone: gives ``maps``.
      fpn: the pyramid on them.
      rpn: its head; three anchors a cell for each size.
      box_head: of the regions.
      num_classes: without background.
      maps: backbone maps under the pyramid, finest first.
      roi_levels: levels of the pyramid that regions are cut from.
      anchor_sizes: roots of the anchors' areas on each level, pixels.
      train_proposing: proposals in training.
      test_proposing: proposals at test time.
      samples: regions of an image that the head is trained on.
      positive_fraction: of them that may be objects.
      score_threshold: detections score above it.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      dtype: compute dtype.

    >>> model, image = on_resnet(18, 3, width=4, features=4, dense=8), jnp.zeros((2, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["valid"].shape
    ((2, 100, 4), (2, 100))
    """

    backbone: nn.Module
    fpn: FPN
    rpn: RPNHead
    box_head: BoxHead
    num_classes: int = 90
    maps: tuple[str, ...] = ("c2", "c3", "c4", "c5")
    roi_levels: int = 4
    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    train_proposing: Proposing = Proposing(2000, 2000)
    test_proposing: Proposing = Proposing(1000, 1000)
    samples: int = 512
    positive_fraction: float = 0.25
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
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
    ) -> dict[str, Array]:
        """Return detections of raw images: ``boxes``, ``scores``, ``classes``, ``valid``, and ``exact``.

        Args:
          image: canvases; what is no image counts as the mean colour, as torchvision pads after standardising.
          size: rows and columns of each canvas that are image; None for all.
          targets: in training, ``boxes``, ``valid`` and, if there are any, ``crowd`` of the objects: regions are
            sampled by them, from the random stream "sample".
          train: return instead what losses are made of: ``objectness`` [b a], ``anchor_deltas`` [b a 4], ``anchors``
            [a 4], ``rois`` [b s 4], ``roi_valid`` [b s], ``roi_logits`` [b s k+1], ``roi_deltas`` [b s k+1 4], and with
            ``targets`` the random numbers by which anchors are sampled, ``anchor_luck`` [b a].
        """
        return self._find(image, size, targets, train=train)[0]

    def _find(
        self, image: Array, size: Array | None, targets: Mapping[str, Array] | None, *, train: bool
    ) -> tuple[dict[str, Array], list[Map]]:
        """Return what ``__call__`` does, and the pyramid's maps, finest first, for more heads."""
        height, width = image.shape[1:3]
        if size is None:
            size = jnp.broadcast_to(jnp.asarray([height, width], jnp.int32), (image.shape[0], 2))
        canvas = zeros_to_multiple(mean_outside(image, size, self.backbone.standardize), 32)
        found = self.backbone(canvas, train=train)
        levels = self.fpn([found[name] for name in self.maps], train=train)
        logits, deltas = self.rpn(levels)
        grids = [(x.shape[1], x.shape[2]) for x in levels]
        canvas_size = (canvas.shape[1], canvas.shape[2])
        anchors, counts = torchvision_anchors(canvas_size, grids, self.anchor_sizes, [RATIOS] * len(levels))
        how = self.train_proposing if train else self.test_proposing
        proposals = propose(logits, deltas, anchors, counts, size, how=how)
        rois, valid = proposals.boxes, proposals.valid
        if train and targets is not None:
            rois, valid = self._sample(proposals, targets)
        vectors = self.box_head(self._cut(levels, rois, valid, side=7), train=train)
        outputs = self.num_classes + 1
        roi_logits, roi_deltas = BoxPredictor(outputs, outputs, dtype=self.dtype, name="box_predictor")(vectors)
        if not train:
            return self._detect(rois, valid, roi_logits, roi_deltas, size), levels
        of_anchors = {"objectness": logits, "anchor_deltas": deltas, "anchors": anchors}
        if targets is not None:
            of_anchors["anchor_luck"] = jax.random.uniform(self.make_rng("sample"), logits.shape)
        of_rois = {"rois": rois, "roi_valid": valid, "roi_logits": roi_logits, "roi_deltas": roi_deltas}
        return of_anchors | of_rois, levels

    def _cut(
        self, levels: list[Map], rois: Float[Array, "b p 4"], valid: Bool[Array, "b p"], *, side: int
    ) -> Float[Array, "b p y x c"]:
        """Return ``side`` by ``side`` cells of each region from the level of its size."""
        finest = int(self.maps[0].removeprefix("c"))
        strides = [2 ** (finest + i) for i in range(self.roi_levels)]
        return roi_align(levels[: self.roi_levels], rois, valid, size=side, strides=strides, sampling_ratio=2)

    def _cut_for_head(self, found: Mapping[str, Array], levels: list[Map], *, train: bool) -> Float[Array, "b p y x c"]:
        """Return 14 by 14 cells of each region that a further head looks at, from what this network returned.

        At test time these are the detections; in training the first sampled regions, those that may be positive.
        """
        if not train:
            return self._cut(levels, found["boxes"], found["valid"], side=14)
        most = int(self.samples * self.positive_fraction)
        return self._cut(levels, found["rois"][:, :most], found["roi_valid"][:, :most], side=14)

    def _sample(self, proposals: Proposals, targets: Mapping[str, Array]) -> tuple[Array, Array]:
        """Draw regions to train the heads on, positives first; the objects' own boxes are among the candidates."""
        objects = targets["valid"]
        if "crowd" in targets:
            objects = objects & ~targets["crowd"]
        boxes = jnp.concatenate([proposals.boxes, targets["boxes"]], axis=1)
        there = jnp.concatenate([proposals.valid, objects], axis=1)

        def one(key: Array, boxes: Array, there: Array, truth: Array, objects: Array) -> tuple[Array, Array]:
            index = match(truth, objects, boxes, high=0.5, low=0.5, anchor_valid=there).index
            drawn = sample(key, index >= 0, index == BELOW, count=self.samples, fraction=self.positive_fraction)
            return jnp.where(drawn.valid[:, None], boxes[drawn.index], 0), drawn.valid

        keys = jax.random.split(self.make_rng("sample"), boxes.shape[0])
        rois, valid = jax.vmap(one)(keys, boxes, there, targets["boxes"], objects)
        return jax.lax.stop_gradient(rois), valid

    def _detect(self, rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
        find = partial(
            detections,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            count=self.detections,
            slots=min(2000, rois.shape[1] * self.num_classes),
        )

        def one(rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
            scores = jax.nn.softmax(logits, axis=-1)[:, 1:]
            boxes = box_ops.decode(deltas[:, 1:], rois[:, None], BOX_WEIGHTS)
            best = find(box_ops.clip(boxes, size[0], size[1]), scores, valid=valid)
            return {k: v for k, v in best._asdict().items() if k in ("boxes", "scores", "classes", "valid", "exact")}

        return jax.vmap(one)(rois, valid, logits, deltas, size)


def on_resnet(
    layers: int,
    num_classes: int = 90,
    *,
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN of version 1 or 2 on a ResNet.

    Version 2 normalises pyramid and head, has two convolutions in the proposal network and four in the head
    (Li et al. 2021, arXiv:2111.11429).

    >>> on_resnet(50, version=2).rpn.convs
    2
    """
    backbone = resnet.resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    norm, frozen = ("none", "frozen") if version == 1 else ("batch", "batch")
    convs, units = ((), (dense, dense)) if version == 1 else ((features,) * 4, (dense,))
    return FasterRCNN(
        backbone=backbone.clone(norm=frozen),
        fpn=FPN(features, norm=norm, dtype=dtype),
        rpn=RPNHead(features, convs=version, dtype=dtype),
        box_head=BoxHead(convs, units, norm=norm, dtype=dtype),
        num_classes=num_classes,
        dtype=dtype,
    )


def fields_of(model: FasterRCNN) -> dict[str, Any]:
    """Return the fields of a network, for one that has a further head.

    >>> FasterRCNN(**fields_of(on_resnet(50))) == on_resnet(50)
    True
    """
    return {field.name: getattr(model, field.name) for field in fields(model) if field.name not in ("parent", "name")}


_BODY = tuple((theirs, ours and f"backbone/{ours}") for theirs, ours in resnet.TORCHVISION_NAMES if theirs[0] != ".")

TORCHVISION_NAMES: Rules = (
    *((rf"backbone\.body\.{theirs}", ours) for theirs, ours in _BODY),
    *torchvision_fpn_names(r"backbone\.fpn", "fpn"),
    *torchvision_rpn_names(r"rpn\.head", "rpn"),
    *torchvision_box_names("roi_heads", "box"),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's ``fasterrcnn_resnet50_fpn`` and ``_v2``."""

SMALL: Mapping[str, Any] = {
    "width": 8,
    "features": 32,
    "dense": 64,
    "backbone.depths": (1, 1, 1, 1),
    "anchor_sizes": ((8,), (16,), (32,), (64,), (128,)),
    "train_proposing": Proposing(128, 64),
    "test_proposing": Proposing(128, 64),
    "samples": 64,
    "detections": 20,
}
"""The small variants: one block a stage, few channels, anchors for images of 64 to 128 pixels."""

_register = partial(
    register, task="detection", paper="arXiv:1506.01497", names={"torchvision": TORCHVISION_NAMES}, small=SMALL
)

faster_rcnn_resnet50_fpn = _register(
    name="faster_rcnn_resnet50_fpn",
    summary="Faster R-CNN on a feature pyramid of ResNet-50, as torchvision has it.",
    params=41_755_286,
)(partial(on_resnet, 50))

faster_rcnn_resnet50_fpn_v2 = _register(
    name="faster_rcnn_resnet50_fpn_v2",
    summary="The same with normalised pyramid and head, and deeper heads.",
    params=43_712_278,
)(partial(on_resnet, 50, version=2))

faster_rcnn_resnet101_fpn = _register(
    name="faster_rcnn_resnet101_fpn",
    summary="Faster R-CNN on a feature pyramid of ResNet-101.",
)(partial(on_resnet, 101))
