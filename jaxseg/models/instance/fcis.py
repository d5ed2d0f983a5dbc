"""FCIS: fully convolutional instance-aware semantic segmentation (Li et al. 2017, arXiv:1611.07709).

Nothing is computed for a region but sums. Two score maps for each class and each of 7 by 7 parts of a box say of every
pixel how likely it is to be inside of an object at that part, and outside of one but within its box. From them follow
the mask, inside against outside, and the class: the larger of both, averaged over the box.

Conventions are those of the authors' MXNet code: RoIs on conv4's proposals, maps of stride 16 from a dilated conv5, two
passes over the regions at test time, mask voting.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxseg.backbones import resnet
from jaxseg.layers.canvas import mean_outside, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.rpn import Proposals, Proposing, RPNHead, propose
from jaxseg.layers.sampling import Background, image_keys, sample_regions, with_objects
from jaxseg.layers.standardize import Standardize, statistics
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import py_faster_rcnn_anchors
from jaxseg.ops.backend import map_images
from jaxseg.ops.mask_voting import Voting, vote_masks
from jaxseg.ops.ps_roi_pool import ps_roi_pool
from jaxseg.registry import register

RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths of the anchors."""

MEAN = Standardize((103.06, 115.90, 123.15), order="bgr")
"""BGR minus the mean that FCIS subtracts."""

normal_01 = nn.initializers.normal(0.01)


class FCIS(nn.Module):
    """Score maps of inside and outside on a residual network, pooled for every proposal.

    Attributes:
      backbone: gives ``c4`` and ``c5``, both of the same stride.
      rpn: head of the proposal network, on ``c4``.
      num_classes: without background.
      features: channels before the score maps.
      stride: of the maps, pixels to a cell.
      groups: parts of a box along each side.
      side: cells of a region along each side, a multiple of ``groups``.
      anchor_sizes: roots of the anchors' areas, pixels.
      proposing: how many proposals are kept and which, in training and at test time.
      samples: regions of an image to train on; 0 for all proposals and objects, of which the loss takes the hardest.
      positive_fraction: of the samples that may be objects.
      backgrounds: kinds of background among the samples.
      passes: over the regions at test time; each begins with the boxes that the one before it corrected.
      voting: of the masks of all passes.
      dtype: compute dtype.

    >>> model, image = fcis_resnet101(3, width=4, features=8), jnp.zeros((1, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["masks"].shape
    ((1, 100, 4), (1, 100, 28, 28))
    """

    backbone: nn.Module
    rpn: RPNHead
    num_classes: int = 80
    features: int = 1024
    stride: int = 16
    groups: int = 7
    side: int = 21
    anchor_sizes: tuple[int, ...] = (64, 128, 256, 512)
    proposing: Proposing = Proposing(6000, 300, min_size=2.0)
    samples: int = 0
    positive_fraction: float = 0.25
    backgrounds: tuple[Background, ...] = ((0.1, 0.5, 1.0),)
    passes: int = 2
    voting: Voting = Voting()
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @property
    def detections(self) -> int:
        """Slots of detections."""
        return self.voting.count

    @property
    def loss(self) -> str:
        """Which loss it is trained with."""
        return "fcis"

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return detections of raw images: ``boxes``, ``scores``, ``classes``, ``masks``, ``valid``, and ``exact``.

        Args:
          image: canvases; what is no image counts as the mean colour.
          size: rows and columns of each canvas that are image; None for all.
          targets: in training ``boxes``, ``valid`` and perhaps ``crowd`` of the objects, and the images' ``index``.
          train: return instead what losses are made of: ``objectness`` [b a], ``anchor_deltas`` [b a 4], ``anchors``
            [a 4], with ``targets`` ``anchor_luck`` [b a]; ``rois`` [b s 4], ``roi_valid`` and ``roi_positive`` [b s],
            ``roi_logits`` [b s k+1], ``roi_deltas`` [b s 2 4], of background, which is never used, and of any object,
            and ``mask_logits`` [b s m m k+1], inside against outside.
        """
        if size is None:
            size = whole(image)
        maps = self.backbone(mean_outside(image, size, self.backbone.standardize), train=train)
        logits, deltas = self.rpn([maps["c4"]])
        grid = (maps["c4"].shape[1], maps["c4"].shape[2])
        anchors, counts = py_faster_rcnn_anchors([grid], [self.stride], [self.anchor_sizes], [RATIOS])
        proposals = propose(logits, deltas, anchors, counts, size, how=self.proposing)
        options = {"kernel_init": normal_01, "dtype": self.dtype}
        x = jax.nn.relu(Conv(self.features, 1, **options, name="conv_new_1")(maps["c5"]))
        parts = self.groups**2
        scores = Conv(parts * (self.num_classes + 1) * 2, 1, **options, name="scores")(x)
        codes = Conv(parts * 2 * 4, 1, **options, name="codes")(x)
        if not train:
            return self._detect(scores, codes, proposals, size)
        found = {"objectness": logits, "anchor_deltas": deltas, "anchors": anchors}
        rois, valid, positive = proposals.boxes, proposals.valid, proposals.valid
        if targets is not None:
            key = self.make_rng("sample")
            keys = image_keys(jax.random.fold_in(key, 1), targets)
            found["anchor_luck"] = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:]))(keys)
            rois, valid, positive = self._sample(key, proposals, targets)
        roi_logits, roi_deltas, masks = self._joint(scores, codes, rois, valid)
        found |= {"rois": rois, "roi_valid": valid, "roi_positive": positive}
        return found | {"roi_logits": roi_logits, "roi_deltas": roi_deltas, "mask_logits": masks}

    def _sample(self, key: Array, proposals: Proposals, targets: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Return the regions to train on; which there are; and which cover an object."""
        if not self.samples:
            return with_objects(proposals.boxes, proposals.valid, targets)
        options = {"positive_fraction": self.positive_fraction, "backgrounds": self.backgrounds}
        return sample_regions(key, proposals, targets, count=self.samples, **options)

    def _joint(
        self, scores: Array, codes: Array, rois: Float[Array, "b p 4"], valid: Bool[Array, "b p"]
    ) -> tuple[Float[Array, "b p k"], Float[Array, "b p 2 4"], Float[Array, "b p m m k"]]:
        """Return class scores, box codes and masks of regions (section 3.2), float32."""
        pool = partial(ps_roi_pool, boxes=rois, valid=valid, size=self.side, groups=self.groups, stride=self.stride)
        pairs = pool(scores).astype(jnp.float32)
        pairs = pairs.reshape(*pairs.shape[:4], self.num_classes + 1, 2)
        outside, inside = pairs[..., 0], pairs[..., 1]
        deltas = pool(codes).astype(jnp.float32).mean((2, 3))
        return jnp.maximum(inside, outside).mean((2, 3)), deltas.reshape(*rois.shape[:2], 2, 4), inside - outside

    def _detect(self, scores: Array, codes: Array, proposals: Proposals, size: Array) -> dict[str, Array]:
        rois, valid, found = proposals.boxes, proposals.valid, []
        for _ in range(self.passes):
            logits, deltas, masks = self._joint(scores, codes, rois, valid)
            chances = jax.nn.softmax(logits, axis=-1)[..., 1:]
            own = jnp.argmax(chances, axis=-1)[:, :, None, None, None] + 1
            mask = jax.nn.sigmoid(jnp.take_along_axis(masks, own, axis=-1)[..., 0])
            found.append((rois, mask, chances, valid))
            rois = box_ops.decode(deltas[:, :, 1], rois, box_ops.AGNOSTIC_WEIGHTS)
            rois = map_images(lambda boxes, size: box_ops.clip(boxes, size[0], size[1]))(rois, size)
            valid = valid & box_ops.large_enough(rois, self.proposing.min_size)
        boxes, masks, chances, valid = (jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True))

        def one(boxes: Array, masks: Array, chances: Array, valid: Array, size: Array) -> dict[str, Array]:
            return vote_masks(boxes, masks, chances, how=self.voting, size=size, valid=valid)._asdict()

        return map_images(one)(boxes, masks, chances, valid, size)


def on_resnet(
    layers: int,
    num_classes: int = 80,
    *,
    ohem: bool = True,
    anchor_sizes: tuple[int, ...] = (64, 128, 256, 512),
    width: int = 64,
    features: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FCIS:
    """Return FCIS on a ResNet as MSRA has it, with frozen BatchNorm and a dilated last stage.

    Args:
      layers: of the ResNet.
      num_classes: without background.
      ohem: train on all proposals, of which the loss takes the hardest, as on COCO; else on 128 samples and without
        proposals smaller than 16 pixels, as on VOC.
      anchor_sizes: roots of the anchors' areas, pixels; 128, 256 and 512 on VOC.
      width: channels of the backbone's first stage.
      features: channels before the score maps.
      in_channels: of the image.
      standardize: statistics of the input; those of the authors by default.
      dtype: compute dtype.

    >>> on_resnet(101, 20, ohem=False, anchor_sizes=(128, 256, 512)).samples
    128
    """
    backbone = resnet.resnet(
        layers,
        width=width,
        output_stride=16,
        stride_on="1x1",
        in_channels=in_channels,
        standardize=statistics(standardize, MEAN, in_channels),
        dtype=dtype,
    )
    return FCIS(
        backbone=backbone.clone(norm="frozen"),
        rpn=RPNHead(8 * width, len(RATIOS) * len(anchor_sizes), outputs=2, dtype=dtype),
        num_classes=num_classes,
        features=features,
        anchor_sizes=anchor_sizes,
        proposing=Proposing(6000, 300, min_size=2.0 if ohem else 16.0),
        samples=0 if ohem else 128,
        dtype=dtype,
    )


SMALL: Mapping[str, Any] = {
    "width": 8,
    "features": 64,
    "anchor_sizes": (8, 16, 32),
    "backbone.depths": (1, 1, 1, 1),
    "backbone.output_stride": 8,
    "stride": 8,
    "proposing": Proposing(128, 64, min_size=2.0),
    "voting": Voting(count=20),
}
"""The small variant: one block a stage, few channels, cells and anchors for images of 64 to 128 pixels."""

fcis_resnet101 = register(
    task="instance",
    paper="arXiv:1611.07709",
    name="fcis_resnet101",
    summary="FCIS on a dilated ResNet-101: score maps of inside and outside for each part of a box.",
    params=57_787_282,  # and 105,344 scales and shifts of the frozen normalisation: 57,892,626
    small=SMALL,
)(partial(on_resnet, 101))
