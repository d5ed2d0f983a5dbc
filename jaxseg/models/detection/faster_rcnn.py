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
from jaxtyping import Array, Int, Shaped

from jaxseg.backbones import resnet
from jaxseg.errors import BadInput
from jaxseg.layers.fpn import FPN, detectron2_fpn_names, torchvision_fpn_names
from jaxseg.layers.roi_heads import BoxHead, detectron2_box_names, torchvision_box_names
from jaxseg.layers.rpn import Proposals, Proposing, RPNHead, detectron2_rpn_names, propose, torchvision_rpn_names
from jaxseg.layers.sampling import image_keys
from jaxseg.layers.standardize import MSRA, Standardize, statistics
from jaxseg.models.detection.fast_rcnn import RATIOS, FastRCNN, Map
from jaxseg.ops.anchors import detectron2_anchors, py_faster_rcnn_anchors, torchvision_anchors
from jaxseg.registry import register
from jaxseg.types import Rules


class FasterRCNN(FastRCNN, kw_only=True):
    """Faster R-CNN on any backbone with a pyramid: Fast R-CNN whose proposals a network of its own makes.

    Attributes:
      rpn: head of the proposal network; three anchors a cell for each size.
      anchors: "torchvision" for corners rounded to whole pixels, "detectron2" for exact ones, or "py_faster_rcnn".
      anchor_sizes: roots of the anchors' areas on each level, pixels.
      train_proposing: proposals in training.
      test_proposing: proposals at test time.
      proposal_backbone: of the proposal network, where it shares none: the first half of alternating training (section
        3.2). Without a pyramid.

    >>> model, image = on_resnet(18, 3, width=4, features=4, dense=8), jnp.zeros((2, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["valid"].shape
    ((2, 100, 4), (2, 100))
    """

    rpn: RPNHead
    anchors: str = "torchvision"
    anchor_sizes: tuple[tuple[int, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    train_proposing: Proposing = Proposing(2000, 2000)
    test_proposing: Proposing = Proposing(1000, 1000)
    proposal_backbone: nn.Module | None = None

    @property
    def conventions(self) -> str:
        """Whose weights fit: "torchvision", "detectron2" or "py_faster_rcnn"."""
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
          image: as :class:`FastRCNN` takes it.
          size: likewise.
          targets: likewise.
          train: return instead what losses are made of: what :class:`FastRCNN` returns, ``objectness`` [b a],
            ``anchor_deltas`` [b a 4], ``anchors`` [a 4], and with ``targets`` the random numbers by which anchors are
            sampled, ``anchor_luck`` [b a].
        """
        return self._find(image, size, targets, train=train)[0]

    def _find_in(
        self,
        canvas: Array,
        levels: list[Map],
        size: Array,
        targets: Mapping[str, Array] | None,
        given: Proposals | None = None,
        *,
        train: bool,
    ) -> tuple[dict[str, Array], list[Map], Array]:
        found, levels, regions = super()._find_in(canvas, levels, size, targets, given, train=train)
        if train and targets is not None:
            keys, count = image_keys(self.make_rng("sample"), targets), found["objectness"].shape[1:]
            found["anchor_luck"] = jax.vmap(lambda key: jax.random.uniform(key, count))(keys)
        return found, levels, regions

    def _propose(
        self, canvas: Array, levels: list[Map], size: Array, given: Proposals | None, *, train: bool
    ) -> tuple[Proposals, dict[str, Array]]:
        del given
        if self.proposal_backbone is not None:
            found = self.proposal_backbone(canvas, train=train)
            levels = [found[name] for name in self.maps]
        logits, deltas = self.rpn(levels)
        anchors, counts = self._anchors((canvas.shape[1], canvas.shape[2]), levels)
        how = self.train_proposing if train else self.test_proposing
        proposals = propose(logits, deltas, anchors, counts, size, how=how, coding=self.coding)
        return proposals, {"objectness": logits, "anchor_deltas": deltas, "anchors": anchors}

    def _anchors(self, canvas: tuple[int, int], levels: list[Map]) -> tuple[Array, tuple[int, ...]]:
        """Return the anchors, and how many each level has."""
        step = self.rpn.stride
        grids = [((x.shape[1] - 1) // step + 1, (x.shape[2] - 1) // step + 1) for x in levels]
        ratios = [RATIOS] * len(levels)
        if self.anchors == "torchvision":
            return torchvision_anchors(canvas, grids, self.anchor_sizes, ratios)
        strides = [step * self.finest_stride << i for i in range(len(levels))]
        if self.anchors == "detectron2":
            return detectron2_anchors(grids, strides, self.anchor_sizes, ratios)
        if self.anchors == "py_faster_rcnn":
            return py_faster_rcnn_anchors(grids, strides, self.anchor_sizes, ratios)
        known = "'torchvision', 'detectron2' and 'py_faster_rcnn'"
        raise BadInput(f"anchors {self.anchors!r} of Faster R-CNN; there are {known}")


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
