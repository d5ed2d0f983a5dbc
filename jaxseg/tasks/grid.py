"""Losses of YOLO: an object belongs to the cell that its centre lies in, and to one predictor there.

Everything is in fractions of the image, one image at a time under ``vmap``, and comes back as sums over the images.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.losses import binary_cross_entropy
from jaxseg.ops import boxes as box_ops
from jaxseg.tasks.anchors import objects_in
from jaxseg.tasks.protocol import Outputs, Term
from jaxseg.tasks.regions import over_rows


@dataclass(frozen=True)
class YOLOv1Loss:
    """Sum of squares over the predictors of a grid (Redmon et al. 2016, arXiv:1506.02640, equation 3).

    In each cell that holds an object's centre the predictor of the largest IoU is responsible; where all are 0, that of
    the least distance. Its confidence is to be that IoU. Of several objects in a cell the first counts.

    Attributes:
      coordinates: weight of the responsible predictors' boxes: their offset in the cell, and the roots of their sides.
      no_object: weight of the confidence of all others.
      least: objects with a side below it, as a fraction of the image, do not count.
      weight: factor of all terms. Darknet descends along half the gradient of the paper's sum: 0.5.

    >>> YOLOv1Loss(weight=0.5).coordinates
    5.0
    """

    coordinates: float = 5.0
    no_object: float = 0.5
    least: float = 0.005
    weight: float = 1.0

    def terms(self, outputs: Outputs, targets: Mapping[str, Array]) -> dict[str, Term]:
        """Return the terms ``boxes``, ``classes``, ``confidence`` and ``no_object``, each the sum over an image.

        >>> outputs = {"cell_logits": jnp.zeros((1, 1, 1, 2)), "objectness": jnp.zeros((1, 1))}
        >>> outputs |= {"anchor_deltas": jnp.full((1, 1, 4), 0.5), "image_size": jnp.full((1, 2), 8.0)}
        >>> targets = {"boxes": jnp.asarray([[[2.0, 2.0, 6.0, 6.0]]]), "valid": jnp.ones((1, 1), bool)}
        >>> targets |= {"crowd": jnp.zeros((1, 1), bool), "classes": jnp.zeros((1, 1), jnp.int32)}
        >>> {name: round(term.sum.item(), 4) for name, term in YOLOv1Loss().terms(outputs, targets).items()}
        {'boxes': 0.4289, 'classes': 1.0, 'confidence': 0.0625, 'no_object': 0.0}
        """
        maps = outputs["cell_logits"], outputs["objectness"], outputs["anchor_deltas"]
        sums = jax.vmap(self._of_image)(maps[0], maps[1], maps[2], outputs["image_size"], objects_in(targets))
        return self._as_terms(sums, targets)

    def classes_of(self, outputs: Outputs) -> int:
        """Return how many classes the network has outputs for.

        >>> YOLOv1Loss().classes_of({"cell_logits": jnp.zeros((1, 7, 7, 20))})
        20
        """
        return outputs["cell_logits"].shape[-1]

    def _as_terms(self, sums: dict[str, Array], targets: Mapping[str, Array]) -> dict[str, Term]:
        images = over_rows(jnp.ones(len(targets["valid"])), targets)
        return {name: Term(over_rows(value, targets), images, self.weight) for name, value in sums.items()}

    def _of_image(
        self, logits: Array, confidence: Array, deltas: Array, size: Array, truth: Mapping[str, Array]
    ) -> dict[str, Array]:
        rows, columns, k = logits.shape
        cells = rows * columns
        deltas = deltas.reshape(cells, -1, 4)
        confidence = confidence.reshape(cells, -1)
        boxes = box_ops.xyxy_to_cxcywh(truth["boxes"] / jnp.tile(size[::-1], 2)[None])
        objects = truth["valid"] & ~truth["crowd"] & (boxes[:, 2:] >= self.least).all(-1)
        grid = jnp.asarray([[columns, rows]], jnp.float32)
        place = boxes[:, :2] * grid
        corner = jnp.clip(jnp.floor(place), 0, grid - 1)
        cell = (corner[:, 1] * columns + corner[:, 0]).astype(jnp.int32)
        here = objects[None] & (cell[None] == jnp.arange(cells)[:, None])
        first, full = here.argmax(1), here.any(1)

        wanted = jnp.concatenate([place - corner, jnp.sqrt(jnp.maximum(boxes[:, 2:], 0))], -1)[first]
        fit, apart = _fit(deltas, wanted, grid)
        responsible = jnp.where(fit.max(1) > 0, fit.argmax(1), apart.argmin(1))
        mine = full[:, None] & (responsible[:, None] == jnp.arange(deltas.shape[1])[None])
        kinds = jax.nn.one_hot(truth["classes"][first], k)
        off = jnp.square(deltas - wanted[:, None]).sum(-1)
        return {
            "boxes": self.coordinates * jnp.where(mine, off, 0).sum(),
            "confidence": jnp.where(mine, jnp.square(confidence - fit), 0).sum(),
            "no_object": self.no_object * jnp.where(mine, 0, jnp.square(confidence)).sum(),
            "classes": jnp.where(full[:, None], jnp.square(logits.reshape(cells, k) - kinds), 0).sum(),
        }


def _fit(deltas: Array, wanted: Array, grid: Array) -> tuple[Array, Array]:
    """Return each predictor's IoU with its cell's object, and the squared distance of their centres and sides."""

    def box(code: Array) -> Array:
        return jnp.concatenate([code[..., :2] / grid.reshape(*[1] * (code.ndim - 1), 2), jnp.square(code[..., 2:])], -1)

    found, truth = jax.lax.stop_gradient(box(deltas)), box(wanted)[:, None]
    overlap = box_ops.iou(box_ops.cxcywh_to_xyxy(found), box_ops.cxcywh_to_xyxy(jnp.broadcast_to(truth, found.shape)))
    return overlap, jnp.square(found - truth).sum(-1)


@dataclass(frozen=True)
class YOLOv3Loss:
    """Loss of a grid with anchors, every class by itself (Redmon and Farhadi 2018, arXiv:1804.02767, section 2).

    Each object belongs to the anchor, of all maps, whose shape overlaps it most, in the cell that its centre lies in;
    of several there the last. Its offset in the cell goes through a cross-entropy, whose gradient is the paper's, and
    its sides' logarithms through half a squared error; both weigh 2 less the object's area. Other anchors are to see
    nothing, unless their box overlaps an object well.

    Attributes:
      ignore: overlap above which an anchor that no object belongs to has no loss.
      weight: factor of all terms.

    >>> YOLOv3Loss(ignore=0.5).weight
    1.0
    """

    ignore: float = 0.7
    weight: float = 1.0

    def terms(self, outputs: Outputs, targets: Mapping[str, Array]) -> dict[str, Term]:
        """Return the terms ``boxes``, ``classes`` and ``objectness``, each the sum over an image.

        >>> cell = jnp.asarray([[0.0, 0.0, 1.0, 1.0]])
        >>> outputs = {"class_logits": jnp.zeros((1, 1, 2)), "objectness": jnp.zeros((1, 1)), "anchors": cell}
        >>> outputs |= {"anchor_deltas": jnp.zeros((1, 1, 4)), "cells": cell, "image_size": jnp.full((1, 2), 8.0)}
        >>> targets = {"boxes": jnp.asarray([[[0.0, 0.0, 8.0, 8.0]]]), "valid": jnp.ones((1, 1), bool)}
        >>> targets |= {"crowd": jnp.zeros((1, 1), bool), "classes": jnp.zeros((1, 1), jnp.int32)}
        >>> {name: round(term.sum.item(), 3) for name, term in YOLOv3Loss().terms(outputs, targets).items()}
        {'boxes': 1.386, 'classes': 1.386, 'objectness': 0.693}
        """
        anchors, cells = outputs["anchors"], outputs["cells"]

        def one(logits: Array, objectness: Array, deltas: Array, size: Array, truth: Mapping[str, Array]) -> dict:
            return self._of_image(logits, objectness, deltas, size, truth, anchors, cells)

        maps = outputs["class_logits"], outputs["objectness"], outputs["anchor_deltas"]
        sums = jax.vmap(one)(maps[0], maps[1], maps[2], outputs["image_size"], objects_in(targets))
        images = over_rows(jnp.ones(len(targets["valid"])), targets)
        return {name: Term(over_rows(value, targets), images, self.weight) for name, value in sums.items()}

    def classes_of(self, outputs: Outputs) -> int:
        """Return how many classes the network has outputs for.

        >>> YOLOv3Loss().classes_of({"class_logits": jnp.zeros((1, 9, 80))})
        80
        """
        return outputs["class_logits"].shape[-1]

    def _of_image(
        self,
        logits: Array,
        objectness: Array,
        deltas: Array,
        size: Array,
        truth: Mapping[str, Array],
        anchors: Array,
        cells: Array,
    ) -> dict[str, Array]:
        objects = truth["valid"] & ~truth["crowd"]
        boxes = truth["boxes"] / jnp.tile(size[::-1], 2)[None]
        centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        low, step = cells[:, :2], cells[:, 2:] - cells[:, :2]
        shapes = anchors[:, 2:] - anchors[:, :2]

        index = _best_anchor(centre, sides, low, cells[:, 2:], shapes)
        belongs = objects[:, None] & (index[:, None] == jnp.arange(len(anchors))[None])
        taken = belongs.any(0)
        own = jnp.where(belongs, jnp.arange(len(objects))[:, None], 0).max(0)
        offset = (centre[own] - low) / step
        log_sides = jnp.log(jnp.maximum(sides[own], 1e-9) / shapes)
        codes = binary_cross_entropy(deltas[:, :2], offset) + 0.5 * jnp.square(deltas[:, 2:] - log_sides)
        codes = codes.sum(-1) * (2 - sides[own].prod(-1))

        found = _decoded(jax.lax.stop_gradient(deltas), low, step, shapes)
        overlap = jnp.where(objects[:, None], box_ops.pairwise_iou(boxes, found), 0).max(0)
        seen = binary_cross_entropy(objectness, taken.astype(jnp.float32))
        kinds = jax.nn.one_hot(truth["classes"], logits.shape[-1])
        wanted = jnp.einsum("na,nk->ak", belongs.astype(jnp.float32), kinds) > 0
        classes = binary_cross_entropy(logits, wanted.astype(jnp.float32)).sum(-1)
        return {
            "boxes": jnp.where(taken, codes, 0).sum(),
            "objectness": jnp.where(taken | (overlap <= self.ignore), seen, 0).sum(),
            "classes": jnp.where(taken, classes, 0).sum(),
        }


def _best_anchor(centre: Array, sides: Array, low: Array, high: Array, shapes: Array) -> Array:
    """Return, for each object, the anchor of the most similar shape among those of the cells around its centre."""
    last = high >= 1  # the image's edge belongs to the last cell
    inside = (centre[:, None] >= low[None]) & ((centre[:, None] < high[None]) | last[None])
    shared = jnp.minimum(sides[:, None], shapes[None]).prod(-1)
    overlap = shared / (sides.prod(-1)[:, None] + shapes.prod(-1)[None] - shared)
    return jnp.where(inside.all(-1), overlap, -1).argmax(1)


def _decoded(deltas: Array, low: Array, step: Array, shapes: Array) -> Array:
    centre = low + jax.nn.sigmoid(deltas[:, :2]) * step
    half = jnp.exp(jnp.minimum(deltas[:, 2:], box_ops.MAX_LOG_RATIO)) * shapes / 2
    return jnp.concatenate([centre - half, centre + half], -1)
