"""Cutting large images into windows.

The windows lie on a grid that keeps the network's own alignment; each decides only the pixels that lie ``margin`` or
more from its cut edges. Where the margin covers the receptive field, the result is that of the whole image at once.
Networks of valid convolutions are given their windows with the image mirrored at its border: U-Net's overlap-tile
strategy, :func:`overlap_tiles`, which needs no margin.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

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
class Tile:
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


def plan_tiles(model: Any, height: int, width: int, *, tile: int, margin: int | None) -> list[Tile]:
    """The windows that cover an image, row by row. One window where the image fits into a tile.

    Raises:
      BadInput: the tile is too small for the margin or for the network.
    """
    margin = min(128, tile // 4) if margin is None else margin
    if hasattr(model, "input_size"):
        vertical, horizontal = (overlap_tiles(model, length, tile=tile) for length in (height, width))
    else:
        vertical, horizontal = (_same_spans(length, tile, margin) for length in (height, width))
    return [Tile(v, h) for v in vertical for h in horizontal]


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


def overlap_tiles(model: Any, length: int, *, tile: int) -> list[Span]:
    """One axis of U-Net's overlap-tile strategy (Ronneberger et al. 2015, Figure 2), for valid convolutions.

    Windows are as large as ``tile`` allows; each decides the pixels that come out of it, and the border that the
    network eats is image, or its mirror image beyond the end. Windows begin at multiples of what the network pools by
    (16 in U-Net: the spacing of the sizes that it takes), so that each sees the very pooling cells that the network
    would see in the whole mirrored image: what comes out is the same. A 572-pixel window of U-Net so decides 384 of its
    388.

    Args:
      model: a network that has ``valid_size`` and ``input_size``.
      length: pixels of the image.
      tile: the largest window.

    Raises:
      BadInput: the tile is smaller than one that decides anything; the smallest is named.
    """
    size = model.input_size(length, length)[0]
    smallest = model.input_size(1, 1)[0]
    grid = next(n for n in itertools.count(smallest + 1) if _fits(model, n)) - smallest
    step = length
    if size > tile:
        fitting = (n for n in range(tile, smallest - 1, -1) if _fits(model, n))
        size = next((n for n in fitting if model.valid_size(n, n)[0] >= grid), 0)
        if not size:
            raise BadInput(
                f"a tile of {tile} is too small for this network; the smallest is {model.input_size(grid, grid)[0]}"
            )
        step = model.valid_size(size, size)[0] // grid * grid
    border = (size - model.valid_size(size, size)[0]) // 2
    return [
        Span(begin - border, size, slice(begin, min(begin + step, length)), slice(0, min(step, length - begin)))
        for begin in range(0, length, step)
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
