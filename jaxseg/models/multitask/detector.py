"""Faster R-CNN on a map that another network made, as one of its branches (Kokkinos 2017, arXiv:1609.02132, section 2).

UberNet's trunk is dilated to stride 8. The proposal network looks at every second cell, by a convolution of stride and
dilation 2, and so does RoI pooling, so that both see what a trunk of stride 16 would give them. Strides, anchors and
layers are those of the author's release (jkokkin/UberNet).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.layers.canvas import whole
from jaxseg.layers.roi_heads import BoxHead
from jaxseg.layers.rpn import Proposing, RPNHead
from jaxseg.models.detection.fast_rcnn import ON_ONE_MAP, RATIOS
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.ops import codings

SIZES = (64, 128, 256, 512)
"""Roots of the anchors' areas in pixels, a window of 16 by 16 times 4, 8, 16 and 32."""


class Given(nn.Module):
    """A backbone whose map is there already.

    >>> Given().apply({}, jnp.ones((1, 2, 2, 3)), train=False)["c5"].shape
    (1, 2, 2, 3)
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> dict[str, Array]:
        """Return the map as ``c5``."""
        del train
        return {"c5": x}


class Detector(FasterRCNN, kw_only=True):
    """Proposals, regions and their head, on conv5_3 of a trunk of stride 8.

    >>> import jax
    >>> model, image, x = detector(3, width=4, dense=8), jnp.zeros((1, 65, 65, 3)), jnp.zeros((1, 9, 9, 4))
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), x, image)[0])
    >>> found["boxes"].shape
    (1, 100, 4)
    """

    @nn.compact
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride] - reads a map
        self,
        features: Float[Array, "b y x d"],
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Array]:
        """Return detections, or in training what losses are made of, as :class:`FasterRCNN` does.

        Args:
          features: the map.
          image: of which its size counts.
          size: rows and columns of each image that are image; None for all.
          targets: the objects, in training.
          train: what is returned.
        """
        size = whole(image) if size is None else size
        levels = [self.backbone(features, train=train)[name] for name in self.maps]
        return self._find_in(image, levels, size, targets, train=train)[0]


def detector(
    num_classes: int = 20,
    *,
    width: int = 512,
    dense: int = 4096,
    dtype: jnp.dtype | type = jnp.float32,
) -> Detector:
    """Return the branch as the author has it.

    >>> detector().rpn.anchors, detector().finest_stride
    (12, 8)

    Args:
      num_classes: without background.
      width: channels of the proposal network.
      dense: units of fc6 and fc7.
      dtype: compute dtype.
    """
    options: dict[str, Any] = {**ON_ONE_MAP, "finest_stride": 8}
    return Detector(
        backbone=Given(),
        rpn=RPNHead(width, len(RATIOS) * len(SIZES), outputs=2, stride=2, dtype=dtype),
        box_head=BoxHead((), (dense, dense), dropout=0.5, dtype=dtype),
        num_classes=num_classes,
        pool_every=2,
        anchors="py_faster_rcnn",
        anchor_sizes=(SIZES,),
        coding=codings.INCLUSIVE,
        samples=128,
        train_proposing=Proposing(12_000, 2000, min_size=16.0),
        test_proposing=Proposing(6000, 300, min_size=16.0),
        dtype=dtype,
        **options,
    )
