"""Colours for classes and instances."""

import colorsys
from collections.abc import Sequence

import numpy as np

Palette = Sequence[Sequence[int]]
"""One RGB triple in 0..255 per class."""


def voc_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """The colours of PASCAL VOC's label files: the bits of the class number dealt out to red, green and blue.

    Class 0 is black, 1 (128, 0, 0), 2 (0, 128, 0) and so on; bit ``3 i + c`` of the number is bit ``7 - i`` of
    channel c.
    """

    def color(k: int) -> tuple[int, int, int]:
        r, g, b = (sum((k >> (3 * i + c) & 1) << (7 - i) for i in range(8)) for c in range(3))
        return r, g, b

    return tuple(color(k) for k in range(n))


def distinct_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """``n`` bright colours, none of them black or grey, neighbours in number far apart in hue.

    The hue advances by the golden angle while saturation and value alternate, so the first colours are the same
    whatever ``n``.
    """

    def color(k: int) -> tuple[int, int, int]:
        saturation, value = ((0.62, 0.95), (0.78, 0.72), (0.45, 0.85))[k % 3]
        r, g, b = colorsys.hsv_to_rgb((0.58 + k * 0.618034) % 1.0, saturation, value)
        return round(255 * r), round(255 * g), round(255 * b)

    return tuple(color(k) for k in range(n))


def table(palette: Palette) -> np.ndarray:
    """The palette as uint8 [256, 3]: void and every number beyond the palette are black."""
    colors = np.zeros((256, 3), np.uint8)
    colors[: min(len(palette), 255)] = np.asarray(palette, np.uint8).reshape(-1, 3)[:255]
    return colors
