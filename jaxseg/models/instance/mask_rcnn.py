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

from jaxseg.layers.roi_heads import MaskHead, apply_where, detectron2_mask_names, torchvision_mask_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection import faster_rcnn, faster_rcnn_c4
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
        positive; zeros for some of those that are not.
        """
        return self._masked(image, size, targets, train=train)[0]

    def _masked(
        self, image: Array, size: Array | None, targets: Mapping[str, Array] | None, *, train: bool
    ) -> tuple[dict[str, Array], list[Array]]:
        """Return what ``__call__`` does, and the levels' maps."""
        found, levels, regions = self._find(image, size, targets, train=train)
        return self._with_masks(found, levels, regions, train=train), levels

    def _with_masks(
        self, found: dict[str, Array], levels: list[Array], regions: Array, *, train: bool
    ) -> dict[str, Array]:
        """Return what was found with its masks."""
        regions = self._regions_for_head(found, levels, regions, train=train)
        outputs = self.num_classes + self.coded_background
        wanted = found["roi_positive"][:, : regions.shape[1]] if train else None
        if wanted is not None and self.mask_head.norm == "none" and not self.is_initializing():
            logits = apply_where(self.mask_head, regions, wanted, outputs, train=train)
        else:  # a batch's statistics are of the positive regions of all parts
            logits = self.mask_head(regions, outputs, wanted, train=train)
        logits = jnp.pad(logits, (*((0, 0),) * 4, (self.num_classes + 1 - outputs, 0)))
        if train:
            return {**found, "mask_logits": logits}
        own = jnp.take_along_axis(logits, found["classes"][:, :, None, None, None] + 1, axis=-1)[..., 0]
        masks = jnp.where(found["valid"][:, :, None, None], jax.nn.sigmoid(own), 0)
        return {**found, "masks": masks}


def on_resnet(
    layers: int,
    num_classes: int | None = None,
    *,
    conventions: str = "torchvision",
    version: int = 1,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MaskRCNN:
    """Return Mask R-CNN on :func:`jaxseg.models.detection.faster_rcnn.on_resnet`, which takes the same options.

    >>> on_resnet(50).mask_head.convs
    (256, 256, 256, 256)
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    sizes: dict[str, Any] = {"version": version, "width": width, "features": features, "dense": dense}
    detector = faster_rcnn.on_resnet(layers, num_classes, conventions=conventions, **sizes, **options)
    norm = "none" if version == 1 else "batch"
    return with_masks(detector, MaskHead((features,) * 4, features, norm=norm, dtype=dtype))


def on_resnext(
    layers: int,
    groups: int,
    width_per_group: int,
    num_classes: int = 80,
    *,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MaskRCNN:
    """Return detectron2's Mask R-CNN on a pyramid of a ResNeXt.

    >>> on_resnext(101, 32, 8).backbone.groups
    32
    """
    grouped: dict[str, int] = {"width": width, "groups": groups, "width_per_group": width_per_group}
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = faster_rcnn.detectron2_resnet(layers, **grouped, **options)
    detector = faster_rcnn.in_detectron2(backbone, num_classes, features=features, dense=dense, dtype=dtype)
    return with_masks(detector, MaskHead((features,) * 4, features, dtype=dtype))


def on_c4(
    layers: int,
    num_classes: int = 80,
    *,
    width: int = 64,
    features: int = 256,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> MaskRCNN:
    """Return detectron2's Mask R-CNN on one map (Figure 4, left): masks of 14 by 14, from what the box head sees.

    >>> on_c4(50).mask_head.convs
    ()
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    detector = faster_rcnn_c4.on_c4(layers, num_classes, width=width, **options)
    return with_masks(detector, MaskHead((), features, dtype=dtype))


def with_masks(detector: FasterRCNN, head: MaskHead) -> MaskRCNN:
    """Return a detector with a mask head.

    >>> with_masks(faster_rcnn.on_resnet(50), MaskHead()).num_classes
    90
    """
    return MaskRCNN(**faster_rcnn.fields_of(detector), mask_head=head)


TORCHVISION_NAMES: Rules = (
    *torchvision_mask_names("roi_heads", "mask_head"),
    *faster_rcnn.TORCHVISION_NAMES,
)
"""Rules from torchvision's ``maskrcnn_resnet50_fpn`` and ``_v2``."""

DETECTRON2_NAMES: Rules = (
    *detectron2_mask_names("roi_heads", "mask_head"),
    *faster_rcnn.DETECTRON2_NAMES,
)
"""Rules from detectron2's ``mask_rcnn_R_50_FPN_3x`` and others."""

C4_NAMES: Rules = (
    *detectron2_mask_names("roi_heads", "mask_head"),
    *faster_rcnn_c4.DETECTRON2_NAMES,
)
"""Rules from detectron2's ``mask_rcnn_R_50_C4_3x`` and others."""

NAMES = {"torchvision": TORCHVISION_NAMES, "detectron2": DETECTRON2_NAMES}

_register = partial(register, task="instance", paper="arXiv:1703.06870")
_fpn = partial(_register, names=NAMES, small=faster_rcnn.SMALL)
_x101 = partial(_register, names={"detectron2": DETECTRON2_NAMES}, small={**faster_rcnn.SMALL, "width": 16})
_c4 = partial(_register, names={"detectron2": C4_NAMES}, small={**faster_rcnn_c4.SMALL_C4, "features": 32})

mask_rcnn_resnet50_fpn = _fpn(
    name="mask_rcnn_resnet50_fpn",
    summary="Mask R-CNN on a feature pyramid of ResNet-50, as torchvision has it.",
    params=44_401_393,
)(partial(on_resnet, 50))

mask_rcnn_resnet50_fpn_v2 = _fpn(
    name="mask_rcnn_resnet50_fpn_v2",
    names={"torchvision": TORCHVISION_NAMES},
    summary="The same with normalised pyramid and heads, and deeper heads.",
    params=46_359_409,
)(partial(on_resnet, 50, version=2))

mask_rcnn_resnet101_fpn = _fpn(
    name="mask_rcnn_resnet101_fpn",
    summary="Mask R-CNN on a feature pyramid of ResNet-101, as detectron2 has it.",
    params=63_283_120,
)(partial(on_resnet, 101, conventions="detectron2"))

mask_rcnn_resnext101_32x8d_fpn = _x101(
    name="mask_rcnn_resnext101_32x8d_fpn",
    summary="Mask R-CNN on a feature pyramid of ResNeXt-101 32x8d, as detectron2 has it.",
    params=107_427_760,
)(partial(on_resnext, 101, 32, 8))

mask_rcnn_resnext101_64x4d_fpn = _x101(
    name="mask_rcnn_resnext101_64x4d_fpn",
    summary="The same on ResNeXt-101 64x4d.",
    params=102_091_696,
)(partial(on_resnext, 101, 64, 4))

mask_rcnn_resnet50_c4 = _c4(
    name="mask_rcnn_resnet50_c4",
    summary="Mask R-CNN on the map of stride 16 of ResNet-50, as detectron2 has it.",
    params=35_909_612,
)(partial(on_c4, 50))

mask_rcnn_resnet101_c4 = _c4(
    name="mask_rcnn_resnet101_c4",
    summary="The same on ResNet-101.",
    params=54_849_516,
)(partial(on_c4, 101))
