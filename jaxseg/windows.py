"""Cutting large images into windows.

The windows lie on a grid that keeps the network's own alignment; each decides only the pixels that lie ``margin`` or
more from its cut edges. Where the margin covers the receptive field, the result is that of the whole image at once.
Networks of valid convolutions are given their windows with the image mirrored at its border (U-Net's overlap-tile).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.types import BadInput

ALIGN = 32
"""Windows begin at multiples of this, which every network's output stride divides."""


@dataclass(frozen=True)
class Span:
    """One axis of a window: what it reads (``begin``, ``length``), and what of its output lands where.

    Attributes:
      begin: first pixel that is read; below 0 or beyond the end the image is mirrored.
      length: pixels that are read.
      out: the pixels of the image that the window decides.
      inner: the same in the window's output.
    """

    begin: int
    length: int
    out: slice
    inner: slice


@dataclass(frozen=True)
class Window:
    """A window: one span down, one across."""

    vertical: Span
    horizontal: Span

    @property
    def rows(self) -> slice:
        """Rows of the image that it decides."""
        return self.vertical.out

    @property
    def columns(self) -> slice:
        """Columns of the image that it decides."""
        return self.horizontal.out

    @property
    def inner_rows(self) -> slice:
        """Those rows in the window's output."""
        return self.vertical.inner

    @property
    def inner_columns(self) -> slice:
        """Those columns in the window's output."""
        return self.horizontal.inner

    def cut(self, batch: np.ndarray) -> np.ndarray:
        """The window's pixels out of [b h w c], mirrored beyond the border."""
        rows = _mirrored(self.vertical, batch.shape[1])
        columns = _mirrored(self.horizontal, batch.shape[2])
        return batch[:, rows[:, None], columns[None, :]]


def plan(model: Any, height: int, width: int, *, tile: int, margin: int | None) -> list[Window]:
    """The windows that cover an image, row by row. One window where the image fits into a tile.

    Raises:
      BadInput: the tile is too small for the margin or for the network.
    """
    margin = min(128, tile // 4) if margin is None else margin
    if hasattr(model, "input_size"):
        vertical, horizontal = (_valid_spans(model, length, tile) for length in (height, width))
    else:
        vertical, horizontal = (_same_spans(length, tile, margin) for length in (height, width))
    return [Window(v, h) for v in vertical for h in horizontal]


def _same_spans(length: int, tile: int, margin: int) -> list[Span]:
    """Windows that begin on the grid of ``ALIGN`` pixels and end with the image."""
    if length <= tile:
        return [Span(0, length, slice(0, length), slice(0, length))]
    tile, margin = tile // ALIGN * ALIGN, -(-margin // ALIGN) * ALIGN
    step = tile - 2 * margin
    if step < ALIGN:
        raise BadInput(f"a tile of {tile} leaves nothing between margins of {margin}; at least {2 * margin + ALIGN}")
    spans = []
    for begin in range(0, length, step):
        end = min(begin + tile, length)
        first = begin + margin if begin else 0
        last = end - margin if end < length else length
        spans.append(Span(begin, end - begin, slice(first, last), slice(first - begin, last - begin)))
        if end == length:
            return spans
    raise AssertionError("the last window ends with the image")


def _valid_spans(model: Any, length: int, tile: int) -> list[Span]:
    """Windows of one size whose outputs lie side by side; the border that a network eats is mirrored image."""
    size = model.input_size(length, length)[0]
    if size > tile:
        smallest = model.input_size(1, 1)[0]
        size = next((n for n in range(tile, smallest - 1, -1) if _fits(model, n)), 0)
        if not size:
            raise BadInput(f"a tile of {tile} is too small for this network; the smallest is {smallest}")
    out = model.valid_size(size, size)[0]
    border = (size - out) // 2
    return [
        Span(begin - border, size, slice(begin, min(begin + out, length)), slice(0, min(out, length - begin)))
        for begin in range(0, length, out)
    ]


def _fits(model: Any, length: int) -> bool:
    try:
        return bool(model.valid_size(length, length))
    except BadInput:
        return False


def _mirrored(span: Span, length: int) -> np.ndarray:
    """The pixels that a span reads, those outside the image reflected about its first and last one."""
    index = np.arange(span.begin, span.begin + span.length)
    period = max(2 * (length - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros_like(index)
