"""From raw RGB to what a network's weights expect. It lives inside the network, because the statistics belong to the
weights: import, export and predict then cannot disagree.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


@dataclass(frozen=True)
class Standardize:
    """``(x * scale - mean) / std`` per channel, in the order of channels that the weights were trained on.

    Attributes:
      mean: per channel, after scaling, in ``order``.
      std: likewise.
      scale: applied to the raw 0..255 values first.
      order: "rgb", "bgr", or "grey" for one channel of luma (ITU-R BT.601).
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    order: str = "rgb"

    @property
    def channels(self) -> int:
        """How many channels come out."""
        return len(self.mean)

    def __call__(self, image: Shaped[Array, "b h w 3"]) -> Float[Array, "b h w c"]:
        """Standardised float32 image of ``channels`` channels, from raw RGB, uint8 or float, 0..255."""
        x = image.astype(jnp.float32)
        if self.order == "bgr":
            x = x[..., ::-1]
        elif self.order == "grey":
            x = x @ jnp.asarray([[0.299], [0.587], [0.114]], jnp.float32)
        elif self.order != "rgb":
            raise ValueError(f"channel order {self.order!r}; there are: 'rgb', 'bgr', 'grey'")
        gain = jnp.asarray([self.scale / s for s in self.std], jnp.float32)
        shift = jnp.asarray([m / s for m, s in zip(self.mean, self.std, strict=True)], jnp.float32)
        return x * gain.reshape(1, 1, 1, -1) - shift.reshape(1, 1, 1, -1)


IMAGENET = Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)
"""torchvision's statistics of ImageNet."""

CAFFE = Standardize((104.00699, 116.66877, 122.67892), order="bgr")
"""BGR minus the mean of ImageNet, no scaling, as the Caffe networks have it (shelhamer/fcn.berkeleyvision.org)."""

MSRA = Standardize((103.53, 116.28, 123.675), order="bgr")
"""BGR minus the mean of ImageNet, as detectron2 gives it to the residual networks of MSRA."""

UNIT = Standardize(scale=1 / 255)
"""RGB from 0 to 1."""

CENTRED = Standardize((1.0, 1.0, 1.0), scale=1 / 127.5)
"""RGB from -1 to 1."""

RAW_BGR = Standardize(order="bgr")
"""BGR from 0 to 255 with no mean subtracted, as SegNet's released networks have it."""

GREY = Standardize((0.5,), (0.25,), 1 / 255, order="grey")
"""One channel of luma, roughly zero mean and unit variance on natural images."""
