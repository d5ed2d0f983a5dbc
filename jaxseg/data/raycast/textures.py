"""Procedural textures: blend factor between two colours at a point. Coordinates in metres."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

PATTERNS = ("plain", "checker", "stripes", "bricks", "dots", "noise", "wood")

_CELLS, _FINE = 64, 16


@dataclass(frozen=True, eq=False)
class Texture:
    """A pattern in two colours.

    >>> Texture("checker", np.eye(2, 3, dtype=np.float32), period=0.5, angle=0.0, origin=(0.0, 0.0)).pattern
    'checker'

    Attributes:
      pattern: one of ``PATTERNS``.
      colours: f32[2 3], linear RGB in 0..1.
      period: metres.
      angle: of the pattern on the surface, radians.
      origin: position of the surface's origin on the pattern, in periods.
    """

    pattern: str
    colours: np.ndarray
    period: float
    angle: float
    origin: tuple[float, float]


def paint(texture: Texture, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the linear RGB colour f32[3 n] at surface coordinates f32[n].

    >>> stripes = Texture("stripes", np.eye(2, 3, dtype=np.float32), period=1.0, angle=0.0, origin=(0.0, 0.0))
    >>> paint(stripes, np.float32([0.25, 0.75]), np.float32([0, 0]))[0].tolist()
    [1.0, 0.0]
    """
    first, second = texture.colours.astype(np.float32)[..., None]
    if texture.pattern == "plain":
        return np.broadcast_to(first, (3, len(u)))
    cos, sin = np.float32(np.cos(texture.angle)), np.float32(np.sin(texture.angle))
    scale = np.float32(1 / texture.period)
    s = (cos * u + sin * v) * scale + np.float32(texture.origin[0])
    t = (cos * v - sin * u) * scale + np.float32(texture.origin[1])
    share = _share(texture, s, t).astype(np.float32)
    return first + (second - first) * share


def random_texture(
    rng: np.random.Generator,
    patterns: Mapping[str, int],
    *,
    saturation: tuple[float, float],
    value: tuple[float, float],
    contrast: float,
) -> Texture:
    """Draw a texture in two colours of any hue; ``contrast`` (0..1) blends the second from the first to another.

    >>> ranges = {"saturation": (0.0, 1.0), "value": (0.5, 1.0)}
    >>> random_texture(np.random.default_rng(0), {"wood": 1}, **ranges, contrast=0.5).pattern
    'wood'

    Args:
      rng: source of randomness.
      patterns: relative frequency of each pattern.
      saturation: range of the colours' saturation.
      value: range of the colours' value.
      contrast: between the two colours.
    """
    base = _rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    other = _rgb(rng.uniform(), rng.uniform(*saturation), rng.uniform(*value))
    if rng.random() < 0.5:  # a darker or lighter shade of the same colour
        other = base * (rng.uniform(0.3, 0.6) if base.mean() > 0.4 else rng.uniform(1.5, 2.2))
    other = base + contrast * (other - base)
    odds = np.asarray([patterns.get(pattern, 0) for pattern in PATTERNS], float)
    pattern = PATTERNS[rng.choice(len(PATTERNS), p=odds / odds.sum())]
    origin = (rng.uniform(0, _CELLS), rng.uniform(0, _CELLS))
    linear = np.clip(np.stack([base, other]), 0, 1) ** 2.2
    return Texture(pattern, linear.astype(np.float32), rng.uniform(0.15, 0.45), rng.uniform(0, np.pi), origin)


def _share(texture: Texture, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    if texture.pattern == "checker":
        return (np.floor(s) + np.floor(t)) % 2
    if texture.pattern == "stripes":
        return np.floor(2 * s) % 2
    if texture.pattern == "dots":
        return (s % 1 - 0.5) ** 2 + (t % 1 - 0.5) ** 2 < 0.09
    if texture.pattern == "bricks":
        row = np.floor(2 * t)
        across = (s + 0.5 * (row % 2)) % 1
        return (across < 0.06) | ((2 * t) % 1 < 0.12)
    if texture.pattern == "noise":
        return np.clip(1.6 * (_noise(2 * s, 2 * t) - 0.5) + 0.5, 0, 1)
    rings = s + 0.5 * _noise(0.7 * s, 0.15 * t)
    return 0.5 + 0.5 * np.sin(2 * np.pi * 2 * rings)


def _noise(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Return two octaves of smooth noise in 0..1, one bump per unit, with period 64."""
    cloud = _cloud()
    i, j = (np.floor(c * _FINE).astype(np.int32) % len(cloud) for c in (s, t))
    return cloud[i, j]


@functools.cache
def _cloud() -> np.ndarray:
    rng = np.random.default_rng(2015)
    octaves = []
    for octave in (1, 2):
        table = rng.random((_CELLS * octave, _CELLS * octave), np.float32)
        octaves.append(ndimage.zoom(table, _FINE // octave, order=3, mode="grid-wrap", grid_mode=True))
    return np.clip((2 * octaves[0] + octaves[1]) / 3, 0, 1)


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    channel = np.abs((hue * 6 + np.asarray([0, 4, 2])) % 6 - 3) - 1
    return value * (1 - saturation * (1 - np.clip(channel, 0, 1)))
