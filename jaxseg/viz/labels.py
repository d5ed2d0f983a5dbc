"""Label maps as colour."""

import io
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.viz.palettes import Palette, table


def colorize(label: Any, palette: Palette) -> np.ndarray:
    """The colour of each pixel's class, uint8 [h w 3]; void and classes beyond the palette are black.

    Args:
      label: integers [h w].
      palette: one RGB triple per class.
    """
    label = np.asarray(label)
    known = (label >= 0) & (label < 256)
    return table(palette)[np.where(known, label, 255)]


def overlay(image: Any, label: Any, palette: Palette, *, alpha: float = 0.5) -> np.ndarray:
    """The image under a film of its classes' colours, ``alpha`` of them, uint8 [h w 3].

    Borders between classes are drawn in the full colour, so that small things stay visible.
    """
    label = np.asarray(label)
    colors = colorize(label, palette).astype(np.float32)
    strength = np.where(edges(label), np.maximum(alpha, 0.9), alpha)[..., None]
    mixed = np.asarray(image).astype(np.float32) * (1 - strength) + colors * strength
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def edges(label: Any) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label, bool [h w]."""
    label = np.asarray(label)
    edge = np.zeros(label.shape, bool)
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    edge[:-1] |= label[:-1] != label[1:]
    return edge


def label_png(label: Any, palette: Palette) -> bytes:
    """A palettised PNG whose pixel values are the labels themselves and whose colours are the palette's.

    Args:
      label: integers 0..255, [h w]; void is 255.
      palette: one RGB triple per class.
    """
    picture = Image.fromarray(np.asarray(label).astype(np.uint8))
    picture.putpalette(table(palette).reshape(-1).tolist())
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return out.getvalue()
