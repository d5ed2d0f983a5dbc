"""Keypoint R-CNN (He et al. 2017, arXiv:1703.06870, section 5): Faster R-CNN and, for each person, the joints.

A joint is one cell of a heatmap of 56 by 56 over the box, by a softmax over all cells.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxseg.layers.roi_heads import KeypointHead, apply_where, detectron2_keypoint_names, torchvision_keypoint_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection import faster_rcnn
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.ops.keypoints import keypoints_from_heatmaps
from jaxseg.registry import register
from jaxseg.types import Rules


class KeypointRCNN(FasterRCNN):
    """Faster R-CNN with a keypoint head.

    Attributes:
      keypoint_head: one heatmap for each joint.

    >>> import jax
    >>> model, image = on_resnet(18, width=4, features=4, dense=8, head=4), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["keypoints"].shape
    (1, 100, 17, 3)
    """

    keypoint_head: KeypointHead = KeypointHead()

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return what :class:`FasterRCNN` returns, and ``keypoints`` f32[b d j 3]: x, y in pixels, and the logit.

        In training ``keypoint_logits`` f32[b f m m j] instead, of the first ``f`` sampled regions: those that may be
        positive; zeros for some of those that are not.
        """
        found, levels, regions = self._find(image, size, targets, train=train)
        regions = self._regions_for_head(found, levels, regions, train=train)
        if train and not self.is_initializing():
            wanted = found["roi_positive"][:, : regions.shape[1]]
            return {**found, "keypoint_logits": apply_where(self.keypoint_head, regions, wanted, train=train)}
        logits = self.keypoint_head(regions, train=train)
        if train:
            return {**found, "keypoint_logits": logits}
        boxes, valid = found["boxes"], found["valid"]
        b, d = valid.shape
        flat = keypoints_from_heatmaps(
            logits.reshape(b * d, *logits.shape[2:]), boxes.reshape(-1, 4), valid.reshape(-1)
        )
        return {**found, "keypoints": flat.reshape(b, d, *flat.shape[1:])}


def on_resnet(
    layers: int,
    num_classes: int = 1,
    joints: int = 17,
    *,
    conventions: str = "torchvision",
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    head: int = 512,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> KeypointRCNN:
    """Return torchvision's or detectron2's Keypoint R-CNN on a ResNet; ``head`` channels in its keypoint head.

    >>> on_resnet(50).keypoint_head.joints
    17
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    sizes: dict[str, Any] = {"width": width, "features": features, "dense": dense}
    detector = faster_rcnn.on_resnet(layers, num_classes, conventions=conventions, **sizes, **options)
    return KeypointRCNN(**faster_rcnn.fields_of(detector), keypoint_head=KeypointHead(joints, (head,) * 8, dtype=dtype))


TORCHVISION_NAMES: Rules = (
    *torchvision_keypoint_names("roi_heads", "keypoint_head"),
    *faster_rcnn.TORCHVISION_NAMES,
)
"""Rules from torchvision's ``keypointrcnn_resnet50_fpn``."""

DETECTRON2_NAMES: Rules = (
    *detectron2_keypoint_names("roi_heads", "keypoint_head"),
    *faster_rcnn.DETECTRON2_NAMES,
)
"""Rules from detectron2's ``keypoint_rcnn_R_50_FPN_3x``."""

keypoint_rcnn_resnet50_fpn = register(
    task="keypoints",
    name="keypoint_rcnn_resnet50_fpn",
    paper="arXiv:1703.06870",
    summary="Keypoint R-CNN on a feature pyramid of ResNet-50, as torchvision has it.",
    params=59_137_258,
    names={"torchvision": TORCHVISION_NAMES, "detectron2": DETECTRON2_NAMES},
    small={**faster_rcnn.SMALL, "num_classes": 1, "joints": 5, "head": 16},
)(partial(on_resnet, 50))
