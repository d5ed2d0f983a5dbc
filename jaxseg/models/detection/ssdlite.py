"""SSDlite: SSD with separable convolutions in heads and further maps (Sandler et al. 2018, arXiv:1801.04381, section
6.2), on MobileNetV3 (Howard et al. 2019, arXiv:1905.02244, section 6.3), as torchvision has it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.backbones import mobilenet
from jaxseg.backbones.mobilenet_blocks import ConvBN
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.layers.standardize import CENTRED, Standardize, statistics
from jaxseg.models.detection.ssd import SSD
from jaxseg.registry import register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

SCALES = (*(0.2 + 0.75 * i / 5 for i in range(6)), 1.0)
"""Of the default boxes: six from 0.2 to 0.95 (section 2.2 of SSD), and the whole image."""


class MobileNeck(nn.Module):
    """Maps of a MobileNet, and smaller ones after them, all with ReLU6.

    >>> neck, maps = MobileNeck(("c4", "c5"), ((4, 8),)), {k: jnp.zeros((1, 4, 4, 8)) for k in ("c4", "c5")}
    >>> found = jax.eval_shape(lambda: neck.init_with_output(jax.random.key(0), maps, train=False)[0])
    >>> [x.shape for x in found]
    [(1, 4, 4, 8), (1, 4, 4, 8), (1, 2, 2, 8)]

    Attributes:
      maps: of the backbone, finest first.
      extras: channels of a 1x1 convolution and of the map at half the size after it.
      separable: whether that is made by a depthwise and a pointwise convolution.
      padding: "torch" or "SAME", as of the backbone.
      norm: likewise.
      epsilon: of the normalisations.
      dtype: compute dtype.
    """

    maps: tuple[str, ...]
    extras: tuple[tuple[int, int], ...]
    separable: bool = True
    padding: str = "torch"
    norm: str = "batch"
    epsilon: float = 1e-3
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, maps: Mapping[str, Map], *, train: bool) -> list[Map]:
        """Return the maps, finest first."""
        layer = partial(ConvBN, padding=self.padding, norm=self.norm, epsilon=self.epsilon, dtype=self.dtype)
        found = [maps[name] for name in self.maps]
        x = found[-1]
        for i, (inner, features) in enumerate(self.extras):
            x = jax.nn.relu6(layer(inner, 1, name=f"extra{i}_reduce")(x, train=train))
            if self.separable:
                depthwise = layer(inner, 3, stride=2, groups=inner, name=f"extra{i}_depthwise")
                x = jax.nn.relu6(depthwise(x, train=train))
                x = jax.nn.relu6(layer(features, 1, name=f"extra{i}_pointwise")(x, train=train))
            else:
                x = jax.nn.relu6(layer(features, 3, stride=2, name=f"extra{i}_conv")(x, train=train))
            found.append(x)
        return found


def on_mobilenet_v3(
    num_classes: int = 90,
    *,
    width: float = 1.0,
    reduced_tail: bool = True,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> SSD:
    """Return torchvision's SSDlite on MobileNetV3-Large for images of 320 pixels.

    Args:
      num_classes: without background.
      width: of the backbone.
      reduced_tail: whether the backbone's last stage has half the channels; False fits a classifier's weights.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.

    >>> on_mobilenet_v3().neck.maps
    ('c4_expanded', 'c5')
    """
    options: dict[str, Any] = {"in_channels": in_channels, "dtype": dtype}
    given = statistics(standardize, CENTRED, in_channels)
    return SSD(
        backbone=mobilenet.mobilenet_v3("large", width=width, reduced_tail=reduced_tail, standardize=given, **options),
        neck=MobileNeck(
            ("c4_expanded", "c5"), ((256, 512), (128, 256), (128, 256), (64, 128)), epsilon=1e-3, dtype=dtype
        ),
        boxes=DefaultBoxes(SCALES, ((2.0, 3.0),) * 6, clip=True),
        num_classes=num_classes,
        image_size=(320, 320),
        head="separable",
        score_threshold=0.001,
        nms_threshold=0.55,
        candidates=300,
        detections=300,
        epsilon=1e-3,
        dtype=dtype,
    )


def _part(source: str, path: str) -> Rules:
    """Rules of a convolution and the BatchNorm after it."""
    return (
        (rf"{source}\.0\.weight", f"{path}/conv/kernel"),
        (rf"{source}\.1\.weight", f"{path}/norm/scale"),
        (rf"{source}\.1\.bias", f"{path}/norm/bias"),
        *((rf"{source}\.1\.running_{leaf}", f"{path}/norm/{leaf}") for leaf in ("mean", "var")),
    )


_FEATURES = r"features\."


def _body_names() -> Rules:
    """torchvision's MobileNetV3, cut in two behind the expansion of block 13."""
    cut = r"backbone\.features\.1\.0"
    rules: list[tuple[str, str | None]] = [
        *_part(r"backbone\.features\.0\.13", "backbone/block13/expand"),
        *_part(rf"{cut}\.1", "backbone/block13/depthwise"),
        *(
            (rf"{cut}\.2\.fc{n}\.{theirs}", f"backbone/block13/squeeze/{ours}/{leaf}")
            for n, ours in ((1, "reduce"), (2, "expand"))
            for theirs, leaf in (("weight", "kernel"), ("bias", "bias"))
        ),
        *_part(rf"{cut}\.3", "backbone/block13/project"),
        *_part(r"backbone\.features\.1\.3", "backbone/last"),
    ]
    for block in (14, 15):
        source = rf"backbone\.features\.1\.{block - 13}\.block"
        rules += _part(rf"{source}\.0", f"backbone/block{block}/expand")
        rules += _part(rf"{source}\.1", f"backbone/block{block}/depthwise")
        for n, ours in ((1, "reduce"), (2, "expand")):
            rules.append((rf"{source}\.2\.fc{n}\.weight", f"backbone/block{block}/squeeze/{ours}/kernel"))
            rules.append((rf"{source}\.2\.fc{n}\.bias", f"backbone/block{block}/squeeze/{ours}/bias"))
        rules += _part(rf"{source}\.3", f"backbone/block{block}/project")
    for pattern, path in mobilenet.TORCHVISION_V3_NAMES:
        if pattern.startswith(r"features\.") and path and not path.startswith("last"):
            rules.append((rf"backbone\.features\.0\.{pattern.removeprefix(_FEATURES)}", f"backbone/{path}"))
    return tuple(rules)


TORCHVISION_NAMES: Rules = (
    *_body_names(),
    *(
        rule
        for part, name in ((0, "reduce"), (1, "depthwise"), (2, "pointwise"))
        for rule in _part(rf"backbone\.extra\.(\d)\.{part}", rf"neck/extra\1_{name}")
    ),
    *(
        rule
        for theirs, ours in (("classification_head", "class_head"), ("regression_head", "box_head"))
        for rule in (
            *_part(rf"head\.{theirs}\.module_list\.(\d)\.0", rf"{ours}\1/depthwise"),
            (rf"head\.{theirs}\.module_list\.(\d)\.1\.weight", rf"{ours}\1/last/kernel"),
            (rf"head\.{theirs}\.module_list\.(\d)\.1\.bias", rf"{ours}\1/last/bias"),
        )
    ),
    (r".*\.num_batches_tracked", None),
)
"""Rules from torchvision's ``ssdlite320_mobilenet_v3_large``."""

ssdlite320_mobilenet_v3_large = register(
    task="detection",
    paper="arXiv:1801.04381",
    name="ssdlite320_mobilenet_v3_large",
    summary="SSDlite on MobileNetV3 for images of 320 pixels, as torchvision has it.",
    params=3_440_060,
    names={"torchvision": TORCHVISION_NAMES},
    small={
        "width": 0.25,
        "neck.extras": ((16, 32), (16, 32)),
        "image_size": (96, 96),
        "boxes": DefaultBoxes((0.15, 0.3, 0.55, 0.8, 1.0), ((2.0, 3.0),) * 4),
        "detections": 20,
        "candidates": 50,
    },
)(on_mobilenet_v3)
