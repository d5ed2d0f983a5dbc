"""Mask R-CNN (He et al. 2017, arXiv:1703.06870): Faster R-CNN and, for each object, its mask within the box.

The mask head looks at the detections only, cut out anew at 14 by 14 cells, and answers with one mask of 28 by 28 for
each class; there is no competition among classes: the class was decided before.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxseg.layers.roi_heads import MaskHead, torchvision_mask_names
from jaxseg.layers.standardize import IMAGENET, Standardize
from jaxseg.models.detection import faster_rcnn
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.types import Rules


class MaskRCNN(nn.Module):
    """Faster R-CNN with a mask head.

    Attributes:
      detector: finds the boxes.
      mask_head: one mask for background, which is never used, and for each class, as torchvision has it.

    >>> model, image = on_resnet(18, 3, width=4, features=4, dense=8), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["masks"].shape
    (1, 100, 28, 28)
    """

    detector: FasterRCNN
    mask_head: MaskHead

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w 3"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Any]:
        """Return what :class:`FasterRCNN` returns, and ``masks`` f32[b d m m], probabilities within the boxes.

        In training ``mask_logits`` f32[b f m m k+1] instead, of the first ``f`` sampled regions: those that may be
        positive.
        """
        found = self.detector(image, size, targets, train=train)
        logits = self.mask_head(self.detector.cut_for_head(found, train=train), train=train)
        if train:
            return {**found, "mask_logits": logits}
        own = jnp.take_along_axis(logits, found["classes"][:, :, None, None, None] + 1, axis=-1)[..., 0]
        return {**found, "masks": jnp.where(found["valid"][:, :, None, None], jax.nn.sigmoid(own), 0)}


def on_resnet(
    layers: int,
    num_classes: int,
    *,
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    standardize: Standardize = IMAGENET,
    dtype: jnp.dtype | type = jnp.float32,
    **fields: Any,
) -> MaskRCNN:
    """Return torchvision's Mask R-CNN of version 1 or 2 on a ResNet; ``fields`` are those of :class:`FasterRCNN`.

    >>> on_resnet(50, 90).mask_head.outputs
    91
    """
    detector = faster_rcnn.on_resnet(
        layers,
        num_classes,
        version=version,
        width=width,
        features=features,
        dense=dense,
        standardize=standardize,
        dtype=dtype,
        **fields,
    )
    norm = "none" if version == 1 else "batch"
    head = MaskHead(num_classes + 1, (features,) * 4, features, norm=norm, dtype=dtype)
    return MaskRCNN(detector=detector, mask_head=head)


TORCHVISION_NAMES: Rules = (
    *torchvision_mask_names("roi_heads", "mask_head"),
    *faster_rcnn.torchvision_names("detector/"),
)
"""Rules from torchvision's ``maskrcnn_resnet50_fpn`` and ``_v2``."""
