"""Losses of detectors: anchors and regions are matched with the objects, and what the heads say of them is compared.

A two-stage network returns the regions that it sampled and the numbers by which anchors are to be sampled. Everything
lies in fixed slots, one image at a time under ``vmap``, and comes back as sums and counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses import binary_cross_entropy, smooth_l1, softmax_cross_entropy
from jaxseg.ops import boxes as box_ops
from jaxseg.ops import codings
from jaxseg.ops.keypoints import keypoint_targets
from jaxseg.ops.masks import crop_instances
from jaxseg.ops.match import BELOW, BETWEEN, match, sample_by, within_crowd
from jaxseg.tasks.protocol import Batch, Outputs, Term


@dataclass(frozen=True)
class ProposalLoss:
    """Loss of a region proposal network (Ren et al. 2015, arXiv:1506.01497, section 3.1.2).

    The defaults are torchvision's; detectron2's are :data:`DETECTRON2_PROPOSAL_LOSS`.

    Attributes:
      high: overlap from which an anchor stands for an object; so do each object's best anchors.
      low: overlap below which it is background.
      samples: anchors of an image that the loss is taken over.
      positive_fraction: of them that may be objects.
      beta: of the smooth L1 loss of the codes; 0 is L1.
      divide_by: ``"sampled"`` anchors, or all the ``"slots"`` for them.
      crowd_overlap: share of an anchor's area from which a crowd around it keeps it from being background.
      inside: whether only anchors that lie in the image take part, as in the paper.
      weight: factor of both terms.

    >>> ProposalLoss().samples
    256

    Raises:
      BadInput: ``divide_by`` is neither.
    """

    high: float = 0.7
    low: float = 0.3
    samples: int = 256
    positive_fraction: float = 0.5
    beta: float = 1 / 9
    divide_by: Literal["sampled", "slots"] = "sampled"
    crowd_overlap: float = 0.7
    inside: bool = False
    weight: float = 1.0

    def __post_init__(self):
        if self.divide_by not in ("sampled", "slots"):
            raise BadInput(f"the proposal loss is divided by 'sampled' or 'slots', not {self.divide_by!r}")


@dataclass(frozen=True)
class RegionLoss:
    """Loss of the second stage: class and box (Girshick 2015, arXiv:1504.08083, section 2.3).

    The defaults are torchvision's; detectron2's are :data:`DETECTRON2_REGION_LOSS`, the papers'
    :data:`FAST_RCNN_REGION_LOSS` and :data:`FASTER_RCNN_REGION_LOSS`.

    Attributes:
      overlap: from which a region stands for an object; at least 0.5, by which networks sample.
      beta: of the smooth L1 loss of the codes; 0 is L1.
      coding: of boxes as the network has it, see :mod:`jaxseg.ops.codings`.
      weight: factor of both terms.

    >>> RegionLoss(beta=1.0).overlap
    0.5

    Raises:
      BadInput: ``overlap`` is less.
    """

    overlap: float = 0.5
    beta: float = 1 / 9
    coding: str = codings.HALF_OPEN
    weight: float = 1.0

    def __post_init__(self):
        if self.overlap < 0.5:
            raise BadInput(f"regions that overlap an object by {self.overlap} are sampled as background: at least 0.5")


DETECTRON2_PROPOSAL_LOSS = ProposalLoss(beta=0.0, divide_by="slots")
DETECTRON2_REGION_LOSS = RegionLoss(beta=0.0)
FASTER_RCNN_PROPOSAL_LOSS = ProposalLoss(inside=True)
FASTER_RCNN_REGION_LOSS = RegionLoss(beta=1.0, coding=codings.INCLUSIVE)
FAST_RCNN_REGION_LOSS = RegionLoss(beta=1.0, coding=codings.CORNERS)

STAGE_LOSSES: Mapping[str, Mapping[str, Any]] = {
    codings.HALF_OPEN: {},
    codings.INCLUSIVE: {"proposal_loss": FASTER_RCNN_PROPOSAL_LOSS, "region_loss": FASTER_RCNN_REGION_LOSS},
    codings.CORNERS: {"region_loss": FAST_RCNN_REGION_LOSS},
}
"""Losses of a task for networks of two stages by the coding of their boxes."""


def targets_of(batch: Batch) -> dict[str, Array]:
    """Return what networks and losses see of the truth: ``boxes``, ``valid``, ``crowd``, and ``index`` if it is there.

    >>> batch = {"boxes": jnp.zeros((1, 2, 4)), "valid": jnp.ones((1, 2), bool)}
    >>> targets_of(batch)["crowd"].tolist()
    [[False, False]]
    """
    crowd = batch["crowd"] if "crowd" in batch else jnp.zeros_like(batch["valid"])
    numbers = {"index": batch["index"]} if "index" in batch else {}
    return {"boxes": batch["boxes"], "valid": batch["valid"], "crowd": crowd, **numbers}


def proposal_terms(outputs: Outputs, batch: Batch, how: ProposalLoss) -> dict[str, Term]:
    """Return the terms ``objectness`` and ``proposal_boxes``.

    >>> box = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]])
    >>> outputs = {
    ...     "anchors": box[0], "objectness": jnp.zeros((1, 1)), "anchor_deltas": jnp.zeros((1, 1, 4)),
    ...     "anchor_luck": jnp.zeros((1, 1)),
    ... }
    >>> terms = proposal_terms(outputs, {"boxes": box, "valid": jnp.ones((1, 1), bool)}, ProposalLoss())
    >>> round(terms["objectness"].sum.item(), 4), terms["objectness"].count.item()
    (0.6931, 1.0)
    """
    anchors = outputs["anchors"]

    def one(
        logits: Array, deltas: Array, luck: Array, size: Array | None, truth: Mapping[str, Array]
    ) -> tuple[Array, ...]:
        takes_part = _inside(anchors, size) if how.inside and size is not None else None
        thresholds = {"high": how.high, "low": how.low, "crowd_overlap": how.crowd_overlap}
        index = match_anchors(anchors, truth, **thresholds, anchor_valid=takes_part)
        drawn = sample_by(luck, index >= 0, index == BELOW, count=how.samples, fraction=how.positive_fraction)
        positive = drawn.positive & drawn.valid
        near = anchors[drawn.index]
        boxes = jnp.where(positive[:, None], truth["boxes"][jnp.maximum(index[drawn.index], 0)], near)
        scores = binary_cross_entropy(logits[drawn.index], positive.astype(jnp.float32))
        codes = smooth_l1(deltas[drawn.index], box_ops.encode(boxes, near), beta=how.beta).sum(-1)
        count = count_true(drawn.valid) if how.divide_by == "sampled" else jnp.asarray(float(how.samples))
        return jnp.where(drawn.valid, scores, 0).sum(), jnp.where(positive, codes, 0).sum(), count

    of_anchors = (outputs["objectness"], outputs["anchor_deltas"], outputs["anchor_luck"])
    found = jax.vmap(one)(*of_anchors, _sizes(batch) if how.inside else None, targets_of(batch))
    scores, codes, count = (over_rows(x, batch) for x in found)
    return {"objectness": Term(scores, count, how.weight), "proposal_boxes": Term(codes, count, how.weight)}


def _sizes(batch: Batch) -> Array:
    """Return the rows and columns of each canvas that are image, [b 2]."""
    if "size" in batch:
        return batch["size"]
    count, rows, columns = batch["image"].shape[:3]
    return jnp.broadcast_to(jnp.asarray([rows, columns]), (count, 2))


def _inside(anchors: Array, size: Array) -> Array:
    """Return which anchors lie in the image, [a]."""
    height, width = size[0].astype(anchors.dtype), size[1].astype(anchors.dtype)
    return (anchors[:, :2] >= 0).all(-1) & (anchors[:, 2] <= width) & (anchors[:, 3] <= height)


def match_anchors(
    anchors: Array,
    truth: Mapping[str, Array],
    *,
    high: float,
    low: float,
    crowd_overlap: float,
    anchor_valid: Array | None = None,
) -> Array:
    """Return each anchor's object, or that it is background or neither, of one image; see ``ops.match.match``.

    Crowds match nothing, and anchors mostly inside one are neither. So are those that are not ``anchor_valid``.

    >>> truth = {"boxes": jnp.asarray([[0.0, 0.0, 8.0, 8.0]]), "valid": jnp.ones(1, bool), "crowd": jnp.ones(1, bool)}
    >>> anchors = jnp.asarray([[0.0, 0.0, 4.0, 4.0], [9.0, 9.0, 12.0, 12.0]])
    >>> match_anchors(anchors, truth, high=0.7, low=0.3, crowd_overlap=0.7).tolist() == [BETWEEN, BELOW]
    True
    """
    objects, crowds = truth["valid"] & ~truth["crowd"], truth["valid"] & truth["crowd"]
    found = match(truth["boxes"], objects, anchors, high=high, low=low, low_quality=True, anchor_valid=anchor_valid)
    index = found.index
    inside = within_crowd(anchors, truth["boxes"], crowds, threshold=crowd_overlap)
    return jnp.where((index == BELOW) & inside, BETWEEN, index)


@dataclass(frozen=True)
class Regions:
    """The sampled regions with their objects, by the same matching that sampled them.

    Attributes:
      index: i32[b s], the slot of each region's object; 0 for background.
      positive: bool[b s], true where a region stands for an object.
      valid: bool[b s], true where the slot holds a region of a real image.

    >>> outputs = {"rois": jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]]), "roi_valid": jnp.ones((1, 1), bool)}
    >>> Regions.of(outputs, {"boxes": outputs["rois"], "valid": outputs["roi_valid"]}, 0.5).positive.tolist()
    [[True]]
    """

    index: Array
    positive: Array
    valid: Array

    @classmethod
    def of(cls, outputs: Outputs, batch: Batch, overlap: float) -> "Regions":
        """Match the regions of a batch."""

        def one(rois: Array, there: Array, truth: Mapping[str, Array]) -> Array:
            objects = truth["valid"] & ~truth["crowd"]
            return match(truth["boxes"], objects, rois, high=overlap, low=overlap, anchor_valid=there).index

        index = jax.vmap(one)(outputs["rois"], outputs["roi_valid"], targets_of(batch))
        valid = outputs["roi_valid"]
        if "real" in batch:
            valid = valid & batch["real"][:, None]
        return cls(jnp.maximum(index, 0), (index >= 0) & valid, valid)

    def first(self, count: int) -> "Regions":
        """Return the first regions alone, among which all positives are."""
        return Regions(self.index[:, :count], self.positive[:, :count], self.valid[:, :count])


def region_terms(outputs: Outputs, batch: Batch, regions: Regions, classes: Array, how: RegionLoss) -> dict[str, Term]:
    """Return the terms ``region_classes`` and, where the network has codes, ``region_boxes``.

    Args:
      outputs: of the network; ``roi_deltas`` hold a code for each class, with or without background, or one for all.
      batch: the truth.
      regions: matched.
      classes: i32[b n], the network's output for each object, background not counted.
      how: thresholds and factors.

    >>> roi, one = jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]]), jnp.ones((1, 1), bool)
    >>> outputs = {"rois": roi, "roi_logits": jnp.zeros((1, 1, 2)), "roi_deltas": jnp.zeros((1, 1, 2, 4))}
    >>> regions = Regions(jnp.zeros((1, 1), jnp.int32), one, one)
    >>> terms = region_terms(outputs, {"boxes": roi}, regions, jnp.zeros((1, 1), jnp.int32), RegionLoss())
    >>> round(terms["region_classes"].sum.item(), 4), terms["region_boxes"].sum.item()
    (0.6931, 0.0)
    """
    label = jnp.where(regions.positive, of_object(classes, regions) + 1, 0)
    values = softmax_cross_entropy(outputs["roi_logits"], label)
    count = count_true(regions.valid)
    named = Term(jnp.where(regions.valid, values, 0).sum(), count, how.weight)
    if "roi_deltas" not in outputs:  # R-CNN, whose boxes are regressed afterwards
        return {"region_classes": named}
    rois, deltas = outputs["rois"], outputs["roi_deltas"]
    boxes = jnp.where(regions.positive[..., None], of_object(batch["boxes"], regions), rois)
    outputs_of_codes, with_background = deltas.shape[2], outputs["roi_logits"].shape[-1]
    column = jnp.clip(label - int(outputs_of_codes != with_background), 0, outputs_of_codes - 1)
    own = jnp.take_along_axis(deltas, column[..., None, None], axis=2)[:, :, 0]
    # Free slots hold boxes without area, from which no code leads anywhere.
    anchors = jnp.where(regions.positive[..., None], rois, jnp.asarray([0.0, 0.0, 1.0, 1.0]))
    boxes = jnp.where(regions.positive[..., None], boxes, anchors)
    wanted = codings.encode(boxes, anchors, box_ops.REGION_WEIGHTS, coding=how.coding)
    codes = smooth_l1(own, wanted, beta=how.beta).sum(-1)
    return {
        "region_classes": named,
        "region_boxes": Term(jnp.where(regions.positive, codes, 0).sum(), count, how.weight),
    }


def mask_term(
    outputs: Outputs, batch: Batch, regions: Regions, classes: Array, *, targets: Literal["soft", "binary"]
) -> Term:
    """Return the mask loss: binary cross-entropy of the object's own class, over all cells of positive regions.

    Args:
      outputs: ``mask_logits`` of the first regions, of each class and background, or of each class, or one for all.
      batch: ``instance_ids``, and ``hidden_ids`` where objects overlap.
      regions: matched; as many as there are logits.
      classes: i32[b n], the network's output for each object, background not counted.
      targets: ``"soft"``, the share of each cell (torchvision), or ``"binary"`` by a half (detectron2).

    >>> roi, one = jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), jnp.ones((1, 1), bool)
    >>> regions, classes = Regions(jnp.zeros((1, 1), jnp.int32), one, one), jnp.zeros((1, 1), jnp.int32)
    >>> outputs = {"rois": roi, "roi_logits": jnp.zeros((1, 1, 2)), "mask_logits": jnp.zeros((1, 1, 2, 2, 2))}
    >>> batch = {"instance_ids": jnp.ones((1, 4, 4), jnp.uint16)}
    >>> round(mask_term(outputs, batch, regions, classes, targets="soft").sum.item(), 4)
    2.7726

    Reference:
      He et al. 2017, arXiv:1703.06870, section 3.
    """
    logits = outputs["mask_logits"]
    count, side, kinds = logits.shape[1], logits.shape[2], logits.shape[-1]
    regions = regions.first(count)
    background = kinds == outputs["roi_logits"].shape[-1]
    column = jnp.clip(of_object(classes, regions) + int(background), 0, kinds - 1)
    own = jnp.take_along_axis(logits, column[:, :, None, None, None], axis=-1)[..., 0]
    cells = mask_targets(outputs["rois"][:, :count], regions, batch, side=side, aligned=targets == "binary")
    cells = cells if targets == "soft" else (cells >= 0.5).astype(jnp.float32)
    values = binary_cross_entropy(own, cells).sum((-1, -2))
    return Term(jnp.where(regions.positive, values, 0).sum(), count_true(regions.positive) * side * side)


def mask_targets(rois: Array, regions: Regions, batch: Batch, *, side: int, aligned: bool) -> Array:
    """Return what of each region's object lies in each of its cells, f32[b f m m] from 0 to 1.

    >>> roi, one = jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), jnp.ones((1, 1), bool)
    >>> regions = Regions(jnp.zeros((1, 1), jnp.int32), one, one)
    >>> batch = {"instance_ids": jnp.pad(jnp.ones((1, 4, 2), jnp.uint16), ((0, 0), (0, 0), (0, 2)))}
    >>> mask_targets(roi, regions, batch, side=2, aligned=True)[0, 0].tolist()
    [[1.0, 0.0], [1.0, 0.0]]

    Args:
      rois: f32[b f 4], as many as there are ``regions``.
      regions: matched.
      batch: ``instance_ids``, and ``hidden_ids`` where objects overlap.
      side: m.
      aligned: as of :func:`jaxseg.ops.roi.roi_align`.
    """

    def crop(rois: Array, index: Array, ids: Array, hidden: Array | None = None) -> Array:
        return crop_instances(ids, rois, index, size=side, aligned=aligned, hidden_ids=hidden)

    maps = [batch["instance_ids"], *([batch["hidden_ids"]] if "hidden_ids" in batch else [])]
    return jax.vmap(crop)(rois, regions.index, *maps)


def keypoint_term(outputs: Outputs, batch: Batch, regions: Regions) -> Term:
    """Return the keypoint loss: cross-entropy over the cells of each joint's heatmap, over all visible joints.

    >>> roi, one = jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), jnp.ones((1, 1), bool)
    >>> outputs = {"rois": roi, "keypoint_logits": jnp.zeros((1, 1, 2, 2, 1))}
    >>> batch = {"keypoints": jnp.asarray([[[[1.0, 1.0, 2.0]]]])}
    >>> regions = Regions(jnp.zeros((1, 1), jnp.int32), one, one)
    >>> round(keypoint_term(outputs, batch, regions).sum.item(), 4)
    1.3863

    Reference:
      He et al. 2017, arXiv:1703.06870, section 5.
    """
    logits = outputs["keypoint_logits"]
    b, count, side, _, joints = logits.shape
    regions = regions.first(count)
    points = of_object(batch["keypoints"], regions)
    boxes = jnp.where(regions.positive[..., None], outputs["rois"][:, :count], jnp.asarray([0.0, 0.0, 1.0, 1.0]))
    cell, there = jax.vmap(lambda p, r: keypoint_targets(p, r, size=side))(points, boxes)
    there = there & regions.positive[..., None]
    flat = jnp.moveaxis(logits.reshape(b, count, side * side, joints), -1, 2)
    values = softmax_cross_entropy(flat, cell)
    return Term(jnp.where(there, values, 0).sum(), count_true(there))


def of_object(values: Array, regions: Regions) -> Array:
    """Return what belongs to each region's object, [b s ...].

    >>> one = jnp.ones((1, 1), bool)
    >>> of_object(jnp.asarray([[5, 7]]), Regions(jnp.ones((1, 1), jnp.int32), one, one)).tolist()
    [[7]]
    """
    return jax.vmap(lambda x, i: x[i])(values, regions.index)


def count_true(mask: Array) -> Array:
    """Return how many are true, float32.

    >>> count_true(jnp.asarray([True, False, True])).item()
    2.0
    """
    return mask.sum().astype(jnp.float32)


def over_rows(values: Any, batch: Batch) -> Array:
    """Return the sum over the real images of a value for each.

    >>> over_rows(jnp.asarray([2.0, 3.0]), {"real": jnp.asarray([True, False])}).item()
    2.0
    """
    return jnp.sum(jnp.where(batch["real"], values, 0) if "real" in batch else values)
