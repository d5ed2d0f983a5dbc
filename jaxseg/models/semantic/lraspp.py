"""LR-ASPP: the lite reduced pyramid of MobileNetV3 (Howard et al. 2019, arXiv:1905.02244, section 6.4), as torchvision
has it.

One branch of 1x1 features at stride 16, gated by the image's mean; its scores are added to scores of a finer map.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.backbones import mobilenet
from jaxseg.backbones.mobilenet import Inverted
from jaxseg.layers.conv import Conv
from jaxseg.layers.norm import BatchNorm
from jaxseg.layers.standardize import Standardize
from jaxseg.ops.resize import resize_bilinear
from jaxseg.registry import Overfit, register
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class LRASPP(nn.Module):
    """Logits from ``c5``, gated, plus logits from ``c3``, resized to the image.

    >>> from jaxseg.registry import create_small
    >>> model, image = create_small("lraspp_mobilenet_v3_large"), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: model.init_with_output(key, image)[0], jax.random.key(0))["logits"].shape
    (1, 64, 64, 3)

    Attributes:
      backbone: of output stride 16.
      num_classes: channels of the logits.
      features: channels of the branch.
      dtype: compute dtype.
    """

    backbone: mobilenet.MobileNet
    num_classes: int = 21
    features: int = 128
    dtype: jnp.dtype | type = jnp.float32

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return self.backbone.in_channels

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool = False) -> dict[str, Array]:
        """Return ``{"logits": f32[b h w k]}`` for raw pixels of any size."""
        maps = self.backbone(image, train=train)
        low, high = maps["c3"], maps["c5"]
        x = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="conv")(high)
        x = jax.nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train=train))
        mean = jnp.mean(high, axis=(1, 2), keepdims=True)
        gate = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="gate")(mean)
        x = resize_bilinear(x * jax.nn.sigmoid(gate), (low.shape[1], low.shape[2]))
        x = Conv(self.num_classes, 1, dtype=self.dtype, name="high_classifier")(x)
        x = x + Conv(self.num_classes, 1, dtype=self.dtype, name="low_classifier")(low)
        return {"logits": resize_bilinear(x, (image.shape[1], image.shape[2])).astype(jnp.float32)}


TORCHVISION_NAMES: Rules = (
    *(
        (name.replace(r"features\.", r"backbone\.", 1), path and f"backbone/{path}")
        for name, path in mobilenet.TORCHVISION_V3_NAMES
        if not name.startswith("classifier")
    ),
    (r"classifier\.cbr\.0\.weight", "conv/kernel"),
    (r"classifier\.cbr\.1\.weight", "norm/scale"),
    (r"classifier\.cbr\.1\.bias", "norm/bias"),
    (r"classifier\.cbr\.1\.running_(mean|var)", r"norm/\1"),
    (r"classifier\.scale\.1\.weight", "gate/kernel"),
    (r"classifier\.(low|high)_classifier\.weight", r"\1_classifier/kernel"),
    (r"classifier\.(low|high)_classifier\.bias", r"\1_classifier/bias"),
)
"""Rules from torchvision's state dict to the paths of :class:`LRASPP`."""


@register(
    task="semantic",
    paper="arXiv:1905.02244",
    params=3_221_538,
    names={"torchvision": TORCHVISION_NAMES},
    small={
        "backbone.blocks": (Inverted(8, 16, 3, 2, 0, "hard_swish"), Inverted(8, 16, 3, 2, 8, "hard_swish")),
        "backbone.stem": 8,
        "backbone.last": 16,
        "backbone.activation": "relu6",
        "backbone.output_stride": 8,
        "features": 8,
    },
    overfit=Overfit(quick=True),
)
def lraspp_mobilenet_v3_large(
    num_classes: int = 21,
    width: float = 1.0,
    features: int = 128,
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> LRASPP:
    """LR-ASPP on MobileNetV3 of output stride 16: made for telephones."""
    options = {"out_maps": "first", "in_channels": in_channels, "standardize": standardize, "dtype": dtype}
    backbone = mobilenet.mobilenet_v3("large", width=width, output_stride=16, **options)
    return LRASPP(backbone=backbone, num_classes=num_classes, features=features, dtype=dtype)
