"""AlexNet: ImageNet classification with deep convolutional neural networks (Krizhevsky, Sutskever, Hinton, NIPS 2012).

Five convolutions, the first 11x11 at stride 4, with three overlapping 3x3 max-pools. Two layouts: Caffe's (two groups
in convolutions 2, 4 and 5, local response normalisation after the first two pools), which R-CNN and FCN use, and that
of Krizhevsky 2014 (arXiv:1404.5997) without either, which torchvision has.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.layers.conv import Conv
from jaxseg.layers.standardize import CAFFE, IMAGENET, Standardize, statistics
from jaxseg.ops.lrn import local_response_norm
from jaxseg.ops.pool import max_pool
from jaxseg.types import Rules

Map = Float[Array, "b _ _ _"]


class AlexNet(nn.Module):
    """The convolutional part.

    >>> net, image = AlexNet(), jnp.zeros((1, 64, 64, 3), jnp.uint8)
    >>> jax.eval_shape(lambda key: net.init_with_output(key, image, train=False)[0], jax.random.key(0))["c5"].shape
    (1, 1, 1, 256)

    Attributes:
      widths: channels of the five convolutions.
      groups: of each.
      lrn: whether the first two pooled maps are normalised across channels.
      first_padding: of conv1; FCN has 100 there.
      ceil_mode: whether pools keep the ragged last row and column, as Caffe does and torchvision does not.
      in_channels: of the image.
      standardize: statistics of the input.
      dtype: compute dtype.
    """

    widths: tuple[int, ...] = (96, 256, 384, 384, 256)
    groups: tuple[int, ...] = (1, 2, 1, 2, 2)
    lrn: bool = True
    first_padding: int = 0
    ceil_mode: bool = True
    in_channels: int = 3
    standardize: Standardize = CAFFE
    dtype: jnp.dtype | type = jnp.float32

    @nn.compact
    def __call__(self, image: Shaped[Array, "b h w c"], *, train: bool) -> dict[str, Map]:
        """Return ``{"c2" .. "c5"}`` for raw pixels: conv1 at stride 4, its pool at 8, conv5 at 16, its pool at 32; no
        ``c1``.
        """
        del train
        x = self.standardize(image, self.in_channels).astype(self.dtype)
        maps = {}
        for i, (width, groups) in enumerate(zip(self.widths, self.groups, strict=True), 1):
            size, stride, padding = ((11, 4, self.first_padding), (5, 1, 2))[i - 1] if i < 3 else (3, 1, 1)
            x = Conv(width, size, stride=stride, padding=padding, groups=groups, dtype=self.dtype, name=f"conv{i}")(x)
            x = jax.nn.relu(x)
            if i == 1:
                maps["c2"] = x
            elif i == 5:
                maps["c4"] = x
            if i in (1, 2, 5):
                x = max_pool(x, 3, stride=2, ceil_mode=self.ceil_mode)
            if i in (1, 2) and self.lrn:
                x = local_response_norm(x, size=5, alpha=1e-4, beta=0.75)
            if i in (1, 5):
                maps["c3" if i == 1 else "c5"] = x
        return maps


def torchvision_alexnet(
    *,
    widths: tuple[int, ...] = (64, 192, 384, 256, 256),
    in_channels: int = 3,
    standardize: Standardize | None = None,
    dtype: jnp.dtype | type = jnp.float32,
) -> AlexNet:
    """Return the layout whose weights torchvision has: no groups, no normalisation, pools that round down.

    >>> torchvision_alexnet().groups
    (1, 1, 1, 1, 1)
    """
    return AlexNet(
        widths=widths,
        groups=(1, 1, 1, 1, 1),
        lrn=False,
        first_padding=2,
        ceil_mode=False,
        in_channels=in_channels,
        standardize=statistics(standardize, IMAGENET, in_channels),
        dtype=dtype,
    )


TORCHVISION_NAMES: Rules = (
    *(
        (rf"features\.{index}\.{theirs}", f"conv{i}/{ours}")
        for i, index in enumerate((0, 3, 6, 8, 10), 1)
        for theirs, ours in (("weight", "kernel"), ("bias", "bias"))
    ),
    (r"classifier\..*", None),
)
"""Rules from torchvision's state dict to the paths of :class:`AlexNet`; the classifier is left out."""

CAFFE_NAMES: Rules = (
    (r"(conv\d)\.weight", r"\1/kernel"),
    (r"(conv\d)\.bias", r"\1/bias"),
    (r"fc\d\..*", None),
)
"""Rules from Caffe's own model (bvlc_reference_caffenet.caffemodel) to :class:`AlexNet`, the classifier left out."""
