"""YOLOv3: an incremental improvement (Redmon and Farhadi 2018, arXiv:1804.02767), its small network.

On the maps of strides 32 and 16 every cell has three anchors; each gives a box, an objectness, and a probability of
every class by itself, without a softmax. The image is squashed to the network's input, whatever its aspect.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.backbones.mobilenet_blocks import ACTIVATIONS, ConvBN
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import squash, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.standardize import UNIT_RANGE, Standardize
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections
from jaxseg.ops.pool import max_pool
from jaxseg.ops.resize import resize_nearest
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]
Anchors = tuple[tuple[tuple[int, int], ...], ...]
"""Width and height, pixels of the network's input, of the anchors of each map."""

TINY_ANCHORS: Anchors = (((81, 82), (135, 169), (344, 319)), ((23, 27), (37, 58), (81, 82)))
"""Those that the published weights were trained with; darknet's .cfg has (10, 14) for (81, 82) on the finer map."""

leaky = ACTIVATIONS["leaky_relu"]


class YOLOv3(nn.Module):
    """YOLOv3's heads on any network that gives their maps.

    Attributes:
      backbone: gives the maps that the heads read, coarsest first.
      num_classes: outputs of each anchor besides its box and objectness.
      image_size: side of the network's input, pixels, a multiple of the coarsest stride.
      anchors: of each map.
      candidates: best boxes of an image that enter suppression.
      score_threshold: detections score above it.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      dtype: compute dtype.

    >>> model, image = yolo_v3_tiny(3, width=2, image_size=64), jnp.zeros((1, 48, 96, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["scores"].shape
    (1, 100)
    """

    backbone: nn.Module
    num_classes: int = 80
    image_size: int = 416
    anchors: Anchors = TINY_ANCHORS
    candidates: int = 1000
    score_threshold: float = 0.005
    nms_threshold: float = 0.45
    detections: int = 100
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Any]:
        """Return detections of raw images: ``boxes``, ``scores``, ``classes``, ``valid``.

        Args:
          image: canvases.
          size: rows and columns of each canvas that are image; None for all.
          targets: of no use to a network that samples no regions; taken so that one task serves both kinds.
          train: return instead ``class_logits`` [b a k], ``objectness`` [b a], ``anchor_deltas`` [b a 4], ``anchors``
            and ``cells`` [a 4] in fractions of the image, and ``image_size`` [b 2].
        """
        del targets
        raw, anchors, cells = self.raw(image, size, train=train)
        if size is None:
            size = whole(image)
        if train:
            return {**raw, "anchors": anchors, "cells": cells, "image_size": size.astype(jnp.float32)}
        return self._detect(raw, anchors, cells, size)

    @nn.compact
    def raw(
        self, image: Shaped[Array, "b h w c"], size: Int[Array, "b 2"] | None = None, *, train: bool
    ) -> tuple[dict[str, Array], Float[Array, "a 4"], Float[Array, "a 4"]]:
        """Return ``class_logits``, ``objectness`` and ``anchor_deltas``, the anchors, and their cells.

        Args:
          image: canvases.
          size: rows and columns of each canvas that are image; None for all.
          train: move the statistics of normalisation.
        """
        x = squash(self.backbone.standardize.to_float(image), size, (self.image_size, self.image_size))
        rows, cells, shapes, width = [], [], [], 5 + self.num_classes
        for i, (level, sizes) in enumerate(zip(self.backbone(x, train=train), self.anchors, strict=True)):
            y = Conv(len(sizes) * width, 1, dtype=self.dtype, name=f"head{i}")(level)
            rows.append(y.astype(jnp.float32).reshape(len(y), -1, width))
            cells.append(np.repeat(grid(y.shape[1], y.shape[2]), len(sizes), 0))
            shapes.append(np.tile(np.asarray(sizes, np.float32) / self.image_size, (y.shape[1] * y.shape[2], 1)))
        found, cell = jnp.concatenate(rows, 1), jnp.asarray(np.concatenate(cells))
        raw = {"class_logits": found[..., 5:], "objectness": found[..., 4], "anchor_deltas": found[..., :4]}
        return raw, around(cell, jnp.asarray(np.concatenate(shapes))), cell

    def _detect(self, raw: Mapping[str, Array], anchors: Array, cells: Array, size: Array) -> dict[str, Array]:
        def one(deltas: Array, objectness: Array, logits: Array, size: Array) -> dict[str, Array]:
            scale = jnp.tile(size[::-1], 2).astype(jnp.float32)[None]
            boxes = box_ops.clip(decode(deltas, anchors, cells) * scale, size[0], size[1])
            found = detections(
                boxes[:, None],
                jax.nn.sigmoid(objectness)[:, None] * jax.nn.sigmoid(logits),
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
                count=self.detections,
                slots=self.candidates,
            )
            return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, "valid": found.valid}

        return map_images(one)(raw["anchor_deltas"], raw["objectness"], raw["class_logits"], size)


def grid(rows: int, columns: int) -> Float[np.ndarray, "a 4"]:
    """Return the cells of a map as boxes in fractions of the image, row by row.

    >>> grid(1, 2).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    y, x = np.mgrid[:rows, :columns].reshape(2, -1)
    corners = np.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows], 1)
    return corners.astype(np.float32)


def around(cells: Float[Array, "a 4"], sides: Float[Array, "a 2"]) -> Float[Array, "a 4"]:
    """Return boxes of these widths and heights about the centres of their cells.

    >>> around(jnp.asarray([[0.0, 0.0, 0.5, 0.5]]), jnp.asarray([[0.5, 0.25]])).tolist()
    [[0.0, 0.125, 0.5, 0.375]]
    """
    centre = (cells[:, :2] + cells[:, 2:]) / 2
    return jnp.concatenate([centre - sides / 2, centre + sides / 2], 1)


def decode(
    deltas: Float[Array, "a 4"], anchors: Float[Array, "a 4"], cells: Float[Array, "a 4"]
) -> Float[Array, "a 4"]:
    """Return the boxes of raw outputs: the centre anywhere in its cell, the sides times their anchor's (section 2.1).

    >>> cell = jnp.asarray([[0.0, 0.0, 0.5, 0.5]])
    >>> decode(jnp.zeros((1, 4)), around(cell, jnp.asarray([[0.5, 0.25]])), cell).tolist()
    [[0.0, 0.125, 0.5, 0.375]]
    """
    low, side = cells[:, :2], cells[:, 2:] - cells[:, :2]
    centre = low + jax.nn.sigmoid(deltas[:, :2]) * side
    half = jnp.exp(jnp.minimum(deltas[:, 2:], box_ops.MAX_LOG_RATIO)) * (anchors[:, 2:] - anchors[:, :2]) / 2
    return jnp.concatenate([centre - half, centre + half], -1)


class TinyBody(nn.Module):
    """The network of YOLOv3-tiny below its heads: seven convolutions with maximum pooling between, and two branches.

    >>> body, x = TinyBody(width=2), jnp.zeros((1, 64, 96, 3))
    >>> found = jax.eval_shape(lambda: body.init_with_output(jax.random.key(0), x, train=False)[0])
    >>> [y.shape for y in found]
    [(1, 2, 3, 64), (1, 4, 6, 32)]

    Attributes:
      width: channels of the first convolution; the others have multiples of it.
      norm: of the convolutions.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    width: int = 16
    norm: str = "batch"
    in_channels: int = 3
    standardize: Standardize = UNIT_RANGE
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> tuple[Map, Map]:
        """Return the maps of strides 32 and 16 that the heads read."""
        conv = partial(self._conv, train=train)
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        for i in range(5):
            fine = x = conv(x, self.width << i, 3, f"conv{i}")
            x = max_pool(x, 2)
        x = conv(x, self.width << 5, 3, "conv5")
        x = max_pool(x, 2, stride=1, padding=((0, 1), (0, 1)))
        x = conv(x, self.width << 6, 3, "conv6")
        lateral = conv(x, self.width << 4, 1, "conv7")
        coarse = conv(lateral, self.width << 5, 3, "conv8")
        up = conv(lateral, self.width << 3, 1, "up")
        up = resize_nearest(up, (2 * up.shape[1], 2 * up.shape[2]))
        return coarse, conv(jnp.concatenate([up, fine], -1), self.width << 4, 3, "fine")

    def _conv(self, x: Map, features: int, side: int, name: str, *, train: bool) -> Map:
        return leaky(ConvBN(features, side, norm=self.norm, dtype=self.dtype, name=name)(x, train=train))


def yolo_v3_tiny(
    num_classes: int = 80,
    *,
    width: int = 16,
    image_size: int = 416,
    anchors: Anchors = TINY_ANCHORS,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> YOLOv3:
    """Return YOLOv3-tiny.

    >>> yolo_v3_tiny(3).backbone.width
    16

    Args:
      num_classes: outputs of each anchor besides its box and objectness.
      width: channels of the first convolution.
      image_size: side of the network's input, pixels, a multiple of 32.
      anchors: width and height of those of the maps of strides 32 and 16, pixels of the input.
      in_channels: of the image.
      standardize: statistics of the input; by default the dtype's range becomes 0..1.
      dtype: compute dtype.

    Raises:
      BadInput: ``image_size`` is no multiple of 32.
    """
    body = TinyBody(width, in_channels=in_channels, standardize=standardize or UNIT_RANGE, dtype=dtype)
    return YOLOv3(body, num_classes, in_steps(image_size), anchors, dtype=dtype)


def in_steps(image_size: int) -> int:
    """Return the side of a network's input.

    >>> in_steps(416)
    416

    Raises:
      BadInput: it is no multiple of 32.
    """
    if image_size < 32 or image_size % 32:
        raise BadInput(
            f"image_size is {image_size}, but must be a multiple of 32: {max(32, round(image_size / 32) * 32)}"
        )
    return image_size


def darknet_names(paths: tuple[str, ...], heads: tuple[str, ...] = ()) -> Rules:
    r"""Return rules from darknet's layers, counted in the order of the file, to convolutions with normalisation.

    >>> darknet_names(("backbone/conv0",))[0]
    ('conv0\\.weight', 'backbone/conv0/conv/kernel')

    Args:
      paths: of the layers, one each.
      heads: those of them that are a convolution with a bias.
    """
    rules: list[tuple[str, str]] = []
    for i, path in enumerate(paths):
        if path in heads:
            rules += [(rf"conv{i}\.weight", f"{path}/kernel"), (rf"conv{i}\.bias", f"{path}/bias")]
            continue
        rules.append((rf"conv{i}\.weight", f"{path}/conv/kernel"))
        leaves = (("weight", "scale"), ("bias", "bias"), ("running_mean", "mean"), ("running_var", "var"))
        rules += [(rf"bn{i}\.{theirs}", f"{path}/norm/{ours}") for theirs, ours in leaves]
    return tuple(rules)


HEADS = ("head0", "head1")

DARKNET_NAMES = darknet_names(
    (*(f"backbone/conv{i}" for i in range(9)), "head0", "backbone/up", "backbone/fine", "head1"), HEADS
)
"""Rules from darknet's ``yolov3-tiny.weights``."""

SMALL = {
    "image_size": 128,
    "anchors": (((48, 48), (64, 96), (112, 80)), ((12, 12), (20, 32), (40, 24))),
    "candidates": 64,
    "detections": 20,
}
"""What a small variant has in common with those of the networks under the same heads."""

register(
    task="detection",
    paper="arXiv:1804.02767",
    summary="YOLOv3-tiny: seven convolutions, and heads on two maps.",
    names={"darknet": DARKNET_NAMES},
    small={"width": 4, **SMALL},
)(yolo_v3_tiny)
