"""COCO's run-length encoded masks and its rasterisation of polygons, bit for bit those of pycocotools, in NumPy alone.

A mask is read column by column; its runs alternate, zeros first. COCO writes it as ``{"size": [h, w], "counts": ...}``,
where the counts are a list or a string of 6-bit characters. Nothing here imports JAX, so that data workers stay light.

Reference: the COCO API, ``common/maskApi.c`` (github.com/cocodataset/cocoapi).
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxseg.errors import BadInput

FARTHEST = 100_000
"""Coordinates of a polygon beyond this many pixels are refused: tracing them would take memory without bound."""

UPSAMPLING = 5
"""COCO traces the boundary of a polygon on a grid that is this many times as fine as the pixels."""


@dataclass(frozen=True, eq=False)
class Rle:
    """A binary mask as the lengths of its runs.

    >>> Rle(2, 2, np.array([1, 3])) == encode([[0, 1], [1, 1]])
    True

    Attributes:
      height: rows of the mask.
      width: columns of the mask.
      counts: int64 lengths of the runs in column-major order, the first of zeros (perhaps of length 0).
    """

    height: int
    width: int
    counts: NDArray[np.int64]

    def __eq__(self, other: object) -> bool:
        """Return True if size and runs are equal."""
        if not isinstance(other, Rle):
            return NotImplemented
        return (self.height, self.width) == (other.height, other.width) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def encode(mask: ArrayLike) -> Rle:
    """Return the runs of a binary mask ``[h w]``; anything but zero belongs to it.

    >>> encode([[0, 1], [1, 1]]).counts.tolist()
    [1, 3]

    Raises:
      BadInput: the mask has not two axes.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise BadInput(f"a mask of shape {array.shape}; it has two axes, height and width")
    flat = array.astype(bool).ravel(order="F")
    return _from_changes(np.flatnonzero(np.diff(flat, prepend=False)), array.shape[0], array.shape[1])


def encode_window(window: ArrayLike, top: int, left: int, height: int, width: int) -> Rle:
    """Return the runs of a mask that is empty but for a window, without making the whole mask.

    >>> encode_window([[1, 1]], 1, 1, 3, 4) == encode([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    True

    Args:
      window: the mask's pixels there, ``[rows columns]``.
      top: the window's first row in the mask.
      left: the window's first column in the mask.
      height: rows of the mask.
      width: columns of the mask.

    Raises:
      BadInput: the window reaches out of the mask.
    """
    inside = np.pad(np.asarray(window).astype(bool), ((1, 1), (0, 0)))
    rows, columns = inside.shape[0] - 2, inside.shape[1]
    if top < 0 or left < 0 or top + rows > height or left + columns > width:
        raise BadInput(f"a window of {rows}x{columns} at row {top}, column {left} of a mask of {height}x{width}")
    column, row = np.nonzero((inside[1:] != inside[:-1]).T)
    # a run that goes on at the head of the next column changes twice at one place, which is no change
    places, times = np.unique((left + column) * height + top + row, return_counts=True)
    return _from_changes(places[(times == 1) & (places < height * width)], height, width)


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Return the mask ``bool[h w]`` of the runs.

    >>> decode(Rle(2, 2, np.array([1, 3]))).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    flat = np.repeat(np.arange(len(rle.counts)) % 2 == 1, rle.counts)
    return flat.reshape((rle.height, rle.width), order="F")


def from_coco(segmentation: Mapping[str, Any] | Sequence[Any], height: int, width: int) -> Rle:
    """Return the mask of a ``segmentation`` of COCO's JSON: polygons, or an object with counts.

    >>> from_coco({"size": [2, 2], "counts": [1, 3]}, 2, 2).counts.tolist()
    [1, 3]
    >>> from_coco([[0, 0, 2, 0, 2, 2, 0, 2]], 2, 2).counts.tolist()
    [0, 4]

    Args:
      segmentation: polygons ``[[x0, y0, x1, y1, ...], ...]``, whose union counts, or ``{"size", "counts"}`` with the
        counts as a list of integers, a string or bytes.
      height: rows of the image.
      width: columns of the image.

    Raises:
      BadInput: neither of these, another size than the image's, or broken counts.
    """
    if not isinstance(segmentation, Mapping):
        return from_polygons(segmentation, height, width)
    missing = {"size", "counts"} - set(segmentation)
    if missing:
        raise BadInput(f"a run-length encoding without {' and '.join(sorted(missing))}; it needs size and counts")
    size, counts = segmentation["size"], segmentation["counts"]
    if not isinstance(size, Sequence) or list(size) != [height, width]:
        raise BadInput(f"a run-length encoding of size {size} (height, width) for an image of [{height}, {width}]")
    if isinstance(counts, str | bytes):
        return from_string(counts, height, width)
    try:
        runs = [operator.index(count) for count in counts]
    except TypeError:
        raise BadInput("the counts of a run-length encoding are neither integers nor a string") from None
    return _checked(np.asarray(runs, np.int64), height, width)


def to_coco(rle: Rle) -> dict[str, Any]:
    """Return ``{"size": [h, w], "counts": str}`` as COCO's JSON of results has it.

    >>> to_coco(encode([[0, 1], [1, 1]]))
    {'size': [2, 2], 'counts': '13'}
    """
    return {"size": [rle.height, rle.width], "counts": to_string(rle)}


def to_string(rle: Rle) -> str:
    """Return the runs as COCO's string: from the fourth on, each minus the one two before, 5 bits a character.

    >>> to_string(Rle(10, 10, np.array([40, 3, 57])))
    'X13i1'
    """
    rest = rle.counts.astype(np.int64)
    rest[3:] -= rle.counts[1:-2]
    rows, more = [], np.ones(len(rest), bool)
    while more.any():
        digit = rest & 31
        rest = rest >> 5
        last = rest == np.where(digit & 16, -1, 0)
        rows.append(np.where(more, digit + np.where(last, 48, 80), 0))
        more = more & ~last
    characters = np.stack(rows, 1).ravel() if rows else np.zeros(0, np.int64)
    return characters[characters > 0].astype(np.uint8).tobytes().decode("ascii")


def from_string(text: str | bytes, height: int, width: int) -> Rle:
    """Return the runs that COCO's string holds.

    >>> from_string("X13i1", 10, 10).counts.tolist()
    [40, 3, 57]

    Raises:
      BadInput: a character that no such string has, a string cut short, or runs that do not fill the mask.
    """
    try:
        raw = text if isinstance(text, bytes) else text.encode("ascii")
    except UnicodeEncodeError:
        raise BadInput(f"a run-length string with {text!r:.40}, which is not ASCII") from None
    digits = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    strange = (digits < 0) | (digits > 63)
    if strange.any():
        raise BadInput(f"a run-length string with {chr(digits[strange][0] + 48)!r}; its characters go from '0' to 'o'")
    if not len(digits):
        return _checked(digits, height, width)
    final = digits < 32
    if not final[-1]:
        raise BadInput(f"a run-length string of {len(raw)} characters that is cut short")
    starts = np.concatenate([[0], np.flatnonzero(final)[:-1] + 1])
    lengths = np.diff(np.append(starts, len(digits)))
    if lengths.max() > 10:
        raise BadInput("a run-length string with a count of more than 50 bits")
    place = np.arange(len(digits)) - np.repeat(starts, lengths)
    counts = np.add.reduceat((digits & 31) << (5 * place), starts)
    negative = (digits[starts + lengths - 1] & 16) > 0
    counts = np.where(negative, counts - (np.int64(1) << (5 * lengths)), counts)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return _checked(counts, height, width)


def from_polygons(polygons: Sequence[Any], height: int, width: int) -> Rle:
    """Return the union of polygons, rasterised as COCO does.

    A polygon is filled by the even-odd rule; what lies outside the image is cut off.

    >>> decode(from_polygons([[1, 0, 3, 0, 3, 2, 1, 2]], 2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0]]

    Args:
      polygons: each ``[x0, y0, x1, y1, ...]``, pixels; the centre of the first pixel is at (0.5, 0.5).
      height: rows of the image.
      width: columns of the image.

    Raises:
      BadInput: no polygon, or one with less than three points, half a point, or coordinates that are not numbers, not
        finite or absurdly far away.
    """
    if isinstance(polygons, str | bytes) or not len(polygons):
        raise BadInput("a segmentation without polygons; an object has at least one")
    return merge([_polygon(_points(polygon, index), height, width) for index, polygon in enumerate(polygons)])


def area(rle: Rle) -> int:
    """Return the number of pixels of the mask.

    >>> area(encode([[0, 1], [1, 1]]))
    3
    """
    return int(rle.counts[1::2].sum())


def bounding_box(rle: Rle) -> tuple[int, int, int, int]:
    """Return the tight box ``x0, y0, width, height`` of the mask, pixels, COCO's way; of an empty mask, zeros.

    >>> bounding_box(encode([[0, 0, 0], [0, 1, 1]]))
    (1, 1, 2, 1)
    """
    starts, ends = _runs(rle)
    if not len(starts):
        return 0, 0, 0, 0
    (x0, y0), (x1, y1) = (np.divmod(at, rle.height) for at in (starts, ends - 1))
    left, right = int(x0.min()), int(x1.max())
    over_the_edge = bool((x0 < x1).any())
    top = 0 if over_the_edge else int(y0.min())
    bottom = rle.height - 1 if over_the_edge else int(y1.max())
    return left, top, right - left + 1, bottom - top + 1


def merge(rles: Sequence[Rle], *, intersect: bool = False) -> Rle:
    """Return the union of masks of one size, or their intersection.

    >>> merge([encode([[1, 0, 0]]), encode([[0, 0, 1]])]).counts.tolist()
    [0, 1, 1, 1]

    Raises:
      BadInput: no mask, or masks of several sizes.
    """
    if not rles:
        raise BadInput("no masks to merge")
    height, width = _one_size(rles)
    if len(rles) == 1:
        return rles[0]
    starts, ends = (np.concatenate(sides) for sides in zip(*map(_runs, rles), strict=True))
    at, inverse = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    depth = np.cumsum(
        np.bincount(inverse[: len(starts)], minlength=len(at)) - np.bincount(inverse[len(starts) :], minlength=len(at))
    )
    inside = depth >= (len(rles) if intersect else 1)
    return _from_changes(at[np.diff(inside, prepend=False)], height, width)


def iou(first: Sequence[Rle], second: Sequence[Rle], crowd: ArrayLike | None = None) -> NDArray[np.float64]:
    """Return the intersection over union of every mask of ``first`` with every mask of ``second``.

    >>> iou([encode([[1, 1, 0]])], [encode([[0, 1, 1]])]).round(3).tolist()
    [[0.333]]

    Args:
      first: detections.
      second: ground truth of the same size.
      crowd: for each mask of ``second``, True if it stands for a crowd: the denominator is then the area of the
        detection alone.

    Returns:
      float64 ``[len(first), len(second)]``; 0 where nothing overlaps, empty masks included.

    Raises:
      BadInput: masks of several sizes, or not one flag for each mask of ``second``.
    """
    crowds = np.zeros(len(second), bool) if crowd is None else np.asarray(crowd, bool)
    if crowds.shape != (len(second),):
        raise BadInput(f"crowd flags of shape {crowds.shape} for {len(second)} masks; give one for each")
    if not first or not second:
        return np.zeros((len(first), len(second)))
    _one_size([*first, *second])
    runs = [_runs(rle) for rle in second]
    starts, ends = (np.concatenate(sides) for sides in zip(*runs, strict=True))
    bounds = np.cumsum([0] + [len(s) for s, _ in runs])
    areas = np.array([area(rle) for rle in second])
    result = np.zeros((len(first), len(second)))
    for row, rle in zip(result, first, strict=True):
        overlap = np.append(0, np.cumsum(_pixels_before(rle, ends) - _pixels_before(rle, starts)))
        common = overlap[bounds[1:]] - overlap[bounds[:-1]]
        own = area(rle)
        whole = np.where(crowds, own, own + areas - common)
        row[:] = np.where(common > 0, common / np.maximum(whole, 1), 0.0)
    return result


def _runs(rle: Rle) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the runs of ones that are not empty, in column-major pixels."""
    at = np.cumsum(rle.counts)
    starts, ends = at[:-1:2], at[1::2]
    some = ends > starts
    return starts[some], ends[some]


def _pixels_before(rle: Rle, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many pixels of the mask come before each place in column-major order."""
    starts, ends = _runs(rle)
    before = np.append(0, np.cumsum(ends - starts))
    begun = np.searchsorted(starts, at, side="right")
    unfinished = np.where(begun > 0, np.maximum(np.append(0, ends)[begun] - at, 0), 0)
    return before[begun] - unfinished


def _from_changes(at: NDArray[np.intp], height: int, width: int) -> Rle:
    """Return the mask whose pixels change, from zero, at these places."""
    edges = np.concatenate([[0], at, [height * width]]).astype(np.int64)
    counts = np.diff(edges)
    return Rle(height, width, counts[:-1] if len(counts) > 1 and counts[-1] == 0 else counts)


def _checked(counts: NDArray[np.int64], height: int, width: int) -> Rle:
    if (counts < 0).any():
        raise BadInput(f"a run-length encoding with a run of {counts.min()} pixels")
    if counts.sum() != height * width:
        raise BadInput(f"a run-length encoding of {counts.sum()} pixels for a mask of {height}x{width}")
    return Rle(height, width, counts)


def _one_size(rles: Sequence[Rle]) -> tuple[int, int]:
    sizes = {(rle.height, rle.width) for rle in rles}
    if len(sizes) > 1:
        raise BadInput(f"masks of several sizes: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}")
    return sizes.pop()


def _points(polygon: Any, index: int) -> NDArray[np.float64]:
    try:
        flat = np.asarray(polygon, np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"polygon {index} does not consist of numbers") from None
    if flat.ndim != 1 or len(flat) % 2:
        raise BadInput(f"polygon {index} has shape {flat.shape}; it is a flat list x0, y0, x1, y1, ...")
    if len(flat) < 6:
        raise BadInput(f"polygon {index} has {len(flat) // 2} points; it needs at least 3")
    wrong = ~(np.abs(flat) <= FARTHEST)
    if wrong.any():
        raise BadInput(f"polygon {index} has a coordinate of {flat[wrong][0]}; they reach {FARTHEST} pixels at most")
    return flat.reshape(-1, 2)


def _polygon(points: NDArray[np.float64], height: int, width: int) -> Rle:
    """Rasterise one polygon: its boundary is traced on the finer grid, and a column changes where the boundary crosses
    it.
    """
    u, v = _trace(np.trunc(UPSAMPLING * points + 0.5).astype(np.int64))
    moved = np.flatnonzero(np.diff(u)) + 1
    ahead, behind = u[moved], u[moved - 1]
    # the fine column that is crossed, and whether it is the middle of a column of pixels
    crossed = np.where(ahead < behind, ahead, ahead - 1)
    x = (crossed + 0.5) / UPSAMPLING - 0.5
    inside = (np.floor(x) == x) & (x >= 0) & (x <= width - 1)
    y = (np.minimum(v[moved], v[moved - 1])[inside] + 0.5) / UPSAMPLING - 0.5
    at = x[inside].astype(np.int64) * height + np.ceil(np.clip(y, 0, height)).astype(np.int64)
    places, times = np.unique(at, return_counts=True)
    return _from_changes(places[(times % 2 == 1) & (places < height * width)], height, width)


def _trace(corners: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of all grid points along the closed boundary: a step of 1 along the longer side of each edge."""
    begin, end = corners, np.roll(corners, -1, axis=0)
    span = np.abs(end - begin)
    flat = span[:, 0] >= span[:, 1]  # more columns than rows
    length = np.where(flat, span[:, 0], span[:, 1])
    # every edge is walked from its smaller end, so that neighbours who share it round alike
    along = np.where(flat[:, None], begin, begin[:, ::-1])
    to = np.where(flat[:, None], end, end[:, ::-1])
    back = along[:, 0] > to[:, 0]
    first, last = np.where(back[:, None], to, along), np.where(back[:, None], along, to)
    slope = (last[:, 1] - first[:, 1]) / np.maximum(length, 1)
    edge = np.repeat(np.arange(len(corners)), length + 1)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    step = np.where(back[edge], length[edge] - step, step)
    major = first[edge, 0] + step
    minor = np.trunc(first[edge, 1] + slope[edge] * step + 0.5).astype(np.int64)
    return np.where(flat[edge], major, minor), np.where(flat[edge], minor, major)
