"""Faster R-CNN: towards real-time object detection with region proposal networks (Ren et al. 2015, arXiv:1506.01497),
on a feature pyramid (Lin et al. 2017, arXiv:1612.03144).

A pyramid of maps; a region proposal network that picks boxes worth looking at; RoIAlign cuts each out of the level of
its size; a head names what is in it and corrects the box. From pixels to detections everything has a fixed shape:
proposals and detections lie in slots with a mask, and one compiled program holds all of it.

The geometry is torchvision's: rounded anchors, RoIAlign without the half-cell shift, two samples along a bin's side,
background as output 0. Its weights come in by :func:`torchvision_names`.
"""

from collections.abc import Mapping
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
from jaxseg.layers.standardize import IMAGENET, Standardize
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import torchvision_anchors
from jaxseg.ops.detections import detections
from jaxseg.ops.match import BELOW, match, sample
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.roi import roi_align
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

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w 3"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Any]:
        """Return detections of raw RGB images: ``boxes``, ``scores``, ``classes``, ``valid``, and ``rows``.

        Args:
          image: canvases; what is no image counts as the mean colour, as torchvision pads after standardising.
          size: rows and columns of each canvas that are image; None for all.
          targets: in training, ``boxes``, ``valid`` and, if there are any, ``crowd`` of the objects: regions are
            sampled by them, from the random stream "sample".
          train: return instead what losses are made of: ``objectness`` [b a], ``anchor_deltas`` [b a 4], ``anchors``
            [a 4], ``rois`` [b s 4], ``roi_valid`` [b s], ``roi_logits`` [b s k+1], ``roi_deltas`` [b s k+1 4].

        Besides, ``levels`` holds the pyramid's maps, finest first, and ``size`` the sizes, for more heads.
        """
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
        regions = self.cut(levels, rois, valid, side=7)
        vectors = self.box_head(regions, train=train)
        outputs = self.num_classes + 1
        roi_logits, roi_deltas = BoxPredictor(outputs, outputs, dtype=self.dtype, name="box_predictor")(vectors)
        shared = {"levels": levels, "size": size}
        if train:
            return {
                "objectness": logits,
                "anchor_deltas": deltas,
                "anchors": anchors,
                "rois": rois,
                "roi_valid": valid,
                "roi_logits": roi_logits,
                "roi_deltas": roi_deltas,
                **shared,
            }
        return {**self._detect(rois, valid, roi_logits, roi_deltas, size), **shared}

    def cut(
        self, levels: list[Map], rois: Float[Array, "b p 4"], valid: Bool[Array, "b p"], *, side: int
    ) -> Float[Array, "b p y x c"]:
        """Return ``side`` by ``side`` cells of each region from the level of its size."""
        finest = int(self.maps[0].removeprefix("c"))
        strides = [2 ** (finest + i) for i in range(self.roi_levels)]
        return roi_align(levels[: self.roi_levels], rois, valid, size=side, strides=strides, sampling_ratio=2)

    def cut_for_head(self, found: Mapping[str, Any], *, train: bool) -> Float[Array, "b p y x c"]:
        """Return 14 by 14 cells of each region that a further head looks at, from what this network returned.

        At test time these are the detections; in training the first sampled regions, those that may be positive.
        """
        if not train:
            return self.cut(found["levels"], found["boxes"], found["valid"], side=14)
        most = int(self.samples * self.positive_fraction)
        return self.cut(found["levels"], found["rois"][:, :most], found["roi_valid"][:, :most], side=14)

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
    num_classes: int,
    *,
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
    **fields: Any,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN of version 1 or 2 on a ResNet; ``fields`` are those of :class:`FasterRCNN`.

    Version 2 normalises pyramid and head, has two convolutions in the proposal network and four in the head
    (Li et al. 2021, arXiv:2111.11429).

    >>> on_resnet(50, 90, version=2).rpn.convs
    2
    """
    norm, frozen = ("none", "frozen") if version == 1 else ("batch", "batch")
    convs, units = ((), (dense, dense)) if version == 1 else ((features,) * 4, (dense,))
    return FasterRCNN(
        backbone=resnet.resnet(layers, width=width, standardize=standardize, dtype=dtype).clone(norm=frozen),
        fpn=FPN(features, norm=norm, dtype=dtype),
        rpn=RPNHead(features, convs=version, dtype=dtype),
        box_head=BoxHead(convs, units, norm=norm, dtype=dtype),
        num_classes=num_classes,
        dtype=dtype,
        **fields,
    )


def torchvision_names(prefix: str = "") -> Rules:
    r"""Return rules from torchvision's ``fasterrcnn_resnet50_fpn`` and ``_v2`` to paths under a prefix.

    >>> torchvision_names("detector/")[0]
    ('backbone\\.body\\.conv(\\d)\\.weight', 'detector/backbone/conv\\1/kernel')
    """
    body = tuple((rf"backbone\.body\.{t}", None if o is None else f"{prefix}backbone/{o}") for t, o in _BODY)
    return (
        *body,
        *torchvision_fpn_names(r"backbone\.fpn", f"{prefix}fpn"),
        *torchvision_rpn_names(r"rpn\.head", f"{prefix}rpn"),
        *torchvision_box_names("roi_heads", f"{prefix}box"),
        (r".*\.num_batches_tracked", None),
    )


_BODY = tuple((theirs, ours) for theirs, ours in resnet.TORCHVISION_NAMES if not theirs.startswith(".*"))
