"""YOLO's augmentation, as darknet has it. Reached through ``transforms``."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.moves import crop, pad
from jaxseg.errors import BadInput


@dataclass(frozen=True)
class RandomJitter:
    """Move each of the four sides by up to ``amount`` of the image's extent, inwards or outwards.

    What comes from outside is black; darknet repeats the border there. Put ``Resize`` behind it: the aspect changes.

    Attributes:
      amount: share of width and height, below a half.

    >>> rng = np.random.default_rng(0)
    >>> size(RandomJitter(0.2)({"label": np.zeros((10, 20))}, rng))
    (10, 28)

    Reference:
      Redmon et al. 2016, arXiv:1506.02640, section 2.2; darknet, ``load_data_detection``.
    """

    amount: float | int = 0.2

    def __post_init__(self) -> None:
        """Raise if nothing might be left of an image."""
        if not 0 <= self.amount < 0.5:
            raise BadInput(f"RandomJitter moves sides by a share from 0 to below 0.5, not {self.amount}")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record between the moved sides."""
        height, width = size(record)
        y, x = self.amount * height, self.amount * width
        top, bottom, left, right = (round(rng.uniform(-most, most)) for most in (y, y, x, x))
        inner = crop(
            record,
            max(top, 0),
            max(left, 0),
            max(height - max(top, 0) - max(bottom, 0), 1),
            max(width - max(left, 0) - max(right, 0), 1),
        )
        return pad(inner, max(-top, 0), max(-bottom, 0), max(-left, 0), max(-right, 0))


@dataclass(frozen=True)
class RandomHSV:
    """Scale saturation and value of HSV, each by a factor up to the given one or divided by it, and turn the hue.

    Attributes:
      saturation: largest factor; the factor is uniform from 1, and as often divided by.
      exposure: likewise, of the value.
      hue: largest turn, as a share of the circle.

    >>> rng = np.random.default_rng(0)
    >>> RandomHSV()({"image": np.full((1, 1, 3), 100, np.uint8)}, rng)["image"].shape
    (1, 1, 3)
    """

    saturation: float | int = 1.5
    exposure: float | int = 1.5
    hue: float | int = 0.0

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with its image recoloured.

        Raises:
          BadInput: the image is not uint8 RGB.
        """
        image = record["image"]
        if image.dtype != np.uint8 or image.shape[-1] != 3:
            found = f"{image.shape[-1]} bands of {image.dtype}"
            raise BadInput(f"RandomHSV works on uint8 RGB, but the image has {found}; leave it out")
        factors = [
            rng.uniform(1, most) ** (1 if rng.random() < 0.5 else -1) for most in (self.saturation, self.exposure)
        ]
        turn = round(rng.uniform(-self.hue, self.hue) * 256)
        bands = np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("HSV"))
        levels = np.arange(256)
        tables = [(levels + turn) % 256, *(np.minimum(levels * factor, 255).round() for factor in factors)]
        moved = np.stack([table.astype(np.uint8)[bands[..., i]] for i, table in enumerate(tables)], -1)
        return {**record, "image": np.asarray(Image.fromarray(moved, "HSV").convert("RGB"))}
