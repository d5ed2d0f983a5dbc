"""YOLO: unified, real-time object detection (Redmon et al. 2016, arXiv:1506.02640).

One network looks at the whole image once: a grid of 7x7 cells, in each of which two predictors give a box and how well
it fits, and the cell gives the classes for both. It is the paper's network, as darknet's ``cfg/yolo.cfg`` of November
2015 has it, without normalisation; the later ``yolov1.cfg`` is another one.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.backbones.mobilenet_blocks import ACTIVATIONS, ConvBN
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import squash, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.standardize import UNIT_RANGE, Standardize
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections
from jaxseg.ops.pool import max_pool
from jaxseg.registry import register
from jaxseg.types import Rules

Stage = tuple[tuple[int, int, int], ...]
"""Channels, side and stride of convolutions."""

STAGES: tuple[Stage, ...] = (
    ((64, 7, 2),),
    ((192, 3, 1),),
    ((128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1)),
    (*((256, 1, 1), (512, 3, 1)) * 4, (512, 1, 1), (1024, 3, 1)),
    (*((512, 1, 1), (1024, 3, 1)) * 2, (1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1)),
)
"""The convolutions (figure 3); the map is halved by maximum pooling after each stage but the last."""

TINY_STAGES: tuple[Stage, ...] = (*(((16 << i, 3, 1),) for i in range(6)), ((1024, 3, 1),) * 3)

leaky = ACTIVATIONS["leaky_relu"]


class YOLOv1(nn.Module):
    """YOLO on any stack of convolutions.

    Attributes:
      backbone: gives the map of which a cell is a cell of the grid.
      num_classes: outputs of each cell besides those of its predictors.
      dense: units of the layers between the map and the last one.
      predictors: of each cell.
      image_size: side of the network's input, pixels.
      dropout: rate before the last layer.
      candidates: best boxes of an image that enter suppression.
      score_threshold: detections score above it; the paper shows those from 0.2.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      detections: slots of detections.
      dtype: compute dtype.

    >>> model = yolo_v1(3, stages=(((4, 3, 4),), ((8, 3, 1),)), dense=(16,), image_size=64)
    >>> image = jnp.zeros((1, 9, 9, 3), jnp.uint8)
    >>> jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image)[0])["scores"].shape
    (1, 100)
    """

    backbone: nn.Module
    num_classes: int = 20
    dense: tuple[int, ...] = (4096,)
    predictors: int = 2
    image_size: int = 448
    dropout: float = 0.5
    candidates: int = 1000
    score_threshold: float = 0.001
    nms_threshold: float = 0.5
    detections: int = 100
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
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
          train: return instead ``cell_logits`` [b y x k], ``objectness`` [b a] and ``anchor_deltas`` [b a 4] of all
            predictors, cell by cell, and ``image_size`` [b 2].
        """
        del targets
        x = squash(self.backbone.standardize.to_float(image), size, (self.image_size, self.image_size))
        if size is None:
            size = whole(image)
        x = self.backbone(x, train=train)
        b, rows, columns, _ = x.shape
        for i, units in enumerate(self.dense):
            x = leaky(Conv(units, (x.shape[1], x.shape[2]), dtype=self.dtype, name=f"fc{i}")(x))
        x = Dropout(self.dropout)(x, train=train)
        cells, k, p = rows * columns, self.num_classes, self.predictors
        out = Conv(cells * (k + 5 * p), (x.shape[1], x.shape[2]), dtype=self.dtype, name="last")(x)
        out = out.reshape(b, -1).astype(jnp.float32)
        raw = {
            "cell_logits": out[:, : cells * k].reshape(b, rows, columns, k),
            "objectness": out[:, cells * k : cells * (k + p)],
            "anchor_deltas": out[:, cells * (k + p) :].reshape(b, -1, 4),
        }
        if train:
            return {**raw, "image_size": size.astype(jnp.float32)}
        return self._detect(raw, size)

    def _detect(self, raw: Mapping[str, Array], size: Array) -> dict[str, Array]:
        def one(logits: Array, confidence: Array, deltas: Array, size: Array) -> dict[str, Array]:
            scale = jnp.tile(size[::-1], 2).astype(jnp.float32)[None]
            boxes = box_ops.clip(decode(deltas, (logits.shape[0], logits.shape[1])) * scale, size[0], size[1])
            each = jnp.repeat(logits.reshape(-1, self.num_classes), self.predictors, axis=0)
            found = detections(
                boxes[:, None],
                confidence[:, None] * each,
                score_threshold=self.score_threshold,
                nms_threshold=self.nms_threshold,
                count=self.detections,
                slots=self.candidates,
            )
            return {"boxes": found.boxes, "scores": found.scores, "classes": found.classes, "valid": found.valid}

        return map_images(one)(raw["cell_logits"], raw["objectness"], raw["anchor_deltas"], size)


def decode(deltas: Float[Array, "a 4"], grid: tuple[int, int]) -> Float[Array, "a 4"]:
    """Return the boxes of all predictors, in fractions of the image: a centre in its cell, and roots of the sides.

    >>> decode(jnp.full((2, 4), 0.5), (1, 2)).tolist()
    [[0.125, 0.375, 0.375, 0.625], [0.625, 0.375, 0.875, 0.625]]

    Args:
      deltas: of the same number of predictors in each cell, row by row.
      grid: rows and columns of cells.
    """
    rows, columns = grid
    y, x = np.divmod(np.arange(len(deltas)) // (len(deltas) // (rows * columns)), columns)
    cells = jnp.asarray(np.stack([x, y], -1), jnp.float32)
    centre = (cells + deltas[:, :2]) / jnp.asarray([[columns, rows]], jnp.float32)
    half = jnp.square(deltas[:, 2:]) / 2
    return jnp.concatenate([centre - half, centre + half], -1)


class Convolutions(nn.Module):
    """Stages of convolutions with leaky rectifiers, and maximum pooling between them.

    >>> body, x = Convolutions((((4, 7, 2),), ((8, 3, 1), (4, 1, 1)))), jnp.zeros((1, 64, 96, 3))
    >>> jax.eval_shape(lambda: body.init_with_output(jax.random.key(0), x, train=False)[0]).shape
    (1, 16, 24, 4)

    Attributes:
      stages: rows of the table.
      norm: of the convolutions; the paper's have none, and a bias.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    stages: tuple[Stage, ...] = STAGES
    norm: str = "none"
    in_channels: int = 3
    standardize: Standardize = UNIT_RANGE
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> Float[Array, "b y x d"]:
        """Return the map of the last stage."""
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        number = 0
        for i, stage in enumerate(self.stages):
            x = max_pool(x, 2) if i else x
            for features, side, stride in stage:
                conv = ConvBN(features, side, stride=stride, norm=self.norm, dtype=self.dtype, name=f"conv{number}")
                x, number = leaky(conv(x, train=train)), number + 1
        return x


def yolo_v1(
    num_classes: int = 20,
    *,
    stages: tuple[Stage, ...] = STAGES,
    dense: tuple[int, ...] = (4096,),
    norm: str = "none",
    dropout: float = 0.5,
    image_size: int = 448,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> YOLOv1:
    """Return the paper's YOLO: 24 convolutions and two dense layers.

    >>> yolo_v1(3).dense
    (4096,)

    Args:
      num_classes: outputs of each cell besides those of its predictors.
      stages: channels, side and stride of the convolutions; the map is halved between stages.
      dense: units of the layers before the last.
      norm: of the convolutions.
      dropout: rate before the last layer.
      image_size: side of the network's input, pixels, a multiple of the cells' side.
      in_channels: of the image.
      standardize: statistics of the input; by default the dtype's range becomes 0..1.
      dtype: compute dtype.

    Raises:
      BadInput: ``image_size`` is no multiple of the cells' side.
    """
    side = 2 ** (len(stages) - 1)
    for _, _, stride in (conv for stage in stages for conv in stage):
        side *= stride
    if image_size < side or image_size % side:
        nearest = max(side, round(image_size / side) * side)
        raise BadInput(f"image_size is {image_size}, but cells of {side} pixels need a multiple of {side}: {nearest}")
    standardize = standardize or UNIT_RANGE
    body = Convolutions(stages, norm, in_channels, standardize, dtype)
    return YOLOv1(body, num_classes, dense, image_size=image_size, dropout=dropout, dtype=dtype)


def darknet_names(convolutions: int, dense: int) -> Rules:
    r"""Return rules from darknet's layers, counted in the order of the file.

    >>> darknet_names(24, 2)[-2:]
    (('fc25\\.weight', 'last/kernel|dense'), ('fc25\\.bias', 'last/bias'))

    Args:
      convolutions: how many there are.
      dense: layers after them, the last included.
    """
    rules = []
    for i in range(convolutions):
        rules += [
            (rf"conv{i}\.weight", f"backbone/conv{i}/conv/kernel"),
            (rf"conv{i}\.bias", f"backbone/conv{i}/conv/bias"),
        ]
    for i in range(dense):
        path = f"fc{i}" if i < dense - 1 else "last"
        number = convolutions + i
        rules += [(rf"fc{number}\.weight", f"{path}/kernel|dense"), (rf"fc{number}\.bias", f"{path}/bias")]
    return tuple(rules)


_SMALL = {
    "stages": (((8, 3, 2),), ((8, 3, 1),), ((8, 1, 1), (16, 3, 1)), ((16, 3, 1),)),
    "dense": (64,),
    "image_size": 128,
    "candidates": 64,
    "detections": 20,
}
_register = partial(register, task="detection", paper="arXiv:1506.02640", small=_SMALL)

_register(
    summary="The paper's YOLO: 24 convolutions and two dense layers.",
    params=271_703_550,
    names={"darknet": darknet_names(24, 2)},
)(yolo_v1)

yolo_v1_tiny = _register(
    name="yolo_v1_tiny",
    summary="Fast YOLO: nine convolutions and three dense layers.",
    params=45_089_374,
    names={"darknet": darknet_names(9, 3)},
)(partial(yolo_v1, stages=TINY_STAGES, dense=(256, 4096)))
