"""UberNet: training a universal network for low-, mid- and high-level vision (Kokkinos 2017, arXiv:1609.02132).

VGG-16 with DeepLab's pools sees the image at three scales. Each task reads six of its maps, five of them normalised,
through 1x1 convolutions that all scales share, brings them to one size, and fuses first the maps of each scale, then
the scales. Geometry and numbers are those of the author's release (jkokkin/UberNet).

In training the tasks' outputs are deferred (:mod:`jaxseg.ops.deferred`) and each scale of the trunk is computed again
in the backward pass, so that memory does not grow with the number of tasks (section 3.3 of the paper).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones.vgg import VGG
from jaxseg.errors import pick
from jaxseg.layers.conv import Conv
from jaxseg.layers.dropout import Dropout
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import CAFFE, UNIT_RANGE, Standardize, statistics
from jaxseg.ops.deferred import Deferred
from jaxseg.ops.pool import avg_pool, max_pool
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import register

Map = Float[Array, "b _ _ _"]
Taps = list[Map]
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
      heads: tasks, by the names of :data:`HEADS`; outputs are called ``task/key``.
      num_classes: of semantic segmentation and semantic boundaries.
      num_parts: of humans, background included.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    trunk: Trunk
    heads: tuple[str, ...] = tuple(HEADS)
    num_classes: int = 21
    num_parts: int = 7
    standardize: Standardize = CAFFE
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.trunk.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Any]:
        """Return each task's outputs for raw pixels of any size; sides are padded to 32 k + 1 inside.

        ``task/boundary_logits`` or ``task/saliency_logits`` with ``task/side_logits`` of the three scales;
        ``task/logits`` with ``task/aux_logits_{stride}``; ``task/normal``. In training, ``task/deferred`` stands for
        them.
        """
        h, w = image.shape[1:3]
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        sides = [32 * max(-(-(n - 1) // 32), 1) + 1 for n in (h, w)]
        x = jnp.pad(x, ((0, 0), (0, sides[0] - h), (0, sides[1] - w), (0, 0)), mode="edge")
        again = nn.remat(lambda trunk, y: trunk(y, train=train))
        taps = []
        for stride in SCALES:
            y = x if stride == 1 else avg_pool(x, 3, stride=stride, padding=1)
            maps = again(self.trunk, y)
            taps.append([self._normalized(f"norm{stride}_{k}", y, train) for k, y in enumerate(maps[:5], 1)] + maps[5:])
        outputs: dict[str, Any] = {}
        for name in self.heads:
            head = pick(HEADS, name, "task of UberNet")
            compute = partial(_outputs, head, (sides[0], sides[1]), (h, w))
            weights = self._weights(name, head, [tap.shape[-1] for tap in taps[0]])
            if train:
                outputs[f"{name}/deferred"] = Deferred(taps, weights, compute)
            else:
                outputs |= {f"{name}/{key}": value for key, value in compute(taps, weights).items()}
        return outputs

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
    head: Head, sides: tuple[int, int], size: tuple[int, int], taps: list[Taps], weights: dict[str, Weights]
) -> dict[str, Array]:
    """Return a task's outputs, cropped to the image, of the taps of all scales."""
    at = ((sides[0] - 1) // head.stride + 1, (sides[1] - 1) // head.stride + 1)
    scales = [
        _applied(
            weights["fuse"],
            [
                resize_bilinear(_applied(weights[f"skip{i}"], [x]), at, align_corners=True)
                for i, x in enumerate(maps, 1)
            ],
        )
        for maps in taps
    ]
    fused = _applied(weights["fuse_scales"], scales)
    whole = [resize_bilinear(x, sides, align_corners=True)[:, : size[0], : size[1]] for x in (fused, *scales)]
    return head.read(whole[0], whole[1:])


def _applied(weights: Weights, maps: Taps) -> Map:
    """Return a 1x1 convolution of maps side by side."""
    x = maps[0] if len(maps) == 1 else jnp.concatenate(maps, axis=-1)
    return jnp.tensordot(x, weights["kernel"], 1) + weights["bias"].reshape(1, 1, 1, -1)


@register(
    task="multitask",
    paper="arXiv:1609.02132",
    params=20_483_904 + 148_756,
    small={
        "trunk.backbone.blocks": (1, 1, 1, 1, 1),
        "trunk.backbone.width": 4,
        "trunk.features": 8,
        "num_parts": 3,
    },
)
def ubernet_vgg16(
    heads: tuple[str, ...] = tuple(HEADS),
    num_classes: int = 21,
    num_parts: int = 7,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> UberNet:
    """UberNet on VGG-16: its six tasks of dense maps."""
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
        heads=heads,
        num_classes=num_classes,
        num_parts=num_parts,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
