"""Lay out pictures side by side: image, truth and prediction, with a legend."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxseg.types import VOID
from jaxseg.viz.labels import colorize
from jaxseg.viz.palettes import Palette

PAPER, INK, FAINT = (255, 255, 255), (30, 30, 30), (130, 130, 130)
OUTSIDE = (200, 200, 200)
GAP = 8


def panel(
    image: Any,
    truth: Any,
    prediction: Any,
    palette: Palette,
    *,
    classes: Sequence[str] = (),
    title: str = "",
    cell: int = 360,
) -> np.ndarray:
    """Draw a grid, one row per example: image, truth, prediction, and where they differ; below it the legend.

    Void is black in the truth. Where they differ, the wrong pixels show the predicted class over a pale image. A
    prediction smaller than the image (valid convolutions) sits in its middle.

    Args:
      image: uint8 [b h w 3], or one without b.
      truth: integers [b h w], 255 void; or None, which leaves out the truth and the comparison.
      prediction: integers [b h' w'].
      palette: one RGB triple per class.
      classes: their names, for a legend of those that occur.
      title: a line above the grid.
      cell: width in pixels to which each picture is brought.

    Returns:
      uint8 [H W 3].

    >>> panel(np.zeros((30, 40, 3), np.uint8), None, np.zeros((30, 40), int), [(9, 9, 9)], cell=40).shape
    (64, 104, 3)
    """
    image, prediction = _batch(image, 4), _batch(prediction, 3)
    truth = None if truth is None else _batch(truth, 3)
    h, w = image.shape[1:3]
    rows = []
    for i in range(len(image)):
        row = [image[i], _centred(colorize(prediction[i], palette), (h, w))]
        if truth is not None:
            row.insert(1, _centred(colorize(truth[i], palette), (h, w)))
            row.append(_errors(image[i], truth[i], prediction[i], palette))
        rows.append([_scaled(picture, cell) for picture in row])
    heads = ("image", "truth", "prediction", "errors") if truth is not None else ("image", "prediction")
    grid = _grid(rows, heads, title)
    occurring = np.unique(np.concatenate([x.reshape(-1) for x in (truth, prediction) if x is not None]))
    if not classes:
        return np.asarray(grid)
    return stack([np.asarray(grid), np.asarray(legend(occurring, palette, classes, grid.width))])


def sheet(
    rows: Sequence[Sequence[np.ndarray]], heads: Sequence[str], *, title: str = "", cell: int = 360
) -> np.ndarray:
    """Return a grid of pictures, one row per example, under the heads of its columns.

    A picture smaller than the first of its row sits in its middle, a larger one is brought to its size.

    Args:
      rows: uint8 ``[h w 3]`` each, as many in a row as there are heads.
      heads: of the columns.
      title: a line above the grid.
      cell: width in pixels to which each picture is brought.

    Returns:
      uint8 ``[H W 3]``.

    >>> sheet([[np.zeros((30, 40, 3), np.uint8)] * 2], ("image", "depth")).shape[1]
    744
    """
    scaled = []
    for row in rows:
        first = row[0].shape[:2]
        fitted = [_centred(p, first) if p.shape[0] <= first[0] and p.shape[1] <= first[1] else p for p in row]
        cells = [_scaled(picture, cell) for picture in fitted]
        size = cells[0].size
        scaled.append([c if c.size == size else c.resize(size, Image.Resampling.LANCZOS) for c in cells])
    return np.asarray(_grid(scaled, heads, title))


def stack(sheets: Sequence[np.ndarray], *, title: str = "") -> np.ndarray:
    """Return sheets below one another on white, under a line of title.

    >>> stack([np.zeros((10, 20, 3), np.uint8), np.zeros((5, 30, 3), np.uint8)]).shape
    (15, 30, 3)
    """
    width = max(drawn.shape[1] for drawn in sheets)
    parts = [np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in sheets]
    if title:
        font = _font(18)
        width = max(width, round(font.getlength(title)) + 2 * GAP)
        head = Image.new("RGB", (width, 28 + GAP), PAPER)
        ImageDraw.Draw(head).text((GAP, GAP), title, INK, font=font)
        parts = [np.pad(x, ((0, 0), (0, width - x.shape[1]), (0, 0)), constant_values=255) for x in parts]
        parts.insert(0, np.asarray(head))
    return np.concatenate(parts)


def centred_cut(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle of an image, for predictions of valid convolutions, which are smaller than it.

    >>> centred_cut(np.arange(5).reshape(1, 5), (1, 3)).tolist()
    [[1, 2, 3]]
    """
    top, left = (image.shape[0] - size[0]) // 2, (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]


def _batch(x: Any, ndim: int) -> np.ndarray:
    x = np.asarray(x)
    return x if x.ndim == ndim else x[None]


def _centred(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the picture in the middle of a neutral sheet of that size."""
    h, w = picture.shape[:2]
    if (h, w) == size:
        return picture
    sheet = np.full((*size, 3), OUTSIDE, np.uint8)
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    sheet[top : top + h, left : left + w] = picture
    return sheet


def _errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: Palette) -> np.ndarray:
    """Return a pale grey image with the wrong pixels in the colour of what was predicted; void pixels are never
    wrong.
    """
    grey = image.astype(np.float32).mean(-1, keepdims=True)
    pale = np.repeat(165 + grey * (85 / 255), 3, axis=-1).astype(np.uint8)
    h, w = prediction.shape
    top, left = (truth.shape[0] - h) // 2, (truth.shape[1] - w) // 2
    inner = truth[top : top + h, left : left + w]
    wrong = (inner != prediction) & (inner != VOID)
    shown = pale[top : top + h, left : left + w]
    pale[top : top + h, left : left + w] = np.where(wrong[..., None], colorize(prediction, palette), shown)
    return pale


def _scaled(picture: np.ndarray, width: int) -> Image.Image:
    """Brought to the width; small pictures by whole factors, so that their pixels stay square."""
    h, w = picture.shape[:2]
    if w * 2 <= width:
        factor = width // w
        return Image.fromarray(picture).resize((w * factor, h * factor), Image.Resampling.NEAREST)
    if w <= width:
        return Image.fromarray(picture)
    size = (width, max(1, round(h * width / w)))
    return Image.fromarray(picture).resize(size, Image.Resampling.BOX)


def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _grid(rows: list[list[Image.Image]], heads: Sequence[str], title: str) -> Image.Image:
    """Pictures in rows under their column heads."""
    w, h = rows[0][0].size
    small = w < 120
    font, bold = _font(11 if small else 15), _font(13 if small else 18)
    top = GAP + (28 if title else 0)
    head = 18 if small else 24
    width = GAP + len(heads) * (w + GAP)
    if title:
        width = max(width, round(bold.getlength(title)) + 2 * GAP)
    sheet = Image.new("RGB", (width, top + head + len(rows) * (h + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((GAP, GAP), title, INK, font=bold)
    for c, text in enumerate(heads):
        draw.text((GAP + c * (w + GAP) + w / 2, top + head / 2 - 1), text, FAINT, font=font, anchor="mm")
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            sheet.paste(picture, (GAP + c * (w + GAP), top + head + r * (h + GAP)))
    return sheet


def legend(occurring: np.ndarray, palette: Palette, classes: Sequence[str], width: int) -> Image.Image:
    """Return a swatch and a name for each class that occurs, in as many lines as it takes.

    Args:
      occurring: numbers of classes, 255 void.
      palette: one RGB triple per class.
      classes: their names.
      width: of the legend, pixels.

    >>> legend(np.asarray([0, 255]), [(9, 9, 9)], ["sky"], 200).size
    (200, 32)
    """
    items: list[tuple[tuple[int, ...], str]] = [
        (tuple(palette[c]), classes[c]) for c in map(int, occurring) if 0 <= c < min(len(palette), len(classes))
    ]
    if (occurring == VOID).any():
        items.append(((0, 0, 0), "void"))
    font = _font(15)
    swatch, line = 16, 26
    places, x, y = [], GAP, 2
    for _, name in items:
        need = swatch + 6 + round(font.getlength(name)) + 18
        if x + need > width and x > GAP:
            x, y = GAP, y + line
        places.append((x, y))
        x += need
    sheet = Image.new("RGB", (width, y + line + 4), PAPER)
    draw = ImageDraw.Draw(sheet)
    for (color, name), (x, y) in zip(items, places, strict=True):
        draw.rectangle((x, y + 3, x + swatch, y + 3 + swatch), fill=color, outline=FAINT)
        draw.text((x + swatch + 6, y + 11), name, INK, font=font, anchor="lm")
    return sheet
