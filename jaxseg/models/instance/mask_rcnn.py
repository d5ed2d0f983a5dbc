"""Mask R-CNN (He et al. 2017, arXiv:1703.06870): Faster R-CNN and, for each object, its mask within the box.

The mask head looks at the detections only, cut out anew at 14 by 14 cells, and answers with one mask of 28 by 28 for
each class; there is no competition among classes: the class was decided before.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxseg.layers.roi_heads import MaskHead, torchvision_mask_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection import faster_rcnn
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.registry import register
from jaxseg.types import Rules


class MaskRCNN(FasterRCNN):
    """Faster R-CNN with a mask head.

    Attributes:
      mask_head: one mask for each class, and as torchvision has it for background, which is never used.

    >>> model, image = on_resnet(18, 3, width=4, features=4, dense=8), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["masks"].shape
    (1, 100, 28, 28)
    """

    mask_head: MaskHead = MaskHead()

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return what :class:`FasterRCNN` returns, and ``masks`` f32[b d m m], probabilities within the boxes.

        In training ``mask_logits`` f32[b f m m k+1] instead, of the first ``f`` sampled regions: those that may be
        positive.
        """
        found, levels, regions = self._find(image, size, targets, train=train)
        regions = self._regions_for_head(found, levels, regions, train=train)
        outputs = self.num_classes + self.coded_background
        logits = self.mask_head(regions, outputs, train=train)
        logits = jnp.pad(logits, (*((0, 0),) * 4, (self.num_classes + 1 - outputs, 0)))
        if train:
            return {**found, "mask_logits": logits}
        own = jnp.take_along_axis(logits, found["classes"][:, :, None, None, None] + 1, axis=-1)[..., 0]
        return {**found, "masks": jnp.where(found["valid"][:, :, None, None], jax.nn.sigmoid(own), 0)}


def on_resnet(
    layers: int,
    num_classes: int = 90,
    *,
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MaskRCNN:
    """Return torchvision's Mask R-CNN of version 1 or 2 on a ResNet.

    >>> on_resnet(50).mask_head.convs
    (256, 256, 256, 256)
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    sizes: dict[str, int] = {"version": version, "width": width, "features": features, "dense": dense}
    detector = faster_rcnn.on_resnet(layers, num_classes, **sizes, **options)
    norm = "none" if version == 1 else "batch"
    return MaskRCNN(
        **faster_rcnn.fields_of(detector), mask_head=MaskHead((features,) * 4, features, norm=norm, dtype=dtype)
    )


TORCHVISION_NAMES: Rules = (
    *torchvision_mask_names("roi_heads", "mask_head"),
    *faster_rcnn.TORCHVISION_NAMES,
)
"""Rules from torchvision's ``maskrcnn_resnet50_fpn`` and ``_v2``."""

_register = partial(
    register,
    task="instance",
    paper="arXiv:1703.06870",
    names={"torchvision": TORCHVISION_NAMES},
    small=faster_rcnn.SMALL,
)

mask_rcnn_resnet50_fpn = _register(
    name="mask_rcnn_resnet50_fpn",
    summary="Mask R-CNN on a feature pyramid of ResNet-50, as torchvision has it.",
    params=44_401_393,
)(partial(on_resnet, 50))

mask_rcnn_resnet50_fpn_v2 = _register(
    name="mask_rcnn_resnet50_fpn_v2",
    summary="The same with normalised pyramid and heads, and deeper heads.",
    params=46_359_409,
)(partial(on_resnet, 50, version=2))

mask_rcnn_resnet101_fpn = _register(
    name="mask_rcnn_resnet101_fpn",
    summary="Mask R-CNN on a feature pyramid of ResNet-101.",
)(partial(on_resnet, 101))
