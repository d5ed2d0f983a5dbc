"""Paste box-relative masks into images on the host: NumPy alone, one object at a time, no canvas but the object's own.

:mod:`jaxseg.ops.masks` has the same two rules for devices and whole batches. Nothing here imports JAX.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxseg.errors import BadInput
from jaxseg.ops import rle

PasteRule = Literal["torchvision", "detectron2"]
"""How a mask comes into the image: see :func:`paste_window`."""

FARTHEST = 2.0**29
"""Corners of boxes are clipped to so many pixels, so that integers hold them."""

Taps = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]
"""Two cells of the mask for each pixel of an axis, and their weights."""


def paste_window(
    mask: ArrayLike, box: ArrayLike, height: int, width: int, *, rule: PasteRule = "torchvision", threshold: float = 0.5
) -> tuple[NDArray[np.bool_], int, int]:
    """Return a part of the image that holds the object's whole mask, with its top row and left column.

    >>> window, top, left = paste_window(np.ones((2, 2)), [4, 4, 8, 8], 12, 12)
    >>> window.shape, window[4].astype(int).tolist(), top, left
    ((9, 9), [0, 0, 1, 1, 1, 1, 1, 0, 0], 2, 2)

    Args:
      mask: probabilities ``[m m]`` within the box.
      box: ``x0 y0 x1 y1``, pixels; one that is not finite gives an empty mask.
      height: rows of the image.
      width: columns of the image.
      rule: "torchvision" as :func:`jaxseg.ops.masks.paste_masks` (above the threshold, boxes of whole pixels),
        "detectron2" as :func:`jaxseg.ops.masks.paste_masks_aligned` (at least the threshold, boxes as they are).
      threshold: probability that separates the object from the rest.

    Raises:
      BadInput: there is no such rule.
    """
    if rule not in ("torchvision", "detectron2"):
        raise BadInput(f"masks are not pasted by {rule!r}; the rules are 'torchvision' and 'detectron2'")
    mask = np.asarray(mask, np.float32)
    x0, y0, x1, y1 = np.clip(np.asarray(box, np.float32), np.float32(-FARTHEST), np.float32(FARTHEST))
    nothing = np.zeros((0, 0), bool), 0, 0
    if not np.isfinite(np.asarray(box, np.float32)).all():
        return nothing
    if rule == "torchvision":
        mask = np.pad(mask, 1)
        taps = _whole_taps
    else:
        taps = _aligned_taps
        if x1 <= x0 or y1 <= y0:
            return nothing
    side = len(mask)
    (top, rows), (left, columns) = taps(y0, y1, height, side), taps(x0, x1, width, side)
    if not len(rows[0]) or not len(columns[0]):
        return nothing
    low, high, near, far = columns
    wide = mask[:, low] * near + mask[:, high] * far
    low, high, near, far = rows
    values = wide[low] * near[:, None] + wide[high] * far[:, None]
    return values > threshold if rule == "torchvision" else values >= threshold, top, left


def paste_rle(
    mask: ArrayLike, box: ArrayLike, height: int, width: int, *, rule: PasteRule = "torchvision", threshold: float = 0.5
) -> rle.Rle:
    """Return the runs of a mask that is pasted into an image, see :func:`paste_window`.

    >>> rle.area(paste_rle(np.ones((2, 2)), [4, 4, 8, 8], 12, 12))
    21
    """
    window, top, left = paste_window(mask, box, height, width, rule=rule, threshold=threshold)
    return rle.encode_window(window, top, left, height, width)


def _whole_taps(first: np.float32, last: np.float32, length: int, side: int) -> tuple[int, Taps]:
    """Pixels of an axis from the grown box's first to its last, both truncated to whole ones."""
    middle, half = (last + first) * np.float32(0.5), (last - first) * np.float32(0.5) * np.float32(side / (side - 2))
    lo, hi = int(middle - half), int(middle + half)
    begin = max(lo, 0)
    pixel = np.arange(begin, min(hi + 1, length))
    scale = np.float32(side) / np.float32(max(hi - lo + 1, 1))
    at = np.maximum(((pixel - lo).astype(np.float32) + np.float32(0.5)) * scale - np.float32(0.5), 0)
    return begin, _bilinear(np.clip(at, 0, side - 1), side)


def _aligned_taps(first: np.float32, last: np.float32, length: int, side: int) -> tuple[int, Taps]:
    """Pixels of an axis whose centres lie in the box or less than half a cell beside it."""
    cell = (last - first) / side
    begin = int(np.clip(np.floor(first - cell), 0, length))
    pixel = np.arange(begin, int(np.clip(np.ceil(last + cell) + 1, begin, length)))
    relative = (pixel.astype(np.float32) + np.float32(0.5) - first) / (last - first) * 2 - 1
    at = ((relative + 1) * side - 1) / 2
    low, high, near, far = _bilinear(np.clip(at, -1, side), side)
    inside = (at > -1) & (at < side)
    return begin, (low, high, np.where(inside, near, 0), np.where(inside, far, 0))


def _bilinear(at: NDArray[np.floating], side: int) -> Taps:
    """Return the cells around a place; those that the mask lacks weigh nothing."""
    low = np.floor(at)
    rest, cell = (at - low).astype(np.float32), low.astype(np.intp)
    near = np.where((cell >= 0) & (cell < side), 1 - rest, 0).astype(np.float32)
    far = np.where(cell + 1 < side, rest, 0).astype(np.float32)
    return np.clip(cell, 0, side - 1), np.clip(cell + 1, 0, side - 1), near, far
