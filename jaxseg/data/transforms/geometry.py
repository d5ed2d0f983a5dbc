"""Geometry on the pixel grid: flips, quarter turns, scaling, cropping, padding. Reached through ``transforms``.

Depth is metres and scaling does not change it; ``RandomZoom`` alone divides it. Normals turn with the image: mirrored,
x changes sign; turned, x and y turn; scaled, they stay. Transforms that do the same to every image of a size have
``frame(height, width)``, see :func:`jaxseg.data.transforms.frame.frame_of`.
"""

from dataclasses import dataclass

import numpy as np

from jaxseg.data.records import Record, size
from jaxseg.data.transforms.frame import Frame
from jaxseg.data.transforms.moves import crop, flip, hide_lost, pad, resize, rotate90, zoom
from jaxseg.errors import BadInput


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right with probability ``p``.

    ``swap`` names the pairs of keypoints that change places (left eye, right eye), as pairs of joint numbers.

    >>> rng = np.random.default_rng(0)
    >>> RandomFlip(p=1.0)({"label": np.asarray([[1, 2]])}, rng)["label"].tolist()
    [[2, 1]]
    """

    p: float | int = 0.5
    swap: tuple[tuple[int, int], ...] = ()

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, mirrored or as it was."""
        return flip(record, self.swap) if rng.random() < self.p else record


@dataclass(frozen=True)
class RandomRotate90:
    """Turn by 0, 90, 180 or 270 degrees and mirror, each of the eight with equal probability. Exact: no resampling.

    A turn by 90 or 270 exchanges height and width: use it on square images, or crop after it.

    >>> rng = np.random.default_rng(0)
    >>> sorted(RandomRotate90()({"label": np.asarray([[1, 2], [3, 4]])}, rng)["label"].ravel().tolist())
    [1, 2, 3, 4]
    """

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record in one of its eight positions."""
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        return rotate90(flip(record) if mirrored else record, turns)


@dataclass(frozen=True)
class RandomScale:
    """Scale both sides by one factor, uniform in [low, high]; sizes are rounded.

    >>> rng = np.random.default_rng(0)
    >>> size(RandomScale(2.0, 2.0)({"label": np.zeros((3, 4))}, rng))
    (6, 8)
    """

    low: float | int = 0.5
    high: float | int = 2.0

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, larger or smaller."""
        height, width = size(record)
        factor = rng.uniform(self.low, self.high)
        return resize(record, max(1, round(height * factor)), max(1, round(width * factor)))


@dataclass(frozen=True)
class RandomZoom:
    """Scale both sides by one factor, uniform in [low, high], and divide depth by it, as if the camera came nearer.

    For networks that learn metres of one camera: scaling alone would show it things at another focal length. Normals
    turn as the scene is squeezed along the optical axis, so that they stay those of the depth.

    >>> rng = np.random.default_rng(0)
    >>> RandomZoom(2.0, 2.0)({"depth": np.full((1, 1), 3.0, np.float32)}, rng)["depth"].tolist()
    [[1.5, 1.5], [1.5, 1.5]]
    """

    low: float | int = 1.0
    high: float | int = 1.5

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, larger and nearer, or smaller and farther."""
        return zoom(record, float(rng.uniform(self.low, self.high)))


@dataclass(frozen=True)
class Resize:
    """Scale to exactly this height and width; the aspect ratio is not kept.

    >>> Resize(6, 2).frame(3, 4).scale
    (2.0, 0.5)
    """

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record at that size."""
        return resize(record, self.height, self.width)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes: everywhere."""
        return _scaled(height, width, self.height, self.width)


@dataclass(frozen=True)
class ResizeWithin:
    """Scale, keeping the aspect ratio, to the largest size whose sides are at most ``long`` and ``short``.

    With a large ``long`` the shorter side becomes ``short``, as detection and ADE20K do it. Sizes are rounded.
    """

    long: int
    short: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record at the largest size within both bounds."""
        return resize(record, *self.frame(*size(record)).size)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        >>> ResizeWithin(1333, 800).frame(400, 500).size
        (800, 1000)
        """
        factor = min(self.long / max(height, width), self.short / min(height, width))
        return _scaled(height, width, max(1, round(height * factor)), max(1, round(width * factor)))


@dataclass(frozen=True)
class ResizeShort:
    """Scale the shorter side to one of ``short``, keeping the aspect ratio; the longer one is at most ``long``.

    Of several sides one is drawn for each image: multi-scale training as detectors do it. With one it is deterministic
    and the same as ``ResizeWithin(long, short)``. Sizes are rounded, as in detectron2; torchvision rounds down.

    Attributes:
      short: one side, or several.
      long: most pixels of the longer side.

    >>> rng = np.random.default_rng(0)
    >>> size(ResizeShort((8, 16), long=100)({"label": np.zeros((4, 6))}, rng))
    (16, 24)
    """

    short: tuple[int, ...] | int = 800
    long: int = 1333

    def __post_init__(self) -> None:
        if not self._sides or min(*self._sides, self.long) < 1:
            raise BadInput(f"{self}: it needs at least one short side, and sides of at least one pixel")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record at one of the sizes."""
        short = self._sides[rng.integers(len(self._sides))]
        return resize(record, *ResizeWithin(self.long, short).frame(*size(record)).size)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        Raises:
          BadInput: there are several short sides, of which one is drawn.

        >>> ResizeShort(800).frame(400, 500).size
        (800, 1000)
        """
        first, *others = self._sides
        if others:
            raise BadInput(f"{self} draws one of {len(self._sides)} sides for each image; evaluation needs one side")
        return ResizeWithin(self.long, first).frame(height, width)

    @property
    def _sides(self) -> tuple[int, ...]:
        return (self.short,) if isinstance(self.short, int) else self.short


@dataclass(frozen=True)
class LargeScaleJitter:
    """Scale by a wide range, then crop or pad to a canvas (Ghiasi et al. 2021, arXiv:2012.07177, section 4.1).

    The image is scaled, keeping its aspect ratio, to fit into the canvas times a factor uniform in ``scale``. Of what
    is larger than the canvas a random part is cut out; what is smaller is padded below and to the right. Objects that
    become too small to have a pixel are dropped.

    Attributes:
      scale: least and greatest factor.
      size: height and width of the canvas.

    >>> rng = np.random.default_rng(0)
    >>> record = LargeScaleJitter((0.5, 0.5), size=(16, 16))({"label": np.zeros((4, 8), np.uint8)}, rng)
    >>> record["label"].shape, int((record["label"] == 0).sum())
    ((16, 16), 32)
    """

    scale: tuple[float | int, float | int] = (0.1, 2.0)
    size: tuple[int, int] = (1024, 1024)

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] or min(self.size) < 1:
            raise BadInput(f"{self}: scale goes from a positive number to one that is no smaller, sides are positive")

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return a record of exactly that size."""
        height, width = size(record)
        factor = rng.uniform(*self.scale) * min(self.size[0] / height, self.size[1] / width)
        height, width = max(1, round(height * factor)), max(1, round(width * factor))
        kept_y, kept_x = min(height, self.size[0]), min(width, self.size[1])
        top, left = int(rng.integers(height - kept_y + 1)), int(rng.integers(width - kept_x + 1))
        moved = crop(resize(record, height, width), top, left, kept_y, kept_x)
        return pad(hide_lost(moved, record), 0, self.size[0] - kept_y, 0, self.size[1] - kept_x)


@dataclass(frozen=True)
class RandomCrop:
    """Cut out ``height x width`` at a random place; sides that are too short are padded first, at random ends.

    >>> rng = np.random.default_rng(0)
    >>> size(RandomCrop(2, 9)({"label": np.zeros((3, 4))}, rng))
    (2, 9)
    """

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return a record of exactly that size."""
        height, width = size(record)
        missing_y, missing_x = max(0, self.height - height), max(0, self.width - width)
        before_y, before_x = int(rng.integers(missing_y + 1)), int(rng.integers(missing_x + 1))
        top = int(rng.integers(max(0, height - self.height) + 1))
        left = int(rng.integers(max(0, width - self.width) + 1))
        record = crop(record, top, left, min(height, self.height), min(width, self.width))
        return pad(record, before_y, missing_y - before_y, before_x, missing_x - before_x)


@dataclass(frozen=True)
class CentreCrop:
    """Cut ``height x width`` out of the middle; sides that are too short are padded equally."""

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return a record of exactly that size."""
        height, width = size(record)
        kept_y, kept_x = min(height, self.height), min(width, self.width)
        record = crop(record, (height - kept_y) // 2, (width - kept_x) // 2, kept_y, kept_x)
        missing_y, missing_x = self.height - kept_y, self.width - kept_x
        top, left = missing_y // 2, missing_x // 2
        return pad(record, top, missing_y - top, left, missing_x - left)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        >>> CentreCrop(4, 9).frame(7, 6).offset
        (-1.0, 1.0)
        """
        return Frame(
            (self.height, self.width),
            offset=(_centred(height, self.height), _centred(width, self.width)),
        )


@dataclass(frozen=True)
class PadTo:
    """Pad below and to the right up to ``height x width``, so that images of several sizes make one batch.

    >>> PadTo(8, 8).frame(3, 4).size
    (8, 8)
    """

    height: int
    width: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, padded with black, void and invalid."""
        height, width = size(record)
        self.frame(height, width)
        return pad(record, 0, self.height - height, 0, self.width - width)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        Raises:
          BadInput: the image is larger than that already.
        """
        if height > self.height or width > self.width:
            raise BadInput(f"an image of {height}x{width} does not fit PadTo({self.height}, {self.width})")
        return Frame((self.height, self.width))


@dataclass(frozen=True)
class PadToMultiple:
    """Pad below and to the right up to the next multiple of ``k``."""

    k: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record, padded with black, void and invalid."""
        height, width = size(record)
        return pad(record, 0, -height % self.k, 0, -width % self.k)

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        >>> PadToMultiple(32).frame(33, 64).size
        (64, 64)
        """
        return Frame((height + -height % self.k, width + -width % self.k))


@dataclass(frozen=True)
class MirrorPad:
    """Surround the image with ``pixels`` of its own mirror image, as U-Net does for its valid convolutions.

    Only the image is mirrored; the label of the ring is void and its weight 0, since its pixels are repetitions.

    >>> rng = np.random.default_rng(0)
    >>> image = np.arange(9, dtype=np.uint8).reshape(3, 3, 1)
    >>> MirrorPad(1)({"image": image}, rng)["image"][0, :, 0].tolist()
    [4, 3, 4, 5, 4]
    """

    pixels: int

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with its ring."""
        p = self.pixels
        if "image" not in record:
            return pad(record, p, p, p, p)
        self.frame(*size(record))
        return {**pad(record, p, p, p, p), "image": np.pad(record["image"], ((p, p), (p, p), (0, 0)), mode="reflect")}

    def frame(self, height: int, width: int) -> Frame:
        """Return where an image of that size goes.

        Raises:
          BadInput: the image is too small to be mirrored that far.
        """
        p = self.pixels
        if p >= min(height, width):
            raise BadInput(f"MirrorPad({p}) needs an image of more than {p} pixels a side, this is {height}x{width}")
        return Frame((height + 2 * p, width + 2 * p), offset=(float(p), float(p)))


def _scaled(height: int, width: int, new_height: int, new_width: int) -> Frame:
    return Frame((new_height, new_width), (new_height / height, new_width / width))


def _centred(length: int, wanted: int) -> float:
    """Return the position of the old border after a centred crop or pad."""
    return float((wanted - length) // 2) if wanted > length else -float((length - wanted) // 2)
