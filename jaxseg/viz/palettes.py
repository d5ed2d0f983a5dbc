"""Palettes for classes and instances."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Palette = Sequence[Sequence[int]]
"""One RGB triple in 0..255 per class."""


def voc_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """Return the colours of PASCAL VOC's label files: the bits of the class number dealt out to red, green and blue.

    Class 0 is black, 1 (128, 0, 0), 2 (0, 128, 0) and so on; bit ``3 i + c`` of the number is bit ``7 - i`` of
    channel c.

    >>> voc_palette(3)
    ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    """

    def color(k: int) -> tuple[int, int, int]:
        r, g, b = (sum((k >> (3 * i + c) & 1) << (7 - i) for i in range(8)) for c in range(3))
        return r, g, b

    return tuple(color(k) for k in range(n))


def distinct_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``n`` colours, none of them black or grey, neighbours in number far apart.

    Three lightnesses in turn and equal steps in hue of Ottosson's OKLCH, where equal distances look equal; the step is
    the one that keeps the closest two of the first 24 farthest apart. The first colours are the same whatever ``n``.

    >>> distinct_palette(2) == distinct_palette(9)[:2]
    True
    """

    def color(k: int) -> tuple[int, int, int]:
        lightness, chroma = ((0.70, 0.15), (0.56, 0.14), (0.82, 0.12))[k % 3]
        return _oklch(lightness, chroma, 2 * math.pi * (0.70 + k * 0.407))

    return tuple(color(k) for k in range(n))


def class_colors(facts: Any, labels: np.ndarray) -> Palette:
    """Return the palette of the facts, or distinct colours for the classes that occur where they have none.

    >>> import types
    >>> len(class_colors(types.SimpleNamespace(classes=(), palette=()), np.asarray([[0, 4, 255]])))
    5
    """
    if facts.palette:
        return facts.palette
    known = labels[labels < 255].astype(np.int64)
    return distinct_palette(max(len(facts.classes), int(known.max(initial=-1)) + 1))


def class_name(classes: Sequence[str], number: int) -> str:
    """Return the name of a class, or its number where it has none.

    >>> class_name(("sky", "road"), 1), class_name((), 1)
    ('road', '1')
    """
    return classes[number] if 0 <= number < len(classes) else str(number)


def _oklch(lightness: float, chroma: float, hue: float) -> tuple[int, int, int]:
    """OKLCH as sRGB, clipped: Ottosson's two matrices with a cube between, then the transfer curve."""
    lab = np.asarray([lightness, chroma * math.cos(hue), chroma * math.sin(hue)])
    to_cones = np.asarray(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_linear = np.asarray(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(to_linear @ (to_cones @ lab) ** 3, 0, 1)
    r, g, b = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).tolist()
    return round(255 * r), round(255 * g), round(255 * b)


def table(palette: Palette) -> np.ndarray:
    """Return the palette as uint8 [256, 3]: void and every number beyond the palette are black.

    >>> table([(1, 2, 3)])[:2].tolist()
    [[1, 2, 3], [0, 0, 0]]
    """
    colors = np.zeros((256, 3), np.uint8)
    colors[: min(len(palette), 255)] = np.asarray(palette, np.uint8).reshape(-1, 3)[:255]
    return colors
