"""MNC: instance-aware semantic segmentation via multi-task network cascades (Dai et al. 2016, arXiv:1512.04412).

Three stages, each of which needs the one before it: boxes from a proposal network, a mask without a class for each box,
and the class of what the mask leaves of the box. The cascade of five stages corrects the boxes and looks at them again
with the same weights. Everything is trained end to end: RoI warping has a gradient for the box, so that masks and
classes teach the boxes where to be.

Conventions are those of the authors' Caffe code, but for what is said in docs/papers/mnc.md.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxseg.backbones import vgg
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import mean_outside, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.roi_heads import BoxHead, BoxPredictor, uniform_fan_in
from jaxseg.layers.rpn import Proposing, RPNHead, caffe_rpn_names, differentiable, propose
from jaxseg.layers.sampling import Background, image_keys, in_order, sample_regions
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection.fast_rcnn import vgg16_map
from jaxseg.models.detection.faster_rcnn import detectron2_resnet
from jaxseg.models.detection.faster_rcnn_c4 import Res5
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.anchors import py_faster_rcnn_anchors
from jaxseg.ops.backend import map_images
from jaxseg.ops.mask_voting import Voting, vote_masks
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.ops.roi_warp import roi_warp
from jaxseg.registry import register
from jaxseg.types import Rules

RATIOS = (0.5, 1.0, 2.0)
"""Heights over widths of the anchors."""

Regions = Float[Array, "b p y x c"]


class PooledHead(nn.Module):
    """Max-pooling and the dense layers of VGG16 on regions.

    Attributes:
      dense: units of the layers.
      dropout: rate after each.
      dtype: compute dtype.

    >>> head, regions = PooledHead((8,)), jnp.zeros((1, 2, 14, 14, 4))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), regions, None, train=False)[0]).shape
    (1, 2, 8)
    """

    dense: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, regions: Regions, valid: Bool[Array, "b p"] | None, *, train: bool) -> Float[Array, "b p d"]:
        """Return a vector of each region."""
        head = BoxHead((), self.dense, dropout=self.dropout, dtype=self.dtype, name="dense")
        return head(_pooled(regions), valid, train=train)


class Res5Head(nn.Module):
    """The last stage of a residual network on regions, averaged.

    Attributes:
      stage: the stage.

    >>> head, regions = Res5Head(Res5(2, 1)), jnp.zeros((1, 2, 14, 14, 4))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), regions, None, train=False)[0]).shape
    (1, 2, 8)
    """

    stage: Res5 = Res5()

    @nn.compact
    def __call__(self, regions: Regions, valid: Bool[Array, "b p"] | None, *, train: bool) -> Float[Array, "b p d"]:
        """Return a vector of each region."""
        del valid
        return self.stage(regions, train=train).mean((2, 3))


class MNC(nn.Module):
    """A cascade of proposals, masks and classes on one map.

    Attributes:
      backbone: gives ``map``.
      rpn: head of the proposal network.
      box_head: features of a region.
      mask_box_head: features of what the mask leaves of it.
      num_classes: without background.
      stages: 5, or 3 for the cascade without its repetition.
      map: of the backbone.
      stride: of the map, pixels to a cell.
      mask_features: units of the mask's hidden layer.
      side: rows and columns of masks.
      anchor_sizes: roots of the anchors' areas, pixels.
      train_proposing: proposals in training.
      test_proposing: proposals at test time.
      samples: regions of an image to train on.
      positive_fraction: of them that may be objects.
      backgrounds: kinds of background among them.
      gradient_limit: the gradient of a box code by what is cut out of the map is at most so large.
      voting: of the masks of all stages.
      dtype: compute dtype.

    >>> model, image = mnc_vgg16(3, width=4, dense=8, mask_features=8), jnp.zeros((1, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape, found["masks"].shape
    ((1, 100, 4), (1, 100, 28, 28))
    """

    backbone: nn.Module
    rpn: RPNHead
    box_head: nn.Module
    mask_box_head: nn.Module
    num_classes: int = 20
    stages: int = 5
    map: str = "c5"
    stride: int = 16
    mask_features: int = 256
    side: int = 21
    anchor_sizes: tuple[int, ...] = (128, 256, 512)
    train_proposing: Proposing = Proposing(12000, 300, min_size=16.0)
    test_proposing: Proposing = Proposing(6000, 300, min_size=16.0)
    samples: int = 64
    positive_fraction: float = 0.3
    backgrounds: tuple[Background, ...] = ((0.1, 0.5, 0.85), (0.0, 0.1, 0.15))
    gradient_limit: float = 1 / 512
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
        return "mnc"

    def setup(self) -> None:
        """Make the layers that both rounds of the cascade share."""
        if self.stages not in (3, 5):
            raise BadInput(f"a cascade of {self.stages} stages; MNC has 3 or 5")
        options = {"kernel_init": uniform_fan_in, "dtype": self.dtype}
        self.mask_hidden = Conv(self.mask_features, 14, **options)
        self.mask_logits = Conv(self.side**2, 1, **options)
        self.box_predictor = BoxPredictor(self.num_classes + 1, self.num_classes + 1, dtype=self.dtype)
        self.mask_classes = Conv(self.num_classes + 1, 1, kernel_init=nn.initializers.normal(0.01), dtype=self.dtype)

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
            [a 4], with ``targets`` ``anchor_luck`` [b a]; of the regions of stages 3 and 5, one after the other,
            ``rois`` [b s 4], ``roi_valid``, ``roi_positive`` and ``roi_repeated`` [b s], ``roi_logits`` and
            ``mask_class_logits`` [b s k+1], ``roi_deltas`` [b s k+1 4], and ``mask_logits`` [b s m m 1].
        """
        if size is None:
            size = whole(image)
        x = self.backbone(mean_outside(image, size, self.backbone.standardize), train=train)[self.map]
        logits, deltas = self.rpn([x])
        anchors, counts = py_faster_rcnn_anchors(
            [(x.shape[1], x.shape[2])], [self.stride], [self.anchor_sizes], [RATIOS]
        )
        how = self.train_proposing if train else self.test_proposing
        proposals = propose(logits, deltas, anchors, counts, size, how=how)
        if not train:
            return self._detect(x, proposals.boxes, proposals.valid, size)
        found = {"objectness": logits, "anchor_deltas": deltas, "anchors": anchors}
        limited: Array = limit_gradient(deltas, self.gradient_limit)
        proposals = proposals._replace(boxes=differentiable(proposals, limited, anchors, size))
        rois, valid, positive = proposals.boxes, proposals.valid, proposals.valid
        if targets is not None:
            key = self.make_rng("sample")
            keys = image_keys(jax.random.fold_in(key, 1), targets)
            found["anchor_luck"] = jax.vmap(lambda key: jax.random.uniform(key, logits.shape[1:]))(keys)
            options = {"positive_fraction": self.positive_fraction, "backgrounds": self.backgrounds}
            rois, valid, positive = sample_regions(key, proposals, targets, count=self.samples, **options)
        return found | self._cascade(x, rois, valid, positive, size, targets)

    def _cascade(
        self, x: Array, rois: Array, valid: Array, positive: Array, size: Array, targets: Mapping[str, Array] | None
    ) -> dict[str, Array]:
        """Return what the stages after the proposals say of the regions in training."""
        rounds = [self._round(x, rois, valid, positive, train=True)]
        if self.stages == 5:
            again = self._bridge(rounds[0], rois, valid, size)
            there, covers = valid, positive
            if targets is not None:
                objects = targets["valid"] & ~targets["crowd"] if "crowd" in targets else targets["valid"]
                again = jnp.concatenate([again, targets["boxes"]], axis=1)
                there, covers = (jnp.concatenate([a, objects], axis=1) for a in (valid, positive))
            there = there & box_ops.large_enough(again, 1.0)
            rounds.append(self._round(x, again, there, covers, train=True))
        rounds = [{**part, "roi_repeated": jnp.full(part["roi_valid"].shape, i > 0)} for i, part in enumerate(rounds)]
        joined = {key: jnp.concatenate([part[key] for part in rounds], axis=1) for key in rounds[0]}
        joined["rois"] = jax.lax.stop_gradient(joined["rois"])
        return in_order(joined, joined["roi_valid"], joined["roi_positive"])

    def _round(
        self, x: Array, rois: Float[Array, "b p 4"], valid: Array, positive: Array, *, train: bool
    ) -> dict[str, Array]:
        """Return masks (stage 2) and classes and box codes (stage 3) of regions."""
        b, p = rois.shape[:2]
        warped = _pooled(roi_warp(x, rois, valid, size=28, stride=self.stride))
        hidden = jax.nn.relu(self.mask_hidden(warped.reshape(b * p, *warped.shape[2:])))
        masks = self.mask_logits(hidden).astype(jnp.float32).reshape(b, p, self.side, self.side)
        # Only masks of objects learn from what is made of them.
        shown = jnp.where(positive[:, :, None, None], masks, jax.lax.stop_gradient(masks)) if train else masks
        shown = resize_bilinear(jax.nn.sigmoid(shown).reshape(b * p, self.side, self.side, 1), (14, 14))
        masked = warped * shown.reshape(b, p, 14, 14, 1).astype(warped.dtype)
        heads = self.mask_box_head(masked, valid, train=train), self.box_head(warped, valid, train=train)
        vectors = jnp.concatenate(heads, axis=-1)
        logits, deltas = self.box_predictor(vectors)
        by_mask = self.mask_classes(vectors.reshape(b * p, 1, 1, -1)).astype(jnp.float32)
        return {
            "rois": rois,
            "roi_valid": valid,
            "roi_positive": positive,
            "roi_logits": logits,
            "roi_deltas": deltas,
            "mask_class_logits": by_mask.reshape(b, p, -1),
            "mask_logits": masks[..., None],
        }

    def _bridge(self, found: Mapping[str, Array], rois: Array, valid: Array, size: Array) -> Float[Array, "b p 4"]:
        """Return the regions corrected for the class that their masks speak for most (section 3.4)."""
        own = jnp.argmax(found["mask_class_logits"][..., 1:], axis=-1)[..., None, None] + 1
        deltas = jnp.take_along_axis(found["roi_deltas"], own, axis=2)[:, :, 0]
        limited: Array = limit_gradient(deltas, self.gradient_limit)
        anchors = jnp.where(valid[..., None], rois, jnp.asarray([0.0, 0.0, 1.0, 1.0]))
        boxes = box_ops.decode(limited, anchors, box_ops.REGION_WEIGHTS)
        boxes = map_images(lambda boxes, size: box_ops.clip(boxes, size[0], size[1]))(boxes, size)
        return jnp.where(valid[..., None], boxes, 0)

    def _detect(self, x: Array, rois: Array, valid: Array, size: Array) -> dict[str, Array]:
        parts = []
        for _ in range(self.stages // 2):
            found = self._round(x, rois, valid, valid, train=False)
            chances = jax.nn.softmax(found["mask_class_logits"], axis=-1)[..., 1:]
            parts.append((rois, jax.nn.sigmoid(found["mask_logits"][..., 0]), chances, valid))
            rois = self._bridge(found, rois, valid, size)
            valid = valid & box_ops.large_enough(rois, 1.0)
        boxes, masks, chances, valid = (jnp.concatenate(part, axis=1) for part in zip(*parts, strict=True))

        def one(boxes: Array, masks: Array, chances: Array, valid: Array, size: Array) -> dict[str, Array]:
            return vote_masks(boxes, masks, chances, how=self.voting, size=size, valid=valid)._asdict()

        return map_images(one)(boxes, masks, chances, valid, size)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def limit_gradient(x: Array, limit: float) -> Array:
    """Return ``x``; its gradient is clipped to at most ``limit`` either way.

    >>> jax.grad(lambda x: 3.0 * limit_gradient(x, 0.5))(jnp.float32(1.0)).item()
    0.5
    """
    return x


def _limit_forward(x: Array, limit: float) -> tuple[Array, None]:
    return x, None


def _limit_backward(limit: float, _: None, dy: Array) -> tuple[Array]:
    return (jnp.clip(dy, -limit, limit),)


limit_gradient.defvjp(_limit_forward, _limit_backward)


def _pooled(regions: Regions) -> Float[Array, "b p _ _ c"]:
    """Return regions of half the rows and columns, by the maximum."""
    b, p = regions.shape[:2]
    half = max_pool(regions.reshape(b * p, *regions.shape[2:]), 2, stride=2)
    return half.reshape(b, p, *half.shape[1:])


def on_vgg16(
    num_classes: int = 20,
    *,
    stages: int = 5,
    width: int = 64,
    dense: int = 4096,
    mask_features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MNC:
    """Return MNC on VGG16, 20 classes of VOC by default.

    >>> on_vgg16(stages=3).stages
    3
    """
    return MNC(
        backbone=vgg16_map(width=width, in_channels=in_channels, standardize=standardize, dtype=dtype),
        rpn=RPNHead(8 * width, 9, outputs=2, dtype=dtype),
        box_head=PooledHead((dense, dense), dtype=dtype),
        mask_box_head=PooledHead((dense, dense), dtype=dtype),
        num_classes=num_classes,
        stages=stages,
        mask_features=mask_features,
        dtype=dtype,
    )


def on_c4(
    layers: int,
    num_classes: int = 80,
    *,
    stages: int = 5,
    width: int = 64,
    mask_features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MNC:
    """Return MNC on the map of stride 16 of a ResNet (section 4.3): its last stage takes the dense layers' place, once
    for regions and once for what masks leave of them.

    >>> on_c4(101).map
    'c4'
    """
    sizes = (64, 128, 256, 512)
    whole = detectron2_resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    return MNC(
        backbone=whole.clone(depths=whole.depths[:3]),
        rpn=RPNHead(8 * width, len(RATIOS) * len(sizes), outputs=2, dtype=dtype),
        box_head=Res5Head(Res5(8 * width, whole.depths[3], dtype=dtype)),
        mask_box_head=Res5Head(Res5(8 * width, whole.depths[3], dtype=dtype)),
        num_classes=num_classes,
        stages=stages,
        map="c4",
        mask_features=mask_features,
        anchor_sizes=sizes,
        dtype=dtype,
    )


SMALL: Mapping[str, Any] = {
    "width": 8,
    "mask_features": 64,
    "backbone.output_stride": 8,
    "stride": 8,
    "anchor_sizes": (8, 16, 32),
    "train_proposing": Proposing(128, 64, min_size=2.0),
    "test_proposing": Proposing(128, 64, min_size=2.0),
    "samples": 32,
    "voting": Voting(count=20),
}
"""The small variants: few channels, cells and anchors for images of 64 to 128 pixels."""

_DENSE = (
    (r"fc6_maskest", "mask_hidden", "dense", ""),
    (r"mask_pred", "mask_logits", "dense", ""),
    (r"(fc[67])", r"box_head/dense/\1", "dense", ""),
    (r"(fc[67])_mask", r"mask_box_head/dense/\1", "dense", ""),
    (r"cls_score", "box_predictor/logits", "dense", ""),
    (r"seg_cls_score", "mask_classes", "dense", ""),
    (r"bbox_pred", "box_predictor/deltas", "region codes", "|region codes"),
)

CAFFE_NAMES: Rules = (
    *((theirs, f"backbone/{ours}") for theirs, ours in vgg.CAFFE_NAMES if ours),
    *caffe_rpn_names("rpn"),
    *((rf"{theirs}\.weight", f"{ours}/kernel|{layout}") for theirs, ours, layout, _ in _DENSE),
    *((rf"{theirs}\.bias", f"{ours}/bias{layout}") for theirs, ours, _, layout in _DENSE),
    (r".*_ext\..*", None),  # the layers of stages 4 and 5, which share all weights
)
"""Rules from the authors' ``mnc_model.caffemodel``."""

_register = partial(register, task="instance", paper="arXiv:1512.04412")

mnc_vgg16 = _register(
    name="mnc_vgg16",
    summary="Multi-task network cascade of five stages on VGG16: boxes, masks, classes, and both again.",
    params=283_029_933,
    names={"caffe": CAFFE_NAMES},
    small={**SMALL, "dense": 64, "box_head.dropout": 0.0, "mask_box_head.dropout": 0.0},
)(on_vgg16)

mnc_resnet101_c4 = _register(
    name="mnc_resnet101_c4",
    summary="The same on the map of stride 16 of ResNet-101.",
    small={
        **SMALL,
        "anchor_sizes": (8, 16, 32, 64),
        "backbone.depths": (1, 1, 1),
        "box_head.stage.blocks": 1,
        "mask_box_head.stage.blocks": 1,
    },
)(partial(on_c4, 101))
