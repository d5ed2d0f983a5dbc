"""SSD: single shot multibox detector (Liu et al. 2016, arXiv:1512.02325).

One stage: on six or seven maps of falling size every cell says, by one convolution, which class each of its four or six
default boxes holds and how the box is to be moved. The base is VGG-16 with its dense layers as dilated convolutions.

An image is squashed to the network's own size, whatever its sides, as in the paper, and boxes come back in its pixels.
The geometry of boxes is torchvision's by default; Caffe's release does not clip them (``boxes.clip``).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.backbones import vgg
from jaxseg.backbones.mobilenet_blocks import ConvBN
from jaxseg.errors import BadInput
from jaxseg.layers.canvas import squash, whole
from jaxseg.layers.conv import Conv
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.layers.standardize import Standardize, statistics
from jaxseg.ops import boxes as box_ops
from jaxseg.ops.backend import map_images
from jaxseg.ops.detections import detections_of_each_class
from jaxseg.ops.pool import max_pool
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

XAVIER = nn.initializers.xavier_uniform()

VGG_RGB = Standardize((0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0))
"""RGB minus a mean, as torchvision gives it to SSD."""

COCO300 = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
VOC300 = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05)
COCO512 = (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06)
VOC512 = (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05)
"""Scales of the default boxes by data and size of the image."""

RATIOS300 = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
RATIOS512 = ((2.0,), *[(2.0, 3.0)] * 4, (2.0,), (2.0,))
"""Ratios of their sides on each map."""


class SSD(nn.Module):
    """SSD on any backbone.

    Attributes:
      backbone: gives the maps that the neck reads.
      neck: makes the maps that boxes are predicted on, finest first.
      boxes: default boxes of each map.
      num_classes: without background, which is output 0.
      image_size: rows and columns to which images are squashed.
      head: what predicts: "conv", a 3x3 convolution; "separable", a depthwise and a pointwise one (SSDlite); or
        "pointwise".
      scores: "softmax" over the classes and background, or "sigmoid" of each (TensorFlow).
      score_threshold: detections score above it.
      nms_threshold: IoU above which the worse of two detections of a class goes.
      candidates: best boxes of each class that enter suppression.
      detections: slots of detections.
      epsilon: of the normalisations in separable heads.
      dtype: compute dtype.

    >>> model, image = on_vgg(3, width=4, fc=8), jnp.zeros((1, 200, 320, 3), jnp.uint8)
    >>> found = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image, train=True)[0])
    >>> found["class_logits"].shape, found["anchors"].shape
    ((1, 8732, 4), (8732, 4))
    """

    backbone: nn.Module
    neck: nn.Module
    boxes: DefaultBoxes
    num_classes: int = 90
    image_size: tuple[int, int] = (300, 300)
    head: str = "conv"
    scores: str = "softmax"
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    candidates: int = 400
    detections: int = 200
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @property
    def natural_loss(self) -> str:
        """Name of the loss that the outputs are made for."""
        return "multibox" if self.scores == "softmax" else "multibox_sigmoid"

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
          image: of any size; canvases where ``size`` is given.
          size: rows and columns of each canvas that are image; None for all.
          targets: of no use to a network that samples no regions; taken so that one task serves both kinds.
          train: return instead ``class_logits`` [b a k+1], ``anchor_deltas`` [b a 4] and ``anchors`` [a 4]; where
            ``size`` is given, every image has default boxes of its own, ``image_anchors`` [b a 4].
        """
        del targets
        x = self.backbone.standardize.to_float(image)
        if size is not None or image.shape[1:3] != self.image_size:
            x = squash(x, size, self.image_size)
        levels = self.neck(self.backbone(x, train=train), train=train)
        boxes, _ = self.boxes(self.image_size, [(level.shape[1], level.shape[2]) for level in levels])
        shapes = self.boxes.shapes()
        predict = partial(Predictor, self.head, epsilon=self.epsilon, dtype=self.dtype)
        logits, deltas = [], []
        for i, (level, own) in enumerate(zip(levels, shapes, strict=True)):
            logits.append(predict(len(own), self.num_classes + 1, name=f"class_head{i}")(level, train=train))
            deltas.append(predict(len(own), 4, name=f"box_head{i}")(level, train=train))
        scores, codes = (jnp.concatenate(x, 1).astype(jnp.float32) for x in (logits, deltas))
        if train:
            return {"class_logits": scores, "anchor_deltas": codes, **self._placed(boxes, image, size)}
        if size is None:
            size = whole(image)
        return self._detect(scores, codes, boxes, size)

    def _placed(self, boxes: Array, image: Array, size: Array | None) -> dict[str, Array]:
        """Return the default boxes in the pixels of the images."""
        height, width = self.image_size
        if size is None:
            factors = jnp.asarray([image.shape[2] / width, image.shape[1] / height] * 2, jnp.float32)
            return {"anchors": boxes * factors[None]}
        sides = size.astype(jnp.float32)
        factors = jnp.stack([sides[:, 1] / width, sides[:, 0] / height] * 2, axis=-1)
        return {"image_anchors": boxes[None] * factors[:, None]}

    def _detect(self, logits: Array, deltas: Array, anchors: Array, size: Array) -> dict[str, Array]:
        height, width = self.image_size
        if self.scores not in ("softmax", "sigmoid"):
            raise BadInput(f"scores {self.scores!r} of SSD; there are 'softmax' and 'sigmoid'")

        def one(logits: Array, deltas: Array, size: Array) -> dict[str, Array]:
            scores = jax.nn.softmax(logits) if self.scores == "softmax" else jax.nn.sigmoid(logits)
            boxes = box_ops.clip(box_ops.decode(deltas, anchors, box_ops.REGION_WEIGHTS), height, width)
            found = detections_of_each_class(
                boxes,
                scores[:, 1:],
                score_threshold=self.score_threshold,
                candidates=self.candidates,
                nms_threshold=self.nms_threshold,
                count=self.detections,
            )
            sides = size.astype(jnp.float32)
            y, x = sides[0] / height, sides[1] / width
            scaled = box_ops.clip(found.boxes * jnp.stack([x, y, x, y])[None], size[0], size[1])
            return {"boxes": scaled, "scores": found.scores, "classes": found.classes, "valid": found.valid}

        return map_images(one)(logits, deltas, size)


class Predictor(nn.Module):
    """What is predicted of every default box of a map: ``outputs`` numbers each.

    >>> head, x = Predictor("separable", 6, 4), jnp.zeros((1, 3, 3, 8))
    >>> jax.eval_shape(lambda: head.init_with_output(jax.random.key(0), x, train=False)[0]).shape
    (1, 54, 4)

    Attributes:
      kind: see :class:`SSD`.
      boxes: default boxes of a cell.
      outputs: numbers for each.
      epsilon: of the normalisation of a separable one.
      dtype: compute dtype.
    """

    kind: str
    boxes: int
    outputs: int
    epsilon: float = 1e-5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Float[Array, "b a q"]:
        """Return the numbers, cell by cell."""
        if self.kind not in ("conv", "separable", "pointwise"):
            raise BadInput(f"head {self.kind!r} of SSD; there are 'conv', 'separable' and 'pointwise'")
        options: dict[str, Any] = {"dtype": self.dtype, "name": "last"}
        if self.kind == "separable":
            layer = ConvBN(x.shape[-1], 3, groups=x.shape[-1], epsilon=self.epsilon, dtype=self.dtype, name="depthwise")
            x = jax.nn.relu6(layer(x, train=train))
        if self.kind == "conv":
            last = Conv(self.boxes * self.outputs, 3, padding=1, kernel_init=XAVIER, **options)
        else:
            last = Conv(self.boxes * self.outputs, 1, kernel_init=nn.initializers.normal(0.03), **options)
        return last(x).reshape(x.shape[0], -1, self.outputs)


class L2Norm(nn.Module):
    """Every cell scaled to length 1 over its channels, times a learnt factor of each (ParseNet, arXiv:1506.04579).

    >>> layer, x = L2Norm(), jnp.ones((1, 2, 2, 4))
    >>> layer.apply(layer.init(jax.random.key(0), x), x)[0, 0, 0].tolist()
    [10.0, 10.0, 10.0, 10.0]

    Attributes:
      start: of the factors.
      dtype: compute dtype.
    """

    start: float = 20.0
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """Return the normalised map."""
        scale = self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],), jnp.float32)
        wide = x.astype(jnp.float32)
        length = jnp.sqrt(jnp.sum(wide * wide, axis=-1, keepdims=True) + 1e-10)
        return (wide / length * scale.reshape(1, 1, 1, -1)).astype(self.dtype)


Extra = tuple[int, int, int, int, int]
"""Channels of a 1x1 convolution and of the one after it; window, stride and padding of that."""

EXTRAS300: tuple[Extra, ...] = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0))
EXTRAS512: tuple[Extra, ...] = ((256, 512, 3, 2, 1), *[(128, 256, 3, 2, 1)] * 3, (128, 256, 4, 1, 1))


class VGGNeck(nn.Module):
    """The maps of SSD on VGG-16: conv4_3 with its length normalised, fc7 as convolution, and smaller ones after it.

    >>> neck, maps = VGGNeck(8, ((4, 8, 3, 2, 1),)), {"c3": jnp.zeros((1, 8, 8, 4)), "c4": jnp.zeros((1, 4, 4, 4))}
    >>> found = jax.eval_shape(lambda: neck.init_with_output(jax.random.key(0), maps, train=False)[0])
    >>> [x.shape for x in found]
    [(1, 8, 8, 4), (1, 4, 4, 8), (1, 2, 2, 8)]

    Attributes:
      fc: channels of fc6, a 3x3 convolution dilated by six, and fc7.
      extras: what follows.
      dtype: compute dtype.
    """

    fc: int = 1024
    extras: tuple[Extra, ...] = EXTRAS300
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: Mapping[str, Map], *, train: bool) -> list[Map]:
        """Return the maps, finest first."""
        del train
        layer = partial(Conv, kernel_init=XAVIER, dtype=self.dtype)
        x = max_pool(maps["c4"], 3, stride=1, padding=1)
        x = jax.nn.relu(layer(self.fc, 3, padding=6, dilation=6, name="fc6")(x))
        x = jax.nn.relu(layer(self.fc, 1, name="fc7")(x))
        found = [L2Norm(dtype=self.dtype, name="conv4_3_norm")(maps["c3"]), x]
        for i, (inner, features, window, stride, padding) in enumerate(self.extras, 6):
            x = jax.nn.relu(layer(inner, 1, name=f"conv{i}_1")(x))
            x = jax.nn.relu(layer(features, window, stride=stride, padding=padding, name=f"conv{i}_2")(x))
            found.append(x)
        return found


def on_vgg(
    num_classes: int = 90,
    *,
    size: int = 300,
    scales: tuple[float, ...] | None = None,
    width: int = 64,
    fc: int = 1024,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SSD:
    """Return SSD on VGG-16 for images of 300 or 512 pixels.

    Args:
      num_classes: without background.
      size: of the images, 300 or 512.
      scales: of the default boxes; those for COCO if None. Those for VOC are ``VOC300`` and ``VOC512``.
      width: channels of the first block.
      fc: channels of fc6 and fc7.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.

    Raises:
      BadInput: another size.

    >>> len(on_vgg(size=512).neck.extras)
    5
    """
    if size not in (300, 512):
        raise BadInput(f"SSD on VGG-16 has images of 300 or 512 pixels, not {size}")
    large = size == 512
    steps = (8, 16, 32, 64, 128, 256, 512) if large else (8, 16, 32, 64, 100, 300)
    backbone = vgg.VGG(
        width=width,
        ceil_mode=True,
        out_maps="last",
        in_channels=in_channels,
        standardize=statistics(standardize, VGG_RGB, in_channels),
        dtype=dtype,
    )
    return SSD(
        backbone=backbone,
        neck=VGGNeck(fc, EXTRAS512 if large else EXTRAS300, dtype=dtype),
        boxes=DefaultBoxes(
            scales or (COCO512 if large else COCO300), RATIOS512 if large else RATIOS300, steps, clip=True
        ),
        num_classes=num_classes,
        image_size=(size, size),
        dtype=dtype,
    )


def _vgg_names() -> Rules:
    """torchvision's VGG-16 cut in two before the fourth pool."""
    rules: list[tuple[str, str | None]] = []
    for pattern, path in vgg.torchvision_names(vgg.VGG16, "none", features=""):
        number, _, leaf = pattern.partition(r"\.")
        if number.isdigit():
            place = rf"features\.{number}" if int(number) < 23 else rf"extra\.0\.{int(number) - 23}"
            rules.append((rf"backbone\.{place}\.{leaf}", f"backbone/{path}"))
    return tuple(rules)


_LEAVES = (("weight", "kernel"), ("bias", "bias"))

TORCHVISION_NAMES: Rules = (
    *_vgg_names(),
    (r"backbone\.scale_weight", "neck/conv4_3_norm/scale"),
    *((rf"backbone\.extra\.0\.7\.1\.{theirs}", f"neck/fc6/{ours}") for theirs, ours in _LEAVES),
    *((rf"backbone\.extra\.0\.7\.3\.{theirs}", f"neck/fc7/{ours}") for theirs, ours in _LEAVES),
    *(
        (rf"backbone\.extra\.{i - 5}\.{2 * part - 2}\.{theirs}", f"neck/conv{i}_{part}/{ours}")
        for i in range(6, 11)
        for part in (1, 2)
        for theirs, ours in _LEAVES
    ),
    *(
        (rf"head\.{theirs}\.module_list\.(\d)\.{leaf}", rf"{ours}\1/last/{target}")
        for theirs, ours in (("classification_head", "class_head"), ("regression_head", "box_head"))
        for leaf, target in _LEAVES
    ),
)
"""Rules from torchvision's ``ssd300_vgg16``."""

FC6_NAMES: Rules = (
    (r"classifier\.0\.weight", "kernel|sampled"),
    (r"classifier\.0\.bias", "bias|sampled"),
    (r"(features|classifier)\..*", None),
)
FC7_NAMES: Rules = (
    (r"classifier\.3\.weight", "kernel|sampled"),
    (r"classifier\.3\.bias", "bias|sampled"),
    (r"(features|classifier)\..*", None),
)
"""Rules from torchvision's VGG-16 to the convolutions that its dense layers begin as: every fourth output, of fc6 every
third tap."""

SMALL = {
    "width": 8,
    "fc": 32,
    "backbone.blocks": (1, 1, 1, 1, 1),
    "neck.extras": ((16, 32, 3, 2, 1), (16, 32, 3, 2, 1)),
    "image_size": (96, 96),
    "boxes": DefaultBoxes((0.1, 0.25, 0.5, 0.8, 1.05), RATIOS300[:4]),
    "detections": 20,
    "candidates": 50,
}

_register = partial(
    register,
    task="detection",
    paper="arXiv:1512.02325",
    small=SMALL,
)

ssd300_vgg16 = _register(
    name="ssd300_vgg16",
    summary="SSD on VGG-16 for images of 300 pixels, as torchvision has it.",
    params=35_641_826,
    names={"torchvision": TORCHVISION_NAMES},
)(partial(on_vgg, size=300))

ssd512_vgg16 = _register(
    name="ssd512_vgg16",
    summary="The same for images of 512 pixels, with a seventh map.",
    params=36_038_196,
)(partial(on_vgg, num_classes=80, size=512))
