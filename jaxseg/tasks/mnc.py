"""The loss of MNC: of the masks, of classes with and without them, and of the boxes, in both rounds of the cascade."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.losses import binary_cross_entropy, smooth_l1, softmax_cross_entropy
from jaxseg.ops import boxes as box_ops
from jaxseg.tasks.protocol import Batch, Outputs, Term
from jaxseg.tasks.regions import Regions, count_true, mask_targets, of_object


@dataclass(frozen=True)
class MNCLoss:
    """Loss of stages 2 and 3 of MNC, and of their repetition (Dai et al. 2016, arXiv:1512.04412, equation 10).

    Masks have no class. A second classifier is taught by the mask: a region stands for its object only if mask and
    object overlap; it is what scores at test time, and what says which box code leads to stage 4.

    Attributes:
      mask_weight: factor of the mask loss.
      mask_threshold: share or probability from which on a cell belongs to the object.
      mask_overlap: IoU of mask and object from which on the region's mask stands for the object.
      beta: of the smooth L1 loss of the codes.

    >>> MNCLoss().mask_weight
    2.0
    """

    mask_weight: float = 2.0
    mask_threshold: float = 0.4
    mask_overlap: float = 0.5
    beta: float = 1.0

    def terms(self, outputs: Outputs, batch: Batch, regions: Regions, classes: Array) -> dict[str, Term]:
        """Return ``region_classes``, ``mask_classes``, ``region_boxes`` and ``masks``, and the same ``_again``.

        >>> roi, one = jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), jnp.ones((1, 1), bool)
        >>> regions, classes = Regions(jnp.zeros((1, 1), jnp.int32), one, one), jnp.zeros((1, 1), jnp.int32)
        >>> outputs = {"rois": roi, "roi_logits": jnp.zeros((1, 1, 2)), "roi_deltas": jnp.zeros((1, 1, 2, 4))}
        >>> outputs |= {"mask_class_logits": jnp.zeros((1, 1, 2)), "mask_logits": jnp.zeros((1, 1, 2, 2, 1))}
        >>> batch = {"boxes": roi, "instance_ids": jnp.ones((1, 4, 4), jnp.uint16)}
        >>> terms = MNCLoss().terms({**outputs, "roi_repeated": ~one}, batch, regions, classes)
        >>> round(terms["masks"].sum.item(), 4), terms["masks"].count.item(), terms["masks_again"].count.item()
        (0.6931, 1.0, 0.0)

        Args:
          outputs: of the network: what it says of regions, and ``roi_repeated``.
          batch: ``boxes``, ``instance_ids``, and ``hidden_ids`` where objects overlap.
          regions: matched.
          classes: i32[b n], the network's output for each object, background not counted.
        """
        label = jnp.where(regions.positive, of_object(classes, regions) + 1, 0)
        logits = outputs["mask_logits"][..., 0]
        cells = mask_targets(outputs["rois"], regions, batch, side=logits.shape[2], aligned=True)
        overlap = self._overlaps(logits, cells, outputs["rois"], batch, regions)
        by_mask = jnp.where(overlap >= self.mask_overlap, label, 0)
        wanted = (cells >= self.mask_threshold).astype(jnp.float32)
        values = {
            "region_classes": softmax_cross_entropy(outputs["roi_logits"], label),
            "mask_classes": softmax_cross_entropy(outputs["mask_class_logits"], by_mask),
            "region_boxes": jnp.where(regions.positive, self._codes(outputs, batch, regions, label), 0),
            "masks": binary_cross_entropy(logits, wanted).mean((-1, -2)),
        }
        return self._summed(values, outputs["roi_repeated"], regions)

    def _summed(self, values: Mapping[str, Array], repeated: Array, regions: Regions) -> dict[str, Term]:
        """Return the terms of each round, means over its regions, masks over those of objects."""
        terms = {}
        for name, among in (("{}", ~repeated), ("{}_again", repeated)):
            for key, value in values.items():
                of_masks = key == "masks"
                counted = among & (regions.positive if of_masks else regions.valid)
                weight = self.mask_weight if of_masks else 1.0
                terms[name.format(key)] = Term(jnp.where(counted, value, 0).sum(), count_true(counted), weight)
        return terms

    def _codes(self, outputs: Outputs, batch: Batch, regions: Regions, label: Array) -> Array:
        """Return the loss of each region's box by the codes of its class, [b s]."""
        here = regions.positive[..., None]
        anchors = jnp.where(here, outputs["rois"], jnp.asarray([0.0, 0.0, 1.0, 1.0]))
        boxes = jnp.where(here, of_object(batch["boxes"], regions), anchors)
        own = jnp.take_along_axis(outputs["roi_deltas"], label[..., None, None], axis=2)[:, :, 0]
        return smooth_l1(own, box_ops.encode(boxes, anchors, box_ops.REGION_WEIGHTS), beta=self.beta).sum(-1)

    def _overlaps(self, logits: Array, cells: Array, rois: Array, batch: Batch, regions: Regions) -> Array:
        """Return the IoU of each region's mask with its whole object, also what lies outside of the box, [b s]."""
        mask = (jax.nn.sigmoid(jax.lax.stop_gradient(logits)) >= self.mask_threshold).astype(jnp.float32)
        cell = box_ops.area(rois) / logits.shape[2] ** 2
        maps = [batch[key] for key in ("instance_ids", "hidden_ids") if key in batch]
        objects = sum(jax.vmap(_areas(batch["boxes"].shape[1]))(ids) for ids in maps)
        shared = (mask * cells).sum((-1, -2)) * cell
        union = mask.sum((-1, -2)) * cell + of_object(jnp.asarray(objects), regions) - shared
        return shared / jnp.maximum(union, 1e-6)


def _areas(count: int):
    """Return a function that counts the pixels of each object of a map."""

    def one(ids: Array) -> Array:
        slots = ids.astype(jnp.int32).reshape(-1)
        return jnp.zeros(count + 1, jnp.float32).at[slots].add(1.0, mode="drop")[1:]

    return one
