"""R-CNN: rich feature hierarchies for accurate object detection (Girshick et al. 2014, arXiv:1311.2524).

Every proposal is cut out of the image, warped to 227 by 227 pixels and seen by the whole network, AlexNet as Caffe has
it: two thousand times an image. The paper trains in three stages: the network by softmax, a support vector machine for
each class on fc7, and box regressors on pool5. ``scorer="softmax"`` is the network after the first of them;
``scorer="svm"`` scores and corrects by what the other two leave.

Proposals are the batch's ``proposals``. Sampling, suppression and slots are those of
:mod:`jaxseg.models.detection.fast_rcnn`.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import alexnet, vgg
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.roi_heads import BoxHead
from jaxseg.layers.rpn import Proposals
from jaxseg.layers.standardize import CAFFE, Standardize, statistics
from jaxseg.models.detection.fast_rcnn import FastRCNN
from jaxseg.ops import boxes as box_ops
from jaxseg.ops import codings
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections
from jaxseg.ops.warp_regions import warp_regions
from jaxseg.registry import register
from jaxseg.types import Rules

normal_01 = nn.initializers.normal(0.01)


class RCNN(FastRCNN):
    """R-CNN: a network of single objects on every proposal.

    Attributes:
      crop: side of the warped regions, pixels.
      context: pixels around the proposal in it.
      scorer: "softmax", of the network; or "svm", of support vector machines, with regressed boxes.
      at_once: regions that run through the network together.

    >>> model, image = rcnn_alexnet(3, widths=(4, 4, 4, 4, 4), dense=8), jnp.zeros((1, 64, 96, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])
    >>> found["boxes"].shape
    (1, 100, 4)
    """

    crop: int = 227
    context: int = 16
    scorer: str = "softmax"
    at_once: int = 64

    def _find(
        self,
        image: Array,
        size: Array | None,
        targets: Mapping[str, Array] | None,
        given: Proposals | None = None,
        *,
        train: bool,
    ) -> tuple[dict[str, Array], list[Array], Array]:
        """Return what ``__call__`` does, no maps, and the features of the regions, pool5."""
        if self.scorer not in ("softmax", "svm"):
            raise BadInput(f"scorer {self.scorer!r} of R-CNN; there are 'softmax' and 'svm'")
        if size is None:
            size = whole(image)
        proposals, _ = self._propose(image, [], size, given, train=train)
        rois, valid = proposals.boxes, proposals.valid
        positive = valid
        if train and targets is not None:
            rois, valid, positive = self._sample(proposals, targets)
        pool5 = self._pool5(image, rois, size, train=train)
        fc7 = self.box_head(pool5, valid, train=train)
        logits = _dense(self, "logits", self.num_classes + 1, fc7)
        margins = _dense(self, "margins", self.num_classes, fc7) if self.scorer == "svm" else None
        codes = _dense(self, "codes", 4 * self.num_classes, pool5) if self.scorer == "svm" else None
        if train:
            found = {"rois": rois, "roi_valid": valid, "roi_positive": positive, "roi_logits": logits}
            return found, [], pool5
        if margins is None or codes is None:
            return self._named(rois[:, :, None], valid, jax.nn.softmax(logits, -1)[..., 1:], size), [], pool5
        codes = codes.reshape(*codes.shape[:2], self.num_classes, 4)
        boxes = codings.decode(codes, rois[:, :, None], coding=self.coding)
        return self._named(boxes, valid, jax.nn.sigmoid(margins), size), [], pool5

    def features(
        self, image: Array, boxes: Float[Array, "b p 4"], size: Array | None = None
    ) -> tuple[Float[Array, "b p d"], Float[Array, "b p f"]]:
        """Return what stages after the first learn from: pool5, flat, and fc7 of each box."""
        if size is None:
            size = whole(image)
        pool5 = self._pool5(image, boxes, size, train=False)
        return pool5.reshape(*boxes.shape[:2], -1), self.box_head(pool5, train=False)

    def _pool5(self, image: Array, rois: Array, size: Array, *, train: bool) -> Float[Array, "b p y x c"]:
        """Return the last pooled map of every region, so many regions at once."""
        pixels = self.backbone.standardize(image, self.in_channels)
        seen = self.backbone.clone(standardize=Standardize(mean=()), parent=None)
        b, p = rois.shape[:2]
        if self.is_initializing():
            crop = jnp.zeros((1, self.crop, self.crop, self.in_channels), jnp.float32)
            cells = self.backbone(crop, train=train)["c5"].shape[1:]
            return jnp.zeros((b, p, *cells), self.dtype)
        variables = self.backbone.variables
        parts = max(-(-p // self.at_once), 1)
        padded = jnp.pad(rois, ((0, 0), (0, parts * self.at_once - p), (0, 0))) if parts > 1 else rois

        def one_image(given: tuple[Array, Array, Array]) -> Array:
            pixels, rois, size = given

            def some(boxes: Array) -> Array:
                options = {"size": self.crop, "context": self.context, "height": size[0], "width": size[1]}
                maps: Any = seen.apply(variables, warp_regions(pixels, boxes, **options), train=train)
                return maps["c5"]

            found = jax.lax.map(some, rois.reshape(parts, -1, 4))
            return found.reshape(-1, *found.shape[2:])[:p]

        return jax.lax.map(one_image, (pixels, padded, size))

    def _named(self, boxes: Array, valid: Array, scores: Array, size: Array) -> dict[str, Array]:
        def one(boxes: Array, valid: Array, scores: Array, size: Array) -> dict[str, Array]:
            best = detections(
                box_ops.clip(boxes, size[0], size[1]),
                scores,
                valid=valid,
                score_threshold=self.score_threshold,
                min_size=self.min_size,
                nms_threshold=self.nms_threshold,
                count=self.detections,
                slots=min(2000, scores.size),
            )
            return {k: v for k, v in best._asdict().items() if k in ("boxes", "scores", "classes", "valid", "exact")}

        return map_images(one)(boxes, valid, scores, size)


def _dense(model: nn.Module, name: str, outputs: int, x: Array) -> Array:
    """Return so many numbers of each region's features [b p ...], float32."""
    cells = x.reshape(-1, 1, 1, x[0, 0].size)
    dense = Conv(outputs, 1, kernel_init=normal_01, dtype=cells.dtype, name=name, parent=model)
    return dense(cells).reshape(*x.shape[:2], outputs).astype(jnp.float32)


def on_alexnet(
    num_classes: int = 20,
    *,
    scorer: str = "softmax",
    widths: tuple[int, ...] = (96, 256, 384, 384, 256),
    dense: int = 4096,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> RCNN:
    """Return R-CNN as the paper has it, 20 classes of VOC by default.

    >>> on_alexnet().nms_threshold, on_alexnet().coding
    (0.3, 'corners')
    """
    backbone = alexnet.AlexNet(
        widths=widths,
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
    return RCNN(
        backbone=backbone,
        box_head=BoxHead((), (dense, dense), dropout=0.5, dtype=dtype),
        scorer=scorer,
        num_classes=num_classes,
        multiple=1,
        coding=codings.CORNERS,
        samples=64,
        score_threshold=0.05 if scorer == "softmax" else 0.0,
        min_size=0.0,
        nms_threshold=0.3,
        dtype=dtype,
    )


CAFFE_NAMES: Rules = (
    *((theirs, ours and f"backbone/{ours}") for theirs, ours in alexnet.CAFFE_NAMES if ours),
    *((theirs, ours and f"box_head/{ours}") for theirs, ours in vgg.CAFFE_CLASSIFIER if ours),
    (r"fc8.*\.weight", "logits/kernel|dense"),
    (r"fc8.*\.bias", "logits/bias"),
)
"""Rules from the authors' fine-tuned ``finetune_voc_2007_trainval_iter_70k``."""

SMALL: Mapping[str, Any] = {
    "widths": (8, 8, 8, 8, 8),
    "dense": 32,
    "crop": 67,
    "context": 4,
    "samples": 32,
    "detections": 20,
    "windows": (16, 32, 64),
}
"""The small variants: few channels, crops of 67 pixels, windows for images of 64 to 128."""

rcnn_alexnet = register(
    task="detection",
    paper="arXiv:1311.2524",
    name="rcnn_alexnet",
    summary="R-CNN on AlexNet, which runs on every proposal.",
    params=56_954_261,
    names={"caffe": CAFFE_NAMES},
    small=SMALL,
)(on_alexnet)
