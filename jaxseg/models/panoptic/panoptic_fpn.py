"""Panoptic FPN: panoptic feature pyramid networks (Kirillov et al. 2019, arXiv:1901.02446).

Mask R-CNN, and on the same pyramid a branch that labels pixels: each level is brought to stride 4 by convolutions and
bilinear steps, all are added and classified. All things are one class there, the first; every stuff class has its own.
Geometry and weights are detectron2's.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import make_norm
from jaxseg.layers.roi_heads import fan_out_normal
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection import faster_rcnn
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.instance.mask_rcnn import MaskRCNN
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ c"]


class SemanticBranch(nn.Module):
    """Label pixels by the levels of a pyramid (Figure 3): 3x3 convolutions, each but on the finest level before a
    bilinear enlargement by two, until all have its size; their sum is classified and enlarged by four.

    >>> levels = [jnp.zeros((1, 8, 8, 4)), jnp.zeros((1, 4, 4, 4))]
    >>> branch = SemanticBranch(features=32)
    >>> jax.eval_shape(lambda: branch.init_with_output(jax.random.key(0), levels, 3, train=False)[0]).shape
    (1, 32, 32, 3)

    Attributes:
      features: channels of the convolutions.
      norm: of the convolutions.
      dtype: compute dtype.
    """

    features: int = 128
    norm: str = "group"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, levels: list[Map], outputs: int, *, train: bool) -> Float[Array, "b h w k"]:
        """Return so many scores of every pixel, four times as many rows and columns as the finest level, float32."""
        options = {"kernel_init": fan_out_normal, "dtype": self.dtype}
        total = jnp.zeros((), self.dtype)
        for i, x in enumerate(levels):
            for k in range(max(1, i)):
                name = f"level{i}_conv{k}"
                x = Conv(self.features, 3, padding=1, use_bias=self.norm == "none", **options, name=name)(x)
                x = jax.nn.relu(make_norm(self.norm)(dtype=self.dtype, name=f"{name}_norm")(x, train=train))
                if i:
                    x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
            total = total + x
        scores = Conv(outputs, 1, **options, name="logits")(total).astype(jnp.float32)
        return resize_bilinear(scores, (4 * scores.shape[1], 4 * scores.shape[2]))


class PanopticFPN(MaskRCNN):
    """Mask R-CNN with a semantic branch; ``num_classes`` counts things.

    Attributes:
      semantic_branch: on the levels that regions are cut from.
      num_stuff: classes of stuff.

    >>> model, image = on_resnet(18, 3, 2, width=4, features=32, dense=8), jnp.zeros((1, 64, 96, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["logits"].shape
    (1, 64, 96, 3)
    """

    semantic_branch: SemanticBranch = SemanticBranch()
    num_stuff: int = 53

    @property
    def num_things(self) -> int:
        """Classes of objects."""
        return self.num_classes

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return what :class:`MaskRCNN` returns, and ``logits`` f32[b h w 1 + stuff], all things first."""
        found, levels = self._masked(image, size, targets, train=train)
        logits = self.semantic_branch(levels[: self.roi_levels], 1 + self.num_stuff, train=train)
        return {**found, "logits": logits[:, : image.shape[1], : image.shape[2]]}


def on_resnet(
    layers: int,
    num_classes: int = 80,
    num_stuff: int = 53,
    *,
    width: int = 64,
    features: int = 256,
    dense: int = 1024,
    semantic: int = 128,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> PanopticFPN:
    """Return detectron2's Panoptic FPN on a ResNet; ``semantic`` channels in its semantic branch.

    >>> on_resnet(50).num_stuff
    53
    """
    options: dict[str, Any] = {"in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    sizes: dict[str, Any] = {"width": width, "features": features, "dense": dense}
    model = mask_rcnn.on_resnet(layers, num_classes, conventions="detectron2", **sizes, **options)
    branch = SemanticBranch(semantic, dtype=dtype)
    return PanopticFPN(**faster_rcnn.fields_of(model), semantic_branch=branch, num_stuff=num_stuff)


_CONVS = tuple((i, k) for i in range(4) for k in range(max(1, i)))

DETECTRON2_NAMES: Rules = (
    *(
        (rf"sem_seg_head\.p{i + 2}\.{2 * k}\.{theirs}", f"semantic_branch/level{i}_conv{k}{ours}")
        for i, k in _CONVS
        for theirs, ours in (("weight", "/kernel"), (r"norm\.weight", "_norm/scale"), (r"norm\.bias", "_norm/bias"))
    ),
    (r"sem_seg_head\.predictor\.weight", "semantic_branch/logits/kernel"),
    (r"sem_seg_head\.predictor\.bias", "semantic_branch/logits/bias"),
    *mask_rcnn.DETECTRON2_NAMES,
)
"""Rules from detectron2's ``panoptic_fpn_R_50_3x`` and ``_R_101_3x``."""

_register = partial(
    register,
    task="panoptic",
    paper="arXiv:1901.02446",
    names={"detectron2": DETECTRON2_NAMES},
    small={**faster_rcnn.SMALL, "num_stuff": 2, "semantic": 32},
)

panoptic_fpn_resnet50 = _register(
    name="panoptic_fpn_resnet50",
    summary="Panoptic FPN on ResNet-50, as detectron2 has it.",
    params=45_973_990,
)(partial(on_resnet, 50))

panoptic_fpn_resnet101 = _register(
    name="panoptic_fpn_resnet101",
    summary="Panoptic FPN on ResNet-101, as detectron2 has it.",
)(partial(on_resnet, 101))
