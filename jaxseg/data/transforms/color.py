"""What colorization asks of images: colour in them, and hints of a user."""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record
from jaxseg.errors import BadInput
from jaxseg.ops.lab import rgb_to_lab


@dataclass(frozen=True)
class RequireColor:
    """Refuse an image without colour, which is the same in all channels: it would be the truth of a colorization.

    Attributes:
      least: by so many levels some pixel's channels differ, 0..255.

    >>> rng = np.random.default_rng(0)
    >>> RequireColor()({"image": np.full((2, 2, 3), 90, np.uint8)}, rng)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: the image is grey, but colours are to be learnt from it: leave it out
    """

    least: int = 8

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record as it is.

        Raises:
          BadInput: its image is grey.
        """
        image = record["image"].astype(np.int32)
        if image.shape[-1] == 1 or np.ptp(image, axis=-1).max(initial=0) < self.least:
            raise BadInput("the image is grey, but colours are to be learnt from it: leave it out")
        return record


@dataclass(frozen=True)
class ColorHints:
    """Give colours at some places, as a user would: ``hints`` and ``hint_valid``.

    Their number is geometric; each is a square of 1 to 9 pixels about a place drawn from a normal distribution around
    the image's middle, with the mean colour of the pixels under it.

    Attributes:
      stop: probability that there is no further hint: on average ``(1 - stop) / stop`` of them; 1 for none.
      most: of one image.
      largest: side of a square, in pixels.

    >>> record = ColorHints()({"image": np.full((20, 30, 3), (200, 40, 40), np.uint8)}, np.random.default_rng(0))
    >>> record["hints"].shape, bool(record["hint_valid"].any())
    ((20, 30, 2), True)

    Reference:
      Zhang et al. 2017, arXiv:1705.02999, section 3.1 and the authors' program.
    """

    stop: float | int = 0.125
    most: int = 64
    largest: int = 9

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with both keys."""
        height, width = record["image"].shape[:2]
        hints, given = np.zeros((height, width, 2), np.float32), np.zeros((height, width), bool)
        count = 0
        while count < self.most and rng.random() < 1 - self.stop:
            count += 1
            side = min(int(rng.integers(1, self.largest + 1)), height, width)
            places = [rng.normal((n - side + 1) / 2, (n - side + 1) / 4) for n in (height, width)]
            top, left = (int(np.clip(p, 0, n - side)) for p, n in zip(places, (height, width), strict=True))
            patch = (slice(top, top + side), slice(left, left + side))
            hints[patch] = rgb_to_lab(record["image"][patch])[..., 1:].mean((0, 1))
            given[patch] = True
        return {**record, "hints": hints, "hint_valid": given}
