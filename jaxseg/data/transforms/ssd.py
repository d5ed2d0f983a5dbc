"""The augmentation of SSD (Liu et al. 2016, arXiv:1512.02325, sections 2.2 and 3.6). Reached through ``transforms``.

In its order: ``PhotometricDistort(), ZoomOut(), IouCrop(), ResizeByAny(300, 300), RandomFlip()``. The numbers are those
of the authors' scripts, which differ from the paper's text in the least part of an image that is cut out.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxseg.data.records import Record, known, size
from jaxseg.data.transforms.moves import crop, pad, resize
from jaxseg.data.transforms.objects import overlaps
from jaxseg.data.transforms.photometric import check_rgb
from jaxseg.errors import BadInput
from jaxseg.types import BATCH, beside

IMAGENET_MEAN = (123, 117, 104)
"""RGB, of ImageNet's photographs."""


@dataclass(frozen=True)
class PhotometricDistort:
    """Change brightness, contrast, hue and saturation, each with probability ``p``, in one of two orders.

    Contrast comes before hue and saturation or after them, each with probability a half.

    Attributes:
      brightness: most that is added to or taken from every value, of 255.
      contrast: least and greatest factor of every value.
      saturation: least and greatest factor of saturation.
      hue: greatest turn of the hue, degrees; OpenCV's ``18`` of the authors' scripts are 36.
      p: probability of each.

    >>> rng = np.random.default_rng(0)
    >>> PhotometricDistort(p=0.0)({"image": np.full((1, 1, 3), 100, np.uint8)}, rng)["image"].ravel().tolist()
    [100, 100, 100]
    """

    brightness: float | int = 32
    contrast: tuple[float | int, float | int] = (0.5, 1.5)
    saturation: tuple[float | int, float | int] = (0.5, 1.5)
    hue: float | int = 36
    p: float | int = 0.5

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with its image recoloured.

        Raises:
          BadInput: the image is not uint8 RGB.
        """
        check_rgb(self, record["image"])
        does = rng.random(4) < self.p
        image = record["image"].astype(np.float32)
        if does[0]:
            image = _clipped(image + rng.uniform(-self.brightness, self.brightness))
        factor, early = rng.uniform(*self.contrast), rng.random() < 0.5
        if does[1] and early:
            image = _clipped(image * factor)
        turn, saturation = rng.uniform(-self.hue, self.hue), rng.uniform(*self.saturation)
        if does[2] or does[3]:
            image = _recoloured(image, turn if does[2] else 0.0, saturation if does[3] else 1.0)
        if does[1] and not early:
            image = _clipped(image * factor)
        return {**record, "image": np.rint(image).astype(np.uint8)}


@dataclass(frozen=True)
class ZoomOut:
    """Place the image somewhere on a larger canvas of the mean colour, with probability ``p``: small objects.

    Attributes:
      ratio: greatest size of the canvas over the image's; uniform from 1.
      fill: colour of the canvas, RGB.
      p: probability.

    >>> rng = np.random.default_rng(0)
    >>> grown = ZoomOut(p=1.0)({"image": np.zeros((4, 6, 3), np.uint8)}, rng)["image"]
    >>> grown.shape > (4, 6, 3), grown.max(axis=(0, 1)).tolist()
    (True, [123, 117, 104])

    Reference: section 3.6 of the paper.
    """

    ratio: float | int = 4
    fill: tuple[int, ...] = IMAGENET_MEAN
    p: float | int = 0.5

    def __post_init__(self) -> None:
        if self.ratio < 1:
            raise BadInput(f"{self}: the canvas is at least as large as the image, ratio at least 1")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record on its canvas, or as it was.

        Raises:
          BadInput: the colour has another number of channels than the image.
        """
        if rng.random() >= self.p:
            return record
        ratio = rng.uniform(1, self.ratio)
        height, width = size(record)
        more = int(height * ratio) - height, int(width * ratio) - width
        top, left = int(rng.integers(more[0] + 1)), int(rng.integers(more[1] + 1))
        done = pad(record, top, more[0] - top, left, more[1] - left)
        if "image" in record:
            image = record["image"]
            if image.shape[-1] != len(self.fill):
                raise BadInput(f"{self}: the image has {image.shape[-1]} channels; give fill as many")
            canvas = np.broadcast_to(np.asarray(self.fill, image.dtype), done["image"].shape).copy()
            canvas[top : top + height, left : left + width] = image
            done["image"] = canvas
        return done


@dataclass(frozen=True)
class IouCrop:
    """Cut out a patch that overlaps some object by at least one of several IoUs, or by any, or take the whole image.

    Each of these has the same chance among those for which a patch was found in ``trials`` trials. Objects whose centre
    lies outside of the patch are dropped, the others clipped.

    Attributes:
      overlaps: least IoU of the patch with some object.
      scale: least and greatest part of the image's sides, roughly; the paper's text has 0.1 for the least.
      aspect: least and greatest width over height, of the patch over the image's.
      trials: for each overlap.

    >>> rng = np.random.default_rng(0)
    >>> boxes = np.asarray([[2.0, 2.0, 8.0, 8.0]], np.float32)
    >>> record = {"image": np.zeros((10, 10, 3), np.uint8), "boxes": boxes, "valid": np.ones(1, bool)}
    >>> IouCrop(overlaps=(0.5,))(record, rng)["valid"].tolist()
    [True]
    """

    overlaps: tuple[float | int, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    scale: tuple[float | int, float | int] = (0.3, 1.0)
    aspect: tuple[float | int, float | int] = (0.5, 2.0)
    trials: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise BadInput(f"{self}: scale goes from a positive number to one up to 1, aspect is positive")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record of a patch, or as it was."""
        boxes = record["boxes"][_there(record)]
        if not len(boxes):
            return record
        kinds: list[float | None] = [None, 0.0, *(float(least) for least in self.overlaps)]
        # The first that succeeds in a random order: each that would succeed has the same chance.
        for i in rng.permutation(len(kinds)):
            least = kinds[i]
            if least is None:
                return record
            for _ in range(self.trials):
                patch = self._patch(size(record), rng)
                if overlaps(patch[None], boxes).max() >= least:
                    return _cut(record, patch)
        return record

    def _patch(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Return a random rectangle in the image, whole pixels."""
        scale = rng.uniform(*self.scale)
        aspect = rng.uniform(max(self.aspect[0], scale**2), min(self.aspect[1], 1 / scale**2))
        sides = np.asarray([scale / np.sqrt(aspect), scale * np.sqrt(aspect)])  # rows, columns
        height, width = (max(1, round(float(n))) for n in np.minimum(sides, 1) * shape)
        top, left = int(rng.integers(shape[0] - height + 1)), int(rng.integers(shape[1] - width + 1))
        return np.asarray([left, top, left + width, top + height], np.float64)


@dataclass(frozen=True)
class ResizeByAny:
    """Scale to exactly this height and width, the image by an interpolation that is drawn for each.

    Nearest neighbour, area, bilinear, bicubic or Lanczos; the last four average when the image shrinks.

    >>> rng = np.random.default_rng(0)
    >>> ResizeByAny(6, 2)({"image": np.zeros((3, 4, 3), np.uint8)}, rng)["image"].shape
    (6, 2, 3)
    """

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record at that size.

        Raises:
          BadInput: the image is not uint8 RGB.
        """
        kinds = Image.Resampling
        kind = (kinds.NEAREST, kinds.BOX, kinds.BILINEAR, kinds.BICUBIC, kinds.LANCZOS)[rng.integers(5)]
        check_rgb(self, record["image"])
        image = Image.fromarray(np.ascontiguousarray(record["image"])).resize((self.width, self.height), kind)
        return {**resize(record, self.height, self.width), "image": np.asarray(image)}


def _clipped(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255)


def _recoloured(image: np.ndarray, turn: float, saturation: float) -> np.ndarray:
    """Turn the hue by degrees and scale saturation, by way of HSV of 8 bits."""
    hsv = np.array(Image.fromarray(np.rint(image).astype(np.uint8)).convert("HSV"))
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + round(turn / 360 * 256)) % 256
    hsv[..., 1] = np.rint(np.clip(hsv[..., 1] * saturation, 0, 255))
    return np.asarray(Image.fromarray(hsv, mode="HSV").convert("RGB")).astype(np.float32)


def _there(record: Record) -> np.ndarray:
    """Which slots hold an object that is no crowd."""
    count = len(record["boxes"])
    return record.get("valid", np.ones(count, bool)) & ~record.get("crowd", np.zeros(count, bool))


def _cut(record: Record, patch: np.ndarray) -> Record:
    """Cut the patch out, and of the objects only those whose centre is in it."""
    left, top, right, bottom = (int(n) for n in patch)
    done = dict(crop(record, top, left, bottom - top, right - left))  # a patch of all is the record itself
    for name, row in known(record):
        if row is BATCH["boxes"]:
            x, y = (record[name][:, :2] + record[name][:, 2:]).T / 2
            inside = (x > left) & (x < right) & (y > top) & (y < bottom)
            valid = beside(name, "valid")
            done[valid] = inside & done.get(valid, True)
    return done
