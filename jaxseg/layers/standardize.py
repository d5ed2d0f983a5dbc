"""Standardisation: from raw pixels of any number of channels to what a network's weights expect.

It is part of the network, because the statistics belong to the weights: training, import, export and prediction cannot
disagree about them.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxseg.errors import BadInput, suggest

_ORDERS = ("rgb", "bgr", "grey", "bands")
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Standardize:
    """``(x * scale - mean) / std`` per channel, in the order of channels that the weights were trained on.

    Statistics of colours (three channels, or one of luma) are in the units of 8-bit images, 0..255: uint16 is divided
    by 257 first. Statistics of bands are in the units of the image. Without statistics (``mean=()``) the range of the
    dtype becomes 0..1: uint8 is divided by 255, uint16 by 65535, and floats stay as they are.

    >>> Standardize((104.0, 117.0, 123.0), (1.0, 1.0, 1.0), order="bgr").fits(4)
    False
    >>> Standardize((900.0, 1100.0, 1000.0, 2500.0), (200.0, 250.0, 300.0, 500.0)).fits(4)
    True

    Attributes:
      mean: per channel, after scaling, in ``order``; () for no statistics.
      std: likewise.
      scale: applied to the raw values first.
      order: "rgb", the channels as they are in the image; "bgr"; "grey" for one channel of luma (ITU-R BT.601), which
        an image of one channel is already; "bands" for three channels that are not colours.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1.0
    order: str = "rgb"

    @classmethod
    def parse(cls, value: Any) -> "Standardize":
        """Return the statistics that a user spells: a name of :data:`NAMED`, or ``(mean, std)``.

        Numbers up to 1 are of pixels from 0 to 1 (``scale`` is 1/255), larger ones of raw pixels.

        Raises:
          BadInput: there is no such name, or these are no statistics.

        >>> Standardize.parse("centred") == CENTRED
        True
        >>> Standardize.parse(((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))).scale == 1 / 255
        True
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            found = NAMED.get(value.lower())
            if found is None:
                raise BadInput(f"no statistics of pixels are called {value!r}{suggest(value, NAMED)}")
            return found
        try:
            mean, std = (tuple(float(number) for number in part) for part in value)
        except (TypeError, ValueError):
            mean, std = (), ()
        if not mean or len(mean) != len(std) or not all(number > 0 for number in std):
            raise BadInput(f"statistics are {value!r}, but must be a name or (mean, std), both per channel")
        return cls(mean, std, 1 / 255 if max(*mean, *std) <= 1 else 1.0)

    @property
    def channels(self) -> int:
        """Number of channels of the result; 0 where it is that of the image."""
        return len(self.mean)

    @property
    def of_colors(self) -> bool:
        """Return True if the statistics are those of colours or luma, in the units of 8-bit images."""
        return self.order in ("bgr", "grey") or (self.order == "rgb" and self.channels == 3)

    def fits(self, channels: int) -> bool:
        """Return True if images of so many channels can be standardised."""
        if self.order == "grey":
            return channels in (1, 3)
        return self.channels in (0, channels)

    def to_float(self, image: Shaped[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the image in float32, in the units that the statistics have; floats are left as they are."""
        x = image.astype(jnp.float32)
        if self.channels == 0:
            return x / {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
        return x / 257 if self.of_colors and image.dtype == jnp.uint16 else x

    def to_levels(self, image: Shaped[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return the image in float32 as filters of colours take it: 0..255, or bands in their own units."""
        x = self.to_float(image)
        return x * 255 if self.channels == 0 else x

    def __call__(self, image: Shaped[Array, "b h w c"], channels: int | None = None) -> Float[Array, "b h w _"]:
        """Standardise raw pixels.

        Args:
          image: uint8, uint16 or float.
          channels: how many the network takes; by default any number that fits the statistics.

        Returns:
          The float32 image, of ``self.channels`` channels where there are statistics.

        Raises:
          BadInput: the image or the statistics have another number of channels than the network.
        """
        if self.order not in _ORDERS:
            raise BadInput(f"channel order {self.order!r}; there are: {', '.join(map(repr, _ORDERS))}")
        given = image.shape[-1]
        if channels is not None and given != channels:
            raise BadInput(
                f"the image has {_count(given)} and the network takes {channels}; build it with in_channels={given}"
            )
        if not self.fits(given):
            raise BadInput(
                f"in_channels is {given}, and the statistics are of {_count(self.channels)} in the order "
                f"{self.order!r}; give Standardize(mean, std) of {given}, or UNIT_RANGE"
            )
        x = self.to_float(image)
        if self.channels == 0:
            return x
        if self.order == "bgr":
            x = x[..., ::-1]
        elif self.order == "grey" and given == 3:
            x = x @ jnp.asarray([[weight] for weight in _LUMA], jnp.float32)
        gain = jnp.asarray([self.scale / s for s in self.std], jnp.float32)
        shift = jnp.asarray([m / s for m, s in zip(self.mean, self.std, strict=True)], jnp.float32)
        return x * gain.reshape(1, 1, 1, -1) - shift.reshape(1, 1, 1, -1)


def _count(channels: int) -> str:
    return f"{channels} channel" + "s" * (channels != 1)


def statistics(given: Standardize | None, default: Standardize, in_channels: int) -> Standardize:
    """Return the statistics of a network: those given, else its own where they fit its channels, else UNIT_RANGE.

    >>> statistics(None, IMAGENET, 3) == IMAGENET, statistics(None, IMAGENET, 4) == UNIT_RANGE
    (True, True)
    """
    if given is not None:
        return given
    return default if default.fits(in_channels) else UNIT_RANGE


UNIT_RANGE = Standardize((), ())
"""The dtype's range becomes 0..1, for any number of channels."""

IMAGENET = Standardize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255)
"""torchvision's statistics of ImageNet."""

CAFFE = Standardize((104.00699, 116.66877, 122.67892), order="bgr")
"""BGR minus the mean of ImageNet, no scaling, as the Caffe networks have it (shelhamer/fcn.berkeleyvision.org)."""

FAST_RCNN = Standardize((102.9801, 115.9465, 122.7717), order="bgr")
"""BGR minus the mean that Fast and Faster R-CNN of the Caffe years subtract."""

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

NAMED = {
    "imagenet": IMAGENET,
    "caffe": CAFFE,
    "fast_rcnn": FAST_RCNN,
    "msra": MSRA,
    "unit": UNIT,
    "centred": CENTRED,
    "raw_bgr": RAW_BGR,
    "grey": GREY,
    "unit_range": UNIT_RANGE,
}
"""Statistics by the names that :meth:`Standardize.parse` takes."""
