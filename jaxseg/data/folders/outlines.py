"""Masks of the shapes that annotation tools export: polygons, rectangles, ellipses, run lengths, PNGs, brushes.

Each function takes what the file says, and height and width of the image, and returns the mask as COCO's run lengths.
Polygons are filled as COCO fills them (:mod:`jaxseg.ops.rle`); what lies outside the image is cut off.
"""

import base64
import binascii
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.ops.rle import Rle

Point = tuple[float, float]


def polygon(points: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """Return the mask of a polygon of points (x, y), pixels.

    Raises:
      BadInput: it has less than three points, or coordinates that are no finite numbers.

    >>> rle.decode(polygon([(1.0, 0.0), (3.0, 0.0), (3.0, 2.0), (1.0, 2.0)], 2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]
    """
    try:
        flat = np.asarray(points, np.float64).reshape(len(points), 2).reshape(-1)
    except (TypeError, ValueError):
        raise BadInput("a polygon whose points are not pairs of numbers") from None
    return rle.from_polygons([flat], height, width)


def rectangle(
    corner: Point, opposite: Point, height: int, width: int, *, turn: float = 0.0, about: Point | None = None
) -> Rle:
    """Return the mask of a rectangle between two corners.

    Args:
      corner: x, y in pixels.
      opposite: x, y in pixels.
      height: of the image.
      width: of the image.
      turn: degrees, clockwise as the image is seen.
      about: what it is turned about; None for its centre.

    >>> rle.area(rectangle((3.0, 2.0), (1.0, 0.0), 2, 4))
    4
    """
    (x0, x1), (y0, y1) = sorted((corner[0], opposite[0])), sorted((corner[1], opposite[1]))
    centre = ((x0 + x1) / 2, (y0 + y1) / 2) if about is None else about
    return polygon(_turned([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], turn, centre), height, width)


def ellipse(centre: Point, radii: Point, height: int, width: int, *, turn: float = 0.0) -> Rle:
    """Return the mask of an ellipse, as a polygon whose edges leave it by less than a tenth of a pixel.

    Args:
      centre: x, y in pixels.
      radii: along x and y, pixels.
      height: of the image.
      width: of the image.
      turn: degrees, clockwise as the image is seen.

    Raises:
      BadInput: a radius is not above 0.

    >>> rle.area(ellipse((50.0, 50.0), (20.0, 10.0), 100, 100)), round(math.pi * 20 * 10)
    (631, 628)
    """
    if not min(radii) > 0:
        raise BadInput(f"an ellipse of radii {radii[0]:g} and {radii[1]:g}; both are above 0")
    count = int(np.clip(8 * math.sqrt(max(radii)), 16, 2000))  # the sagitta of r (1 - cos(pi / n)) is below 0.1
    angles = 2 * math.pi * np.arange(count) / count
    around = [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles.tolist()]
    return polygon(_turned(around, turn, centre), height, width)


def window(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> Rle:
    """Return the mask that is empty but for a window, cut where that leaves the image.

    >>> rle.decode(window(np.ones((2, 2), bool), -1, 1, 2, 2)).astype(int).tolist()
    [[0, 1], [0, 0]]
    """
    y0, x0 = max(top, 0), max(left, 0)
    inside = pixels[y0 - top : max(height - top, 0), x0 - left : max(width - left, 0)]
    if not inside.size:
        return rle.encode(np.zeros((height, width), bool))
    return rle.encode_window(inside, y0, x0, height, width)


def runs_in_window(counts: Sequence[int], box: tuple[int, int, int, int], height: int, width: int) -> Rle:
    """Return the mask of run lengths that go row by row through a box, zeros first, as CVAT writes them.

    Args:
      counts: lengths of the runs.
      box: left, top, width, height.
      height: of the image.
      width: of the image.

    Raises:
      BadInput: the runs do not fill the box.

    >>> rle.decode(runs_in_window([1, 2, 1], (1, 0, 2, 2), 2, 4)).astype(int).tolist()
    [[0, 0, 1, 0], [0, 1, 0, 0]]
    """
    left, top, columns, rows = box
    if min(counts, default=0) < 0 or columns < 1 or rows < 1 or sum(counts) != rows * columns:
        raise BadInput(f"run lengths of {sum(counts)} pixels for a box of {columns}x{rows}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return window(flat.reshape(rows, columns), top, left, height, width)


def png_in_window(text: str, corner: Point, height: int, width: int) -> Rle:
    """Return the mask of a PNG in base64 whose first pixel lies at a corner (x, y), as labelme writes it.

    Raises:
      BadInput: it is no picture in base64.

    >>> out = io.BytesIO()
    >>> Image.fromarray(np.asarray([[0, 255]], np.uint8)).save(out, "PNG")
    >>> rle.area(png_in_window(base64.b64encode(out.getvalue()).decode(), (0.0, 0.0), 2, 2))
    1
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            pixels = np.asarray(image.convert("L")) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, TypeError) as error:
        raise BadInput(f"a mask that is no PNG in base64 ({' '.join(str(error).split())})") from None
    return window(pixels, int(corner[1]), int(corner[0]), height, width)


def brush(data: bytes, height: int, width: int) -> Rle:
    """Return the mask of label-studio's brush: what is not transparent of an RGBA picture in packed run lengths.

    The bits are: 32 for the number of values; 5 for the bits of a value, less 1; four times 4 for the bits of a run's
    length, less 1. Then blocks: 1 bit, whether one value follows for the whole run; 2 bits, which of the four sizes;
    the run's length less 1; the value or values.

    Raises:
      BadInput: it is not for a picture of that size, or cut short.

    Reference: github.com/thi-ng/umbrella, packages/rle-pack.

    >>> head = f"{4:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"
    >>> bits = head + "1" + "00" + f"{3:03b}" + f"{255:08b}"
    >>> packed = bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8))
    >>> rle.decode(brush(packed, 1, 1)).tolist()
    [[True]]
    """
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    reader = _Bits(bits)
    total = reader.number(32)
    if total != height * width * 4:
        raise BadInput(f"a brush of {total} values for an image of {width}x{height}, which takes {height * width * 4}")
    size = reader.number(5) + 1
    sizes = [reader.number(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint32)
    at = 0
    while at < total:
        one = reader.number(1)
        end = at + 1 + reader.number(sizes[reader.number(2)])
        if end > total:
            raise BadInput(f"a brush whose runs pass its {total} values")
        values[at:end] = reader.number(size) if one else reader.numbers(size, end - at)
        at = end
    return rle.encode(values.reshape(height, width, 4)[..., 3] > 0)


class _Bits:
    """Reads numbers, the highest bit first, from an array of bits."""

    def __init__(self, bits: np.ndarray):
        self._bits, self._at = bits, 0

    def number(self, size: int) -> int:
        return int(self.numbers(size, 1)[0])

    def numbers(self, size: int, count: int) -> np.ndarray:
        end = self._at + size * count
        if end > len(self._bits):
            raise BadInput(f"a brush of {len(self._bits) // 8} bytes that is cut short")
        rows = self._bits[self._at : end].reshape(count, size).astype(np.int64)
        self._at = end
        return rows @ (1 << np.arange(size - 1, -1, -1, dtype=np.int64))


def _turned(points: Sequence[Point], degrees: float, centre: Point) -> list[Point]:
    """Turn points clockwise as the image is seen, whose y axis points down."""
    if not degrees:
        return list(points)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = centre
    return [(x0 + cos * (x - x0) - sin * (y - y0), y0 + sin * (x - x0) + cos * (y - y0)) for x, y in points]
