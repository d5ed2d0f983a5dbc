"""Cut large images into tiles, and stream them through a predictor.

Tiles lie on a grid that keeps the network's own alignment; each decides only the pixels that lie ``margin`` or more
from its cut edges. Where the margin covers the receptive field, the result is that of the whole image at once. Networks
of valid convolutions are given their tiles with the image mirrored at its border: U-Net's overlap-tile strategy,
:func:`overlap_tiles`, which needs no margin. Objects of several tiles are stitched
(:mod:`jaxseg.inference.stitching`).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.inference.predictor import TILE, Predictor, is_map
from jaxseg.inference.stitching import Seen, objects_of, stitched
from jaxseg.types import bare_key

ALIGN = 32
"""Tiles begin at multiples of this, which every network's output stride divides."""

Band = tuple[slice, dict[str, np.ndarray]]
"""Rows of an image, and the predictions of those rows."""


def tiled(
    predictor: Predictor,
    model: Any,
    *,
    tile: int = 1024,
    margin: int | None = None,
    slots: int | None = None,
    on_tile: Callable[[], None] | None = None,
) -> Predictor:
    """Return the predictor of images of any size that shows the inner one a tile at a time.

    Args:
      predictor: sees the tiles.
      model: says which sizes it takes.
      tile: largest side of a tile.
      margin: see :func:`plan_tiles`.
      slots: for objects of several tiles, see :func:`jaxseg.inference.stitching.stitched`.
      on_tile: called after each tile.

    Example:
      >>> def label(batch):
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> image = np.arange(100 * 40 * 3).reshape(1, 100, 40, 3).astype(np.uint8)
      >>> found = tiled(label, None, tile=64, margin=0)({"image": image})["label"]
      >>> bool((found == image[..., 0]).all())
      True
    """

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        whole: dict[str, np.ndarray] = {}
        height, width = batch["image"].shape[1:3]
        objects: list[dict[str, np.ndarray]] = []

        def maps(cut: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            found = predictor(cut)
            objects.append(objects_of(found))
            return {name: value for name, value in found.items() if name not in objects[-1]}

        for rows, band in bands(maps, model, batch, tile=tile, margin=margin, on_tile=on_tile):
            if rows == slice(0, height):
                whole = band
                continue
            for name, value in band.items():
                if name not in whole:
                    whole[name] = np.empty((value.shape[0], height, *value.shape[2:]), value.dtype)
                whole[name][:, rows] = value
        if len(objects) == 1:
            return {**whole, **objects[0]}
        if objects[0]:
            seen = [part.seen for part in plan_tiles(model, height, width, tile=tile, margin=margin)]
            whole |= stitched(objects, seen, (height, width), slots=slots)
        return whole

    return predict


def bands(
    predictor: Predictor,
    model: Any,
    batch: Mapping[str, np.ndarray],
    *,
    tile: int = 1024,
    margin: int | None = None,
    on_tile: Callable[[], None] | None = None,
) -> Iterator[Band]:
    """Yield rows of an image with their predictions, from top to bottom, a row of tiles at a time.

    Memory does not grow with the image's height: ``image`` may be a memory-mapped file, of which only the tile at hand
    is read.

    Raises:
      BadInput: there are several tiles, and predictions that are not maps, or number objects.

    Example:
      >>> def label(batch):
      ...     return {"label": batch["image"][..., 0].astype(np.int32)}
      >>> image = np.zeros((1, 100, 40, 3), np.uint8)
      >>> [(rows.start, band["label"].shape) for rows, band in bands(label, None, {"image": image}, tile=64, margin=0)]
      [(0, (1, 64, 40)), (64, (1, 36, 40))]
    """
    height, width = batch["image"].shape[1:3]
    tiles = plan_tiles(model, height, width, tile=tile, margin=margin)
    numbered = itertools.groupby(enumerate(tiles), key=lambda item: item[1].rows.start)
    for _, row in numbered:
        band: dict[str, np.ndarray] = {}
        for number, part in row:
            rows = part.rows
            cut = part.cut(batch["image"])
            given = {**batch, "image": cut, TILE: np.asarray(number)}
            if "size" in batch:
                given["size"] = np.clip(batch["size"] - part.corner, 0, part.size).astype(np.int32)
            found = predictor(given)
            for name, value in found.items():
                if not is_map(name, value, cut.shape[1:3]) or (bare_key(name) == "panoptic" and len(tiles) > 1):
                    if len(tiles) > 1:
                        raise BadInput(
                            f"{name} of {len(tiles)} tiles cannot be assembled; an image of {height}x{width} "
                            f"needs --tile {max(height, width)}"
                        )
                    band[name] = value
                    continue
                decided = value[:, part.inner_rows, part.inner_columns]
                if len(tiles) == 1:
                    band[name] = decided
                    continue
                if name not in band:
                    band[name] = np.empty((*decided.shape[:2], width, *value.shape[3:]), value.dtype)
                band[name][:, :, part.columns] = decided
            if on_tile is not None:
                on_tile()
        yield rows, band


@dataclass(frozen=True)
class Span:
    """One axis of a tile: what it reads (``begin``, ``length``), and what of its output lands where.

    Attributes:
      begin: first pixel that is read; below 0 or beyond the end the image is mirrored.
      length: pixels that are read.
      out: the pixels of the image that the tile decides.
      inner: the same in the tile's output.

    Example:
      >>> Span(begin=32, length=68, out=slice(64, 100), inner=slice(32, 68)).begin
      32
    """

    begin: int
    length: int
    out: slice
    inner: slice


@dataclass(frozen=True)
class Tile:
    """A tile: one span down, one across.

    Example:
      >>> plan_tiles(None, 8, 9, tile=32, margin=0)[0].size
      (8, 9)
    """

    vertical: Span
    horizontal: Span

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it reads."""
        return self.vertical.length, self.horizontal.length

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column of what it reads."""
        return self.vertical.begin, self.horizontal.begin

    @property
    def seen(self) -> Seen:
        """What it reads and decides, without the numbers of its output."""
        return Seen(*self.corner, *self.size, self.rows, self.columns)

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
        """Those rows in the tile's output."""
        return self.vertical.inner

    @property
    def inner_columns(self) -> slice:
        """Those columns in the tile's output."""
        return self.horizontal.inner

    def cut(self, batch: np.ndarray) -> np.ndarray:
        """Return the tile's pixels of [b h w c], mirrored beyond the border."""
        (top, height), (left, width) = ((s.begin, s.length) for s in (self.vertical, self.horizontal))
        if top >= 0 and left >= 0 and top + height <= batch.shape[1] and left + width <= batch.shape[2]:
            return batch[:, top : top + height, left : left + width]
        rows, columns = reflected(top, height, batch.shape[1]), reflected(left, width, batch.shape[2])
        return batch[:, rows[:, None], columns[None, :]]


def plan_tiles(model: Any, height: int, width: int, *, tile: int, margin: int | None) -> list[Tile]:
    """Return the tiles that cover an image, row by row; one where the image fits into a tile.

    Args:
      model: networks of valid convolutions have ``input_size``; others take any size.
      height: of the image.
      width: of the image.
      tile: largest side of a tile.
      margin: pixels that a tile sees but does not decide; None takes a quarter of the tile, at most 128.

    Raises:
      BadInput: the tile is too small for the margin or for the network.

    Example:
      >>> [tile.rows for tile in plan_tiles(None, 100, 40, tile=64, margin=0)]
      [slice(0, 64, None), slice(64, 100, None)]
    """
    margin = min(128, tile // 4) if margin is None else margin
    if hasattr(model, "input_size"):
        vertical, horizontal = (overlap_tiles(model, length, tile=tile) for length in (height, width))
    else:
        vertical, horizontal = (_same_spans(length, tile, margin) for length in (height, width))
    return [Tile(v, h) for v in vertical for h in horizontal]


def _same_spans(length: int, tile: int, margin: int) -> list[Span]:
    """Tiles that begin on the grid of ``ALIGN`` pixels and end with the image."""
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
    raise AssertionError("the last tile ends with the image")


def overlap_tiles(model: Any, length: int, *, tile: int) -> list[Span]:
    """Return one axis of U-Net's overlap-tile strategy (Ronneberger et al. 2015, Figure 2), for valid convolutions.

    Tiles are as large as ``tile`` allows; each decides the pixels that come out of it, and the border that the
    network eats is image, or its mirror image beyond the end. Tiles begin at multiples of what the network pools by
    (16 in U-Net: the spacing of the sizes that it takes), so that each sees the very pooling cells that the network
    would see in the whole mirrored image: what comes out is the same. A 572-pixel tile of U-Net so decides 384 of its
    388.

    Args:
      model: a network that has ``valid_size`` and ``input_size``.
      length: pixels of the image.
      tile: largest side of a tile.

    Raises:
      BadInput: the tile is smaller than one that decides anything; the smallest is named.

    Example:
      >>> from jaxseg.models.semantic.unet import unet_original
      >>> [(span.begin, span.length, span.out) for span in overlap_tiles(unet_original(), 512, tile=572)]
      [(-92, 572, slice(0, 384, None)), (292, 572, slice(384, 512, None))]
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


def reflected(begin: int, count: int, length: int) -> np.ndarray:
    """Return the indices of ``count`` pixels from ``begin``, those outside reflected about the first and last one.

    Example:
      >>> reflected(-2, 7, 4).tolist()
      [2, 1, 0, 1, 2, 3, 2]
    """
    index = np.arange(begin, begin + count)
    period = max(2 * (length - 1), 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros_like(index)
