"""Faster R-CNN: towards real-time object detection with region proposal networks (Ren et al. 2015, arXiv:1506.01497),
on a feature pyramid (Lin et al. 2017, arXiv:1612.03144).

A pyramid of maps; a region proposal network that picks boxes worth looking at; RoIAlign cuts each out of the level of
its size; a head names what is in it and corrects the box. From pixels to detections everything has a fixed shape:
proposals and detections lie in slots with a mask, and one compiled program holds all of it.

The geometry is torchvision's by default: rounded anchors, RoIAlign without the half-cell shift, two samples along a
bin's side. ``anchors``, ``aligned``, ``sampling_ratio``, ``level_epsilon`` and ``coded_background`` give detectron2's.
Background is output 0 in both: rules of detectron2, which has it last, turn the arrays.

``shared_head`` makes it the paper's network on one map (C4): what follows the map runs on every region.
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
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import mean_outside
from jaxseg.layers.fpn import FPN, detectron2_fpn_names, torchvision_fpn_names
from jaxseg.layers.roi_heads import BoxHead, BoxPredictor, detectron2_box_names, torchvision_box_names
from jaxseg.layers.rpn import Proposals, Proposing, RPNHead, detectron2_rpn_names, propose, torchvision_rpn_names
from jaxseg.layers.standardize import MSRA, Standardize, statistics
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import detectron2_anchors, torchvision_anchors
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections
from jaxseg.ops.match import BELOW, match, sample
from jaxseg.ops.pad import zeros_to_multiple
from jaxseg.ops.roi import pyramid_levels, roi_align
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]

RATIOS = (0.5, 1.0, 2.0)


class FasterRCNN(nn.Module):
    """Faster R-CNN on any backbone with a pyramid.

    Attributes:
      backbone: gives ``maps``.
      rpn: head of the proposal network; three anchors a cell for each size.
      box_head: of the regions.
      fpn: the pyramid on the maps; None for the maps themselves.
      shared_head: what boxes and masks both see of a region; None for the region itself.
      num_classes: without background.
      maps: backbone maps under the pyramid, finest first.
      finest_stride: of the finest level, pixels; it doubles with each.
      roi_levels: levels that regions are cut from.
      side: rows and columns of cells that the box head has of a region.
      multiple: canvases are padded to multiples of it.
      anchors: "torchvision" for corners rounded to whole pixels, or "detectron2" for exact ones.
      anchor_sizes: roots of the anchors' areas on each level, pixels.
      aligned: whether RoIAlign subtracts half a cell.
      sampling_ratio: samples along a bin's side; 0 for as many as it has cells.
      level_epsilon: by which regions may fall short of the next level.
      coded_background: whether background has a box code, never used, as in torchvision.
      train_proposing: proposals in training.
      test_proposing: proposals at test time.
      samples: regions of an image that the head is trained on.
      positive_fraction: of them that may be objects.
      score_threshold: detections score above it.
      min_size: least width and height of detections, pixels.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      dtype: compute dtype.

    >>> model, image = on_resnet(18, 3, width=4, features=4, dense=8), jnp.zeros((2, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["valid"].shape
    ((2, 100, 4), (2, 100))
    """

    backbone: nn.Module
    rpn: RPNHead
    box_head: BoxHead
    fpn: FPN | None = None
    shared_head: nn.Module | None = None
    num_classes: int = 90
    maps: tuple[str, ...] = ("c2", "c3", "c4", "c5")
    finest_stride: int = 4
    roi_levels: int = 4
    side: int = 7
    multiple: int = 32
    anchors: str = "torchvision"
    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    aligned: bool = False
    sampling_ratio: int = 2
    level_epsilon: float = 1e-6
    coded_background: bool = True
    train_proposing: Proposing = Proposing(2000, 2000)
    test_proposing: Proposing = Proposing(1000, 1000)
    samples: int = 512
    positive_fraction: float = 0.25
    score_threshold: float = 0.05
    min_size: float = 1e-2
    nms_threshold: float = 0.5
    detections: int = 100
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @property
    def conventions(self) -> str:
        """Whose weights fit: "torchvision" or "detectron2"."""
        return self.anchors

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
            sampled by them, from the random stream "sample", and by ``index``, the images' numbers, where it is given:
            then what is drawn does not depend on how a batch is spread over devices.
          train: return instead what losses are made of: ``objectness`` [b a], ``anchor_deltas`` [b a 4], ``anchors``
            [a 4], ``rois`` [b s 4], ``roi_valid`` and ``roi_positive`` [b s], ``roi_logits`` [b s k+1], ``roi_deltas``
            [b s k+1 4], and with ``targets`` the random numbers by which anchors are sampled, ``anchor_luck`` [b a].
        """
        return self._find(image, size, targets, train=train)[0]

    def _find(
        self, image: Array, size: Array | None, targets: Mapping[str, Array] | None, *, train: bool
    ) -> tuple[dict[str, Array], list[Map], Array]:
        """Return what ``__call__`` does, and for more heads the levels' maps and the regions that the box head saw."""
        height, width = image.shape[1:3]
        if size is None:
            size = jnp.broadcast_to(jnp.asarray([height, width], jnp.int32), (image.shape[0], 2))
        canvas = zeros_to_multiple(mean_outside(image, size, self.backbone.standardize), self.multiple)
        found = self.backbone(canvas, train=train)
        levels = [found[name] for name in self.maps]
        levels = levels if self.fpn is None else self.fpn(levels, train=train)
        logits, deltas = self.rpn(levels)
        anchors, counts = self._anchors((canvas.shape[1], canvas.shape[2]), levels)
        how = self.train_proposing if train else self.test_proposing
        proposals = propose(logits, deltas, anchors, counts, size, how=how)
        rois, valid = proposals.boxes, proposals.valid
        positive = valid
        if train and targets is not None:
            rois, valid, positive = self._sample(proposals, targets)
        regions = self._regions(levels, rois, valid, self.side, train=train)
        outputs, coded = self.num_classes + 1, self.num_classes + self.coded_background
        predictor = BoxPredictor(outputs, coded, dtype=self.dtype, name="box_predictor")
        roi_logits, roi_deltas = predictor(self.box_head(regions, valid, train=train))
        roi_deltas = jnp.pad(roi_deltas, ((0, 0), (0, 0), (outputs - coded, 0), (0, 0)))
        if not train:
            return self._detect(rois, valid, roi_logits, roi_deltas, size), levels, regions
        of_anchors = {"objectness": logits, "anchor_deltas": deltas, "anchors": anchors}
        if targets is not None:
            keys = self._keys(targets)
            of_anchors["anchor_luck"] = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:]))(keys)
        of_rois = {
            "rois": rois,
            "roi_valid": valid,
            "roi_positive": positive,
            "roi_logits": roi_logits,
            "roi_deltas": roi_deltas,
        }
        return of_anchors | of_rois, levels, regions

    def _anchors(self, canvas: tuple[int, int], levels: list[Map]) -> tuple[Array, tuple[int, ...]]:
        """Return the anchors, and how many each level has."""
        grids = [(x.shape[1], x.shape[2]) for x in levels]
        ratios = [RATIOS] * len(levels)
        if self.anchors == "torchvision":
            return torchvision_anchors(canvas, grids, self.anchor_sizes, ratios)
        if self.anchors == "detectron2":
            strides = [self.finest_stride << i for i in range(len(levels))]
            return detectron2_anchors(grids, strides, self.anchor_sizes, ratios)
        raise BadInput(f"anchors {self.anchors!r} of Faster R-CNN; there are 'torchvision' and 'detectron2'")

    def _regions(
        self, levels: list[Map], rois: Float[Array, "b p 4"], valid: Bool[Array, "b p"], side: int, *, train: bool
    ) -> Float[Array, "b p _ _ _"]:
        """Return ``side`` by ``side`` cells of each region from the level of its size, through the shared head."""
        first, count = self.finest_stride.bit_length() - 1, self.roi_levels
        regions = roi_align(
            levels[:count],
            rois,
            valid,
            size=side,
            strides=[self.finest_stride << i for i in range(count)],
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            levels=pyramid_levels(rois, count, first_level=first, epsilon=self.level_epsilon),
        )
        return regions if self.shared_head is None else self.shared_head(regions, train=train)

    def _regions_for_head(
        self, found: Mapping[str, Array], levels: list[Map], regions: Array, *, train: bool
    ) -> Float[Array, "b p _ _ _"]:
        """Return 14 by 14 cells, before a shared head, of each region that a further head looks at.

        At test time these are the detections; in training the first sampled regions, those that may be positive.
        """
        if not train:
            return self._regions(levels, found["boxes"], found["valid"], 14, train=train)
        most = int(self.samples * self.positive_fraction)
        if self.shared_head is not None:
            return regions[:, :most]
        return self._regions(levels, found["rois"][:, :most], found["roi_valid"][:, :most], 14, train=train)

    def _sample(self, proposals: Proposals, targets: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Draw regions to train the heads on, among them the objects' own boxes.

        Returns:
          The regions, those that cover an object first; which there are; and which cover an object.
        """
        objects = targets["valid"]
        if "crowd" in targets:
            objects = objects & ~targets["crowd"]
        boxes = jnp.concatenate([proposals.boxes, targets["boxes"]], axis=1)
        there = jnp.concatenate([proposals.valid, objects], axis=1)

        def one(key: Array, boxes: Array, there: Array, truth: Array, objects: Array) -> tuple[Array, Array, Array]:
            index = match(truth, objects, boxes, high=0.5, low=0.5, anchor_valid=there).index
            drawn = sample(key, index >= 0, index == BELOW, count=self.samples, fraction=self.positive_fraction)
            return jnp.where(drawn.valid[:, None], boxes[drawn.index], 0), drawn.valid, drawn.positive

        rois, valid, positive = jax.vmap(one)(self._keys(targets), boxes, there, targets["boxes"], objects)
        return jax.lax.stop_gradient(rois), valid, positive

    def _keys(self, targets: Mapping[str, Array]) -> Array:
        """Return a key for each image, by its number in the data set or else in the batch."""
        rows = jnp.arange(len(targets["valid"]), dtype=jnp.uint32)
        numbers = targets["index"].astype(jnp.uint32) if "index" in targets else rows
        return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.make_rng("sample"), numbers)

    def _detect(self, rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
        find = partial(
            detections,
            score_threshold=self.score_threshold,
            min_size=self.min_size,
            nms_threshold=self.nms_threshold,
            count=self.detections,
            slots=min(2000, rois.shape[1] * self.num_classes),
        )

        def one(rois: Array, valid: Array, logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
            scores = jax.nn.softmax(logits, axis=-1)[:, 1:]
            boxes = box_ops.decode(deltas[:, 1:], rois[:, None], box_ops.REGION_WEIGHTS)
            best = find(box_ops.clip(boxes, size[0], size[1]), scores, valid=valid)
            return {k: v for k, v in best._asdict().items() if k in ("boxes", "scores", "classes", "valid", "exact")}

        return map_images(one)(rois, valid, logits, deltas, size)


DETECTRON2: Mapping[str, Any] = {
    "anchors": "detectron2",
    "aligned": True,
    "sampling_ratio": 0,
    "level_epsilon": 0.0,
    "coded_background": False,
    "train_proposing": Proposing(2000, 1000, min_size=1e-30),
    "test_proposing": Proposing(1000, 1000, min_size=1e-30),
    "min_size": 0.0,
}
"""Fields of a network on a pyramid as detectron2 has it; a proposal has any area but none."""

X101 = Standardize((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), order="bgr")
"""Statistics of pixels of detectron2's ResNeXt-101."""


def detectron2_resnet(
    layers: int,
    *,
    width: int = 64,
    groups: int = 1,
    width_per_group: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> resnet.ResNet:
    """Return the backbone as detectron2 has it: frozen BatchNorm, and for groups of 1 MSRA's stride and statistics.

    >>> detectron2_resnet(50).stride_on, detectron2_resnet(101, groups=32, width_per_group=8).stride_on
    ('1x1', '3x3')
    """
    backbone = resnet.resnet(
        layers,
        width=width,
        groups=groups,
        width_per_group=width_per_group,
        stride_on="1x1" if groups == 1 else "3x3",
        in_channels=in_channels,
        standardize=statistics(standardize, MSRA if groups == 1 else X101, in_channels),
        dtype=dtype,
    )
    return backbone.clone(norm="frozen")


def on_resnet(
    layers: int,
    num_classes: int | None = None,
    *,
    conventions: str = "torchvision",
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN of version 1 or 2 on a ResNet, or detectron2's.

    Version 2 normalises pyramid and head, has two convolutions in the proposal network and four in the head
    (Li et al. 2021, arXiv:2111.11429). Without ``num_classes`` it has COCO's: torchvision counts 90, ten of them never
    used, detectron2 80.

    >>> on_resnet(50, version=2).rpn.convs, on_resnet(50, conventions="detectron2").num_classes
    (2, 80)

    Raises:
      BadInput: other conventions, or version 2 of detectron2's.
    """
    options: dict[str, Any] = {"width": width, "in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    if conventions not in CONVENTIONS or (conventions == "detectron2" and version != 1):
        told = "version 2 is torchvision's" if conventions in CONVENTIONS else f"conventions {conventions!r}"
        raise BadInput(f"{told}; conventions of Faster R-CNN are {' and '.join(map(repr, CONVENTIONS))}")
    if conventions == "detectron2":
        backbone = detectron2_resnet(layers, **options)
        return in_detectron2(backbone, num_classes, features=features, dense=dense, dtype=dtype)
    backbone = resnet.resnet(layers, **options)
    norm, frozen = ("none", "frozen") if version == 1 else ("batch", "batch")
    convs, units = ((), (dense, dense)) if version == 1 else ((features,) * 4, (dense,))
    return FasterRCNN(
        backbone=backbone.clone(norm=frozen),
        fpn=FPN(features, norm=norm, dtype=dtype),
        rpn=RPNHead(features, convs=version, dtype=dtype),
        box_head=BoxHead(convs, units, norm=norm, dtype=dtype),
        num_classes=90 if num_classes is None else num_classes,
        dtype=dtype,
    )


CONVENTIONS = ("torchvision", "detectron2")


def in_detectron2(
    backbone: nn.Module,
    num_classes: int | None = None,
    *,
    features: int = 256,
    dense: int = 1024,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return detectron2's Faster R-CNN on a backbone.

    >>> in_detectron2(detectron2_resnet(101, groups=32, width_per_group=8)).num_classes
    80
    """
    return FasterRCNN(
        backbone=backbone,
        fpn=FPN(features, dtype=dtype),
        rpn=RPNHead(features, dtype=dtype),
        box_head=BoxHead((), (dense, dense), dtype=dtype),
        num_classes=80 if num_classes is None else num_classes,
        dtype=dtype,
        **DETECTRON2,
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

_BODY2 = tuple((theirs, ours and f"backbone/{ours}") for theirs, ours in resnet.DETECTRON2_NAMES if "fc" not in theirs)

DETECTRON2_NAMES: Rules = (
    *((rf"backbone\.bottom_up\.{theirs}", ours) for theirs, ours in _BODY2 if ours),
    *detectron2_fpn_names("backbone", "fpn"),
    *detectron2_rpn_names("proposal_generator", "rpn"),
    *detectron2_box_names("roi_heads", "box"),
    (r"pixel_(mean|std)|.*\.num_batches_tracked", None),
)
"""Rules from detectron2's ``faster_rcnn_R_50_FPN_3x`` and others."""

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

NAMES = {"torchvision": TORCHVISION_NAMES, "detectron2": DETECTRON2_NAMES}

_register = partial(register, task="detection", paper="arXiv:1506.01497", names=NAMES, small=SMALL)

faster_rcnn_resnet50_fpn = _register(
    name="faster_rcnn_resnet50_fpn",
    summary="Faster R-CNN on a feature pyramid of ResNet-50, as torchvision has it.",
    params=41_755_286,
)(partial(on_resnet, 50))

faster_rcnn_resnet50_fpn_v2 = _register(
    name="faster_rcnn_resnet50_fpn_v2",
    names={"torchvision": TORCHVISION_NAMES},
    summary="The same with normalised pyramid and head, and deeper heads.",
    params=43_712_278,
)(partial(on_resnet, 50, version=2))

faster_rcnn_resnet101_fpn = _register(
    name="faster_rcnn_resnet101_fpn",
    summary="Faster R-CNN on a feature pyramid of ResNet-101, as detectron2 has it.",
)(partial(on_resnet, 101, conventions="detectron2"))
