"""UberNet: training a universal network for low-, mid- and high-level vision (Kokkinos 2017, arXiv:1609.02132).

VGG-16 with DeepLab's pools sees the image at three scales. Each task reads six of its maps, five of them normalised,
through 1x1 convolutions that all scales share, brings them to one size, and fuses first the maps of each scale, then
the scales. Objects are found on conv5_3 of the first scale (:mod:`jaxseg.models.multitask.detector`). Geometry and
numbers are those of the author's release (jkokkin/UberNet).

In training the tasks' outputs are deferred (:mod:`jaxseg.ops.deferred`) and each scale of the trunk is computed again
in the backward pass, so that memory does not grow with the number of tasks (section 3.3 of the paper).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxseg.backbones.vgg import VGG
from jaxseg.errors import pick
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.rpn import Proposing
from jaxseg.layers.standardize import CAFFE, UNIT_RANGE, Standardize, statistics
from jaxseg.models.multitask.detector import Detector, detector
from jaxseg.ops.deferred import Deferred
from jaxseg.ops.pool import avg_pool, max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import register

Map = Float[Array, "b _ _ _"]
Taps = list[Map]
Shared = tuple[list[Taps], Map]
"""The maps of all scales that the tasks read, and conv5_3 of the first as it is."""

Weights = dict[str, Array]

SCALES = (1, 2, 4)
"""Strides at which the image enters the trunk."""

GAIN = 10.0
"""Factor behind the normalisations, which have an epsilon of 1."""


@dataclass(frozen=True)
class Head:
    """What a task makes of the trunk.

    >>> HEADS["nrm"].channels
    3

    Attributes:
      read: makes outputs of the fused scores and those of each scale, all at the image's size.
      channels: of its scores; 0 for the classes of the model, -1 for its parts.
      stride: at which it is fused: 1, or 8 for the tasks whose scores are smooth.
    """

    read: Callable[[Map, list[Map]], dict[str, Array]]
    channels: int
    stride: int = 1


def _two_way(key: str, fused: Map, scales: list[Map]) -> dict[str, Array]:
    """Scores before the sigmoid: the difference of both classes', whose softmax is that sigmoid."""
    of = [(x[..., 1] - x[..., 0]).astype(jnp.float32) for x in (fused, *scales)]
    return {key: of[0], "side_logits": jnp.stack(of[1:], axis=-1)}


def _labels(fused: Map, scales: list[Map]) -> dict[str, Array]:
    aux = {f"aux_logits_{stride}": x.astype(jnp.float32) for stride, x in zip(SCALES, scales, strict=True)}
    return {"logits": fused.astype(jnp.float32), **aux}


def _normals(fused: Map, scales: list[Map]) -> dict[str, Array]:
    del scales
    x = fused.astype(jnp.float32)
    return {"normal": x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)}


HEADS: dict[str, Head] = {
    "edg": Head(partial(_two_way, "boundary_logits"), 2),
    "nrm": Head(_normals, 3),
    "sal": Head(partial(_two_way, "saliency_logits"), 2),
    "seg": Head(_labels, 0, stride=8),
    "sbd": Head(_labels, 0),
    "prt": Head(_labels, -1, stride=8),
}
"""Boundaries, normals, salient objects, semantic segmentation and boundaries, human parts, as the author calls them.
"""

DETECTION = "det"
"""The seventh task, whose layers are :class:`jaxseg.models.multitask.detector.Detector`."""

TASKS = (*HEADS, DETECTION)
"""All tasks."""


class Trunk(nn.Module):
    """VGG-16 at stride 8, and its classifier as a dilated 3x3 convolution and a 1x1 one (DeepLab's LargeFOV).

    >>> trunk, x = Trunk(VGG(pool_size=3, output_stride=8, out_maps="before")), jnp.ones((1, 33, 33, 3))
    >>> taps = jax.eval_shape(lambda key: trunk.init_with_output(key, x, train=False)[0], jax.random.key(0))
    >>> [tap.shape[1] for tap in taps], taps[5].shape[3]
    ([33, 17, 9, 5, 5, 5], 1024)

    Attributes:
      backbone: gives every block's map before its pool.
      features: channels of fc6 and fc7.
      dropout: rate after both.
      dtype: compute dtype.
    """

    backbone: VGG
    features: int = 1024
    dropout: float = 0.5
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, x: Map, *, train: bool) -> Taps:
        """Map a standardised image to conv1_2, conv2_2, conv3_3, conv4_3, conv5_3 and fc7."""
        maps = self.backbone(x, train=train)
        y = avg_pool(max_pool(maps["c5"], 3, stride=1, padding=1), 3, stride=1, padding=1)
        y = Conv(self.features, 3, padding=12, dilation=12, dtype=self.dtype, name="fc6")(y)
        y = Dropout(self.dropout, name="fc6_dropout")(jax.nn.relu(y), train=train)
        y = Conv(self.features, 1, dtype=self.dtype, name="fc7")(y)
        y = Dropout(self.dropout, name="fc7_dropout")(jax.nn.relu(y), train=train)
        return [*(maps[f"c{k}"] for k in range(1, 6)), y]


class UberNet(nn.Module):
    """Trunk, pyramid and heads.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("ubernet_vgg16", heads=("edg", "seg")), jnp.zeros((1, 40, 50, 3), jnp.uint8)
    >>> outputs = jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))
    >>> outputs["edg/boundary_logits"].shape, outputs["seg/logits"].shape
    ((1, 40, 50), (1, 40, 50, 3))

    Attributes:
      trunk: shared by all scales and tasks.
      detector: of objects.
      heads: tasks, by the names of :data:`TASKS`; outputs are called ``task/key``.
      num_classes: of semantic segmentation and semantic boundaries.
      num_parts: of humans, background included.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    trunk: Trunk
    detector: Detector
    heads: tuple[str, ...] = TASKS
    num_classes: int = 21
    num_parts: int = 7
    standardize: Standardize = CAFFE
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.trunk.backbone.in_channels

    @nn.compact
    def __call__(
        self,
        image: Shaped[Array, "b h w c"],
        size: Int[Array, "b 2"] | None = None,
        targets: Mapping[str, Array] | None = None,
        *,
        train: bool = False,
    ) -> dict[str, Any]:
        """Return each task's outputs for raw pixels of any size; sides are padded to 32 k + 1 inside.

        ``task/boundary_logits`` or ``task/saliency_logits`` with ``task/side_logits`` of the three scales;
        ``task/logits`` with ``task/aux_logits_{stride}``; ``task/normal``; ``det/boxes`` and what else detectors
        return. In training, ``task/deferred`` stands for them.

        Args:
          image: of three bytes a pixel, or what else ``standardize`` takes.
          size: rows and columns of each that are image, for detection; None for all.
          targets: the objects, for detection in training, as :class:`jaxseg.models.detection.faster_rcnn.FasterRCNN`
            takes them.
          train: what is returned, and whose statistics normalise.
        """
        h, w = image.shape[1:3]
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        sides = [32 * max(-(-(n - 1) // 32), 1) + 1 for n in (h, w)]
        x = jnp.pad(x, ((0, 0), (0, sides[0] - h), (0, sides[1] - w), (0, 0)), mode="edge")
        again = nn.remat(lambda trunk, y: trunk(y, train=train))
        taps, last = [], []
        for stride in SCALES:
            y = x if stride == 1 else avg_pool(x, 3, stride=stride, padding=1)
            maps = again(self.trunk, y)
            last.append(maps[4])
            taps.append([self._normalized(f"norm{stride}_{k}", y, train) for k, y in enumerate(maps[:5], 1)] + maps[5:])
        shared, outputs = (taps, last[0]), {}
        for name in self.heads:
            if name == DETECTION:
                outputs |= self._objects(shared, image, size, targets, train=train)
                continue
            head = HEADS[pick(dict(zip(TASKS, TASKS, strict=True)), name, "task of UberNet")]
            compute = partial(_outputs, head, (sides[0], sides[1]), (h, w))
            weights = self._weights(name, head, [tap.shape[-1] for tap in taps[0]])
            if train:
                outputs[f"{name}/deferred"] = Deferred(shared, weights, compute)
            else:
                outputs |= {f"{name}/{key}": value for key, value in compute(shared, weights, ()).items()}
        return outputs

    def _objects(
        self, shared: Shared, image: Array, size: Array | None, targets: Mapping[str, Array] | None, *, train: bool
    ) -> dict[str, Any]:
        if not train or self.is_initializing():
            found = self.detector(shared[1], image, size, targets, train=train)
            return {f"{DETECTION}/{key}": value for key, value in found.items()}
        layers, variables = self.detector.unbind()
        keys = {name: jax.random.key_data(self.make_rng(name)) for name in ("dropout", "sample")}
        given = (image, size, targets, keys)
        compute = partial(_found, layers, jax.random.key_impl(self.make_rng("sample")))
        return {f"{DETECTION}/deferred": Deferred(shared, variables["params"], compute, given)}

    def _normalized(self, name: str, x: Map, train: bool) -> Map:
        norm = BatchNorm(epsilon=1.0, use_scale=False, use_bias=False, dtype=self.dtype, name=name)
        return norm(x, train=train) * GAIN

    def _weights(self, name: str, head: Head, widths: list[int]) -> dict[str, Weights]:
        """Return the kernels and biases of a task, in the compute dtype."""
        k = {0: self.num_classes, -1: self.num_parts}.get(head.channels, head.channels)
        found = {f"skip{i}": OneByOne(k, name=f"{name}_skip{i}")(c) for i, c in enumerate(widths, 1)}
        found["fuse"] = OneByOne(k, averaged=len(widths), name=f"{name}_fuse")(len(widths) * k)
        found["fuse_scales"] = OneByOne(k, averaged=len(SCALES), name=f"{name}_fuse_scales")(len(SCALES) * k)
        return jax.tree.map(lambda leaf: leaf.astype(self.dtype), found)


class OneByOne(nn.Module):
    """The kernel and the bias of a 1x1 convolution.

    >>> layer = OneByOne(2, averaged=3)
    >>> [f"{x:.2f}" for x in layer.init_with_output(jax.random.key(0), 6)[0]["kernel"][:, 0].tolist()]
    ['0.33', '0.00', '0.33', '0.00', '0.33', '0.00']

    Attributes:
      features: channels of the result.
      averaged: begin as the mean of so many stacked maps, as the author's fusions do; 0 for N(0, 0.001).
    """

    features: int
    averaged: int = 0

    @nn.compact
    def __call__(self, channels: int) -> Weights:
        """Return ``kernel`` [c k] and ``bias`` [k] for that many channels."""
        mean = np.tile(np.eye(self.features, dtype=np.float32), (max(self.averaged, 1), 1)) / max(self.averaged, 1)
        start = (lambda key, shape, dtype: jnp.asarray(mean, dtype)) if self.averaged else nn.initializers.normal(1e-3)
        kernel = self.param("kernel", start, (channels, self.features), jnp.float32)
        return {"kernel": kernel, "bias": self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)}


def _outputs(
    head: Head, sides: tuple[int, int], size: tuple[int, int], shared: Shared, weights: dict[str, Weights], given: Any
) -> dict[str, Array]:
    """Return a task's outputs, cropped to the image, of the taps of all scales."""
    del given
    at = ((sides[0] - 1) // head.stride + 1, (sides[1] - 1) // head.stride + 1)
    scales = [
        _applied(
            weights["fuse"],
            [
                resize_bilinear(_applied(weights[f"skip{i}"], [x]), at, align_corners=True)
                for i, x in enumerate(maps, 1)
            ],
        )
        for maps in shared[0]
    ]
    fused = _applied(weights["fuse_scales"], scales)
    whole = [resize_bilinear(x, sides, align_corners=True)[:, : size[0], : size[1]] for x in (fused, *scales)]
    return head.read(whole[0], whole[1:])


def _found(layers: Detector, kind: Any, shared: Shared, weights: Mapping[str, Any], given: Any) -> dict[str, Array]:
    """Return what the losses of the detector are made of."""
    image, size, targets, keys = given
    rngs = {name: jax.random.wrap_key_data(data, impl=kind) for name, data in keys.items()}
    found: Any = layers.apply({"params": weights}, shared[1], image, size, targets, train=True, rngs=rngs)
    return found


def _applied(weights: Weights, maps: Taps) -> Map:
    """Return a 1x1 convolution of maps side by side."""
    x = maps[0] if len(maps) == 1 else jnp.concatenate(maps, axis=-1)
    return jnp.tensordot(x, weights["kernel"], 1) + weights["bias"].reshape(1, 1, 1, -1)


@register(
    task="multitask",
    paper="arXiv:1609.02132",
    params=20_483_904 + 148_756 + 122_372_785,
    small={
        "trunk.backbone.blocks": (1, 1, 1, 1, 1),
        "trunk.backbone.width": 4,
        "trunk.features": 8,
        "num_parts": 3,
        "num_things": 3,
        "detector.rpn.features": 16,
        "detector.box_head.dense": (32, 32),
        "detector.anchor_sizes": ((8, 16, 32, 64),),
        "detector.train_proposing": Proposing(256, 64, min_size=2.0),
        "detector.test_proposing": Proposing(256, 64, min_size=2.0),
        "detector.samples": 64,
        "detector.detections": 20,
    },
)
def ubernet_vgg16(
    heads: tuple[str, ...] = TASKS,
    num_classes: int = 21,
    num_parts: int = 7,
    num_things: int = 20,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UberNet:
    """UberNet on VGG-16: its seven tasks."""
    backbone = VGG(
        pool_size=3,
        output_stride=8,
        out_maps="before",
        in_channels=in_channels,
        standardize=UNIT_RANGE,
        dtype=dtype,
    )
    return UberNet(
        trunk=Trunk(backbone, dtype=dtype),
        detector=detector(num_things, dtype=dtype),
        heads=heads,
        num_classes=num_classes,
        num_parts=num_parts,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
