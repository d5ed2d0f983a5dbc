"""Faster R-CNN on one map (Ren et al. 2015, arXiv:1506.01497; He et al. 2016, arXiv:1512.03385, appendix A): C4.

The residual network up to its fourth stage makes the map; all proposals come from it, of five sizes of anchors, and the
fifth stage runs on every region of 14 by 14 cells. Geometry and weights are detectron2's.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import resnet
from jaxseg.backbones.resnet import Bottleneck
from jaxseg.layers.roi_heads import BoxHead, detectron2_box_names
from jaxseg.layers.rpn import Proposing, RPNHead, detectron2_rpn_names
from jaxseg.layers.standardize import Standardize
from jaxseg.models.detection.faster_rcnn import DETECTRON2, SMALL, FasterRCNN, detectron2_resnet
from jaxseg.registry import register
from jaxseg.types import Rules

SIZES = (32, 64, 128, 256, 512)
"""Roots of the anchors' areas, pixels."""


class Res5(nn.Module):
    """The last stage of a residual network on regions; the first block halves them.

    >>> import jax
    >>> head, regions = Res5(8, blocks=1), jnp.zeros((1, 2, 14, 14, 16))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), regions, train=False)[0]).shape
    (1, 2, 7, 7, 32)

    Attributes:
      features: channels inside the blocks; four times as many come out.
      blocks: how many.
      stride_on: as of :class:`jaxseg.backbones.resnet.ResNet`.
      norm: of the convolutions.
      dtype: compute dtype.
    """

    features: int = 512
    blocks: int = 3
    stride_on: str = "1x1"
    norm: str = "frozen"
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, regions: Float[Array, "b p y x c"], *, train: bool) -> Float[Array, "b p _ _ d"]:
        """Return the regions' maps in the compute dtype."""
        b, p = regions.shape[:2]
        x = regions.reshape(b * p, *regions.shape[2:]).astype(self.dtype)
        options = {"stride_on": self.stride_on, "norm": self.norm, "dtype": self.dtype}
        for i in range(self.blocks):
            x = Bottleneck(self.features, stride=1 + (i == 0), **options, name=f"layer4_{i}")(x, train=train)
        return x.reshape(b, p, *x.shape[1:])


def on_c4(
    layers: int,
    num_classes: int = 80,
    *,
    width: int = 64,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> FasterRCNN:
    """Return detectron2's Faster R-CNN on the map of stride 16 of a ResNet.

    >>> on_c4(50).rpn.anchors
    15
    """
    whole = detectron2_resnet(layers, width=width, in_channels=in_channels, standardize=standardize, dtype=dtype)
    proposing = {
        "train_proposing": Proposing(12000, 2000, min_size=1e-30),
        "test_proposing": Proposing(6000, 1000, min_size=1e-30),
    }
    return FasterRCNN(
        backbone=whole.clone(depths=whole.depths[:3]),
        rpn=RPNHead(16 * width, 3 * len(SIZES), dtype=dtype),
        shared_head=Res5(8 * width, whole.depths[3], dtype=dtype),
        box_head=BoxHead((), (), dtype=dtype),
        num_classes=num_classes,
        maps=("c4",),
        finest_stride=16,
        roi_levels=1,
        side=14,
        multiple=1,
        anchor_sizes=(SIZES,),
        dtype=dtype,
        **{**DETECTRON2, **proposing},
    )


_BODY = tuple(rule for rule in resnet.DETECTRON2_NAMES if rule[1] is not None)

DETECTRON2_NAMES: Rules = (
    *((rf"roi_heads\.{theirs}", f"shared_head/{ours}") for theirs, ours in _BODY if ours and "layer4" in ours),
    *((rf"backbone\.{theirs}", f"backbone/{ours}") for theirs, ours in _BODY if ours and "layer4" not in ours),
    *detectron2_rpn_names("proposal_generator", "rpn"),
    *detectron2_box_names("roi_heads", "box"),
    (r"pixel_(mean|std)|.*\.num_batches_tracked", None),
)
"""Rules from detectron2's ``faster_rcnn_R_50_C4_3x``."""

_LAST = tuple(rule for rule in resnet.CAFFE2_NAMES if rule[1] is not None and "layer4" in rule[1])

CAFFE2_BACKBONE: Rules = (*(rule for rule in resnet.CAFFE2_NAMES if rule not in _LAST), (r"res5_.*", None))
"""Rules from detectron2's ``ImageNetPretrained/MSRA/R-50.pkl`` to the backbone, which ends at the fourth stage."""

CAFFE2_SHARED_HEAD: Rules = (*_LAST, (r"(?!res5_).*", None))
"""Rules from the same file to the shared head, which is the fifth stage."""

SMALL_C4 = {
    **{key: value for key, value in SMALL.items() if key not in ("features", "dense", "backbone.depths")},
    "backbone.depths": (1, 1, 1),
    "shared_head.blocks": 1,
    "anchor_sizes": ((8, 16, 32, 64, 128),),
}
"""The small variants."""

faster_rcnn_resnet50_c4 = register(
    task="detection",
    paper="arXiv:1506.01497",
    name="faster_rcnn_resnet50_c4",
    summary="Faster R-CNN on the map of stride 16 of ResNet-50, as detectron2 has it.",
    names={"detectron2": DETECTRON2_NAMES},
    small=SMALL_C4,
)(partial(on_c4, 50))
