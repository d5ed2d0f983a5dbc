"""The loss of FCIS: class, mask and box of a region are weighed together, and its hardest regions are learnt from."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses import binary_cross_entropy, smooth_l1, softmax_cross_entropy
from jaxseg.ops import boxes as box_ops
from jaxseg.tasks.protocol import Batch, Outputs, Term
from jaxseg.tasks.regions import Regions, count_true, mask_targets, of_object, over_rows


@dataclass(frozen=True)
class FCISLoss:
    """Loss of the second stage of FCIS (Li et al. 2017, arXiv:1611.07709, section 3.3; Shrivastava et al. 2016).

    A region's loss is that of its class, of its box and, times ``mask_weight``, the mean over its mask; where there are
    more regions, the ``hardest`` of each image count alone (OHEM). Classes are averaged over them; boxes and masks are
    divided by ``hardest``, however few regions stand for an object, as in the authors' code.

    Attributes:
      hardest: regions of an image.
      mask_weight: factor of the mask loss.
      mask_threshold: share of a cell from which on it belongs to the object.
      beta: of the smooth L1 loss of the codes.

    >>> FCISLoss().mask_weight
    10.0

    Raises:
      BadInput: ``hardest`` is not positive.
    """

    hardest: int = 128
    mask_weight: float = 10.0
    mask_threshold: float = 0.4
    beta: float = 1.0

    def __post_init__(self):
        if self.hardest < 1:
            raise BadInput(f"the loss is taken over the {self.hardest} hardest regions; it takes at least 1")

    def terms(self, outputs: Outputs, batch: Batch, regions: Regions, classes: Array) -> dict[str, Term]:
        """Return the terms ``region_classes``, ``region_boxes`` and ``masks``.

        >>> roi, one = jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), jnp.ones((1, 1), bool)
        >>> regions, classes = Regions(jnp.zeros((1, 1), jnp.int32), one, one), jnp.zeros((1, 1), jnp.int32)
        >>> outputs = {"rois": roi, "roi_logits": jnp.zeros((1, 1, 2)), "roi_deltas": jnp.zeros((1, 1, 2, 4))}
        >>> outputs["mask_logits"] = jnp.zeros((1, 1, 2, 2, 2))
        >>> batch = {"boxes": roi, "instance_ids": jnp.ones((1, 4, 4), jnp.uint16)}
        >>> terms = FCISLoss().terms(outputs, batch, regions, classes)
        >>> round(terms["masks"].sum.item(), 4), terms["masks"].count.item(), terms["region_classes"].count.item()
        (0.6931, 128.0, 1.0)

        Args:
          outputs: ``rois``, ``roi_logits``, ``roi_deltas`` of background and of any object, and ``mask_logits`` of each
            class, background first.
          batch: ``boxes``, ``instance_ids``, and ``hidden_ids`` where objects overlap.
          regions: matched.
          classes: i32[b n], the network's output for each object, background not counted.
        """
        label = jnp.where(regions.positive, of_object(classes, regions) + 1, 0)
        scores = jnp.where(regions.valid, softmax_cross_entropy(outputs["roi_logits"], label), 0)
        codes, masks = self._codes(outputs, batch, regions), self._masks(outputs, batch, regions, label)
        chosen = regions.valid & self._hard(scores + codes + self.mask_weight * masks, regions.valid)
        images = over_rows(jnp.ones(len(label)), batch) * self.hardest
        return {
            "region_classes": Term(jnp.where(chosen, scores, 0).sum(), count_true(chosen)),
            "region_boxes": Term(jnp.where(chosen, codes, 0).sum(), images),
            "masks": Term(jnp.where(chosen, masks, 0).sum(), images, self.mask_weight),
        }

    def _codes(self, outputs: Outputs, batch: Batch, regions: Regions) -> Array:
        """Return the loss of each region's box, [b s]."""
        here = regions.positive[..., None]
        anchors = jnp.where(here, outputs["rois"], jnp.asarray([0.0, 0.0, 1.0, 1.0]))
        boxes = jnp.where(here, of_object(batch["boxes"], regions), anchors)
        wanted = box_ops.encode(boxes, anchors, box_ops.AGNOSTIC_WEIGHTS)
        values = smooth_l1(outputs["roi_deltas"][:, :, 1], wanted, beta=self.beta).sum(-1)
        return jnp.where(regions.positive, values, 0)

    def _masks(self, outputs: Outputs, batch: Batch, regions: Regions, label: Array) -> Array:
        """Return the mean loss over the cells of each region's mask, of its class against outside, [b s]."""
        logits = outputs["mask_logits"]
        own = jnp.take_along_axis(logits, label[:, :, None, None, None], axis=-1)[..., 0]
        cells = mask_targets(outputs["rois"], regions, batch, side=logits.shape[2], aligned=True)
        wanted = (cells >= self.mask_threshold).astype(jnp.float32)
        return jnp.where(regions.positive, binary_cross_entropy(own, wanted).mean((-1, -2)), 0)

    def _hard(self, values: Array, valid: Array) -> Array:
        """Return which regions are among the hardest of their image, [b s]."""
        count = values.shape[1]
        if count <= self.hardest:
            return jnp.ones(values.shape, bool)

        def one(values: Array) -> Array:
            _, index = jax.lax.top_k(values, self.hardest)
            return jnp.zeros(count, bool).at[index].set(True)

        return jax.vmap(one)(jax.lax.stop_gradient(jnp.where(valid, values, -1)))
