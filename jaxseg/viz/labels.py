"""Draw label maps: in colour, over an image, as palettised PNG."""

import io
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.errors import BadInput
from jaxseg.viz.palettes import Palette, table

ROWS = 256
"""Rows that an overlay is mixed in at a time."""


def colorize(label: Any, palette: Palette) -> np.ndarray:
    """Return the colour of each pixel's class, uint8 [h w 3]; void and classes beyond the palette are black.

    Args:
      label: integers [h w].
      palette: one RGB triple per class.

    >>> colorize([[0, 255]], [(10, 20, 30)]).tolist()
    [[[10, 20, 30], [0, 0, 0]]]
    """
    label = np.asarray(label)
    known = (label >= 0) & (label < 256)
    return table(palette)[np.where(known, label, 255)]


def overlay(image: Any, label: Any, palette: Palette, *, alpha: float = 0.5) -> np.ndarray:
    """Blend the colours of classes over an image, uint8 [h w 3].

    Borders between classes are drawn in (nearly) the full colour, so that small things stay visible.

    Args:
      image: uint8 [h w 3].
      label: integers [h w].
      palette: one RGB triple per class.
      alpha: share of the colours.

    >>> overlay(np.full((1, 1, 3), 100, np.uint8), [[0]], [(200, 0, 0)]).tolist()
    [[[150, 50, 50]]]
    """
    image, label = np.asarray(image), np.asarray(label)
    drawn = np.empty((*label.shape, 3), np.uint8)
    for top in range(0, len(label), ROWS):  # floats of a large image at once would fill the memory
        rows = slice(top, top + ROWS)
        colors = colorize(label[rows], palette).astype(np.float32)
        edge = edges(label[top : top + ROWS + 1])[: len(colors)]
        strength = np.where(edge, np.maximum(alpha, 0.9), alpha)[..., None]
        mixed = image[rows].astype(np.float32) * (1 - strength) + colors * strength
        drawn[rows] = np.clip(np.rint(mixed), 0, 255)
    return drawn


def edges(label: Any) -> np.ndarray:
    """Return True for pixels whose right or lower neighbour has another label, bool [h w].

    >>> edges([[0, 0, 1]]).tolist()
    [[False, True, False]]
    """
    label = np.asarray(label)
    edge = np.zeros(label.shape, bool)
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    edge[:-1] |= label[:-1] != label[1:]
    return edge


def label_png(label: Any, palette: Palette) -> bytes:
    """Return a palettised PNG whose pixel values are the labels themselves and whose colours are the palette's.

    Args:
      label: integers 0..255, [h w]; void is 255.
      palette: one RGB triple per class.

    Raises:
      BadInput: a label does not fit into a byte.

    >>> label_png([[0, 255]], [(10, 20, 30)])[1:4]
    b'PNG'
    """
    label = np.asarray(label)
    if label.size and not 0 <= label.min() <= label.max() <= 255:
        raise BadInput(f"labels are {label.min()}..{label.max()}, but a palettised PNG holds 0..255")
    picture = Image.fromarray(label.astype(np.uint8))
    picture.putpalette(table(palette).reshape(-1).tolist())
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return out.getvalue()
