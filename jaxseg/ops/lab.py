"""CIE Lab: conversion from and to sRGB, of NumPy arrays and of JAX's alike.

Free of JAX itself, so that data workers and painters can use it.
"""

from typing import Any

import numpy as np

TO_XYZ = np.asarray(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float64
)
"""From linear sRGB to CIE XYZ (ITU-R BT.709 primaries, D65)."""

WHITE = np.asarray([0.95047, 1.0, 1.08883])
"""D65 of the 2 degree observer."""

_FORTH = (TO_XYZ.T / WHITE).astype(np.float32)
_BACK = (np.linalg.inv(TO_XYZ).T * WHITE[:, None]).astype(np.float32)


def rgb_to_lab(image: Any) -> Any:
    """Return CIE Lab of sRGB.

    >>> rgb_to_lab(np.asarray([[255, 0, 0]], np.uint8)).round(1).astype(float).round(1).tolist()
    [[53.2, 80.1, 67.2]]

    Args:
      image: uint8, or floats from 0 to 255, [... 3].

    Returns:
      float32 [... 3]: L from 0 to 100, a and b.

    Reference:
      CIE 15; the constants are those of scikit-image and OpenCV.
    """
    xp = image.__array_namespace__()
    x = image.astype(xp.float32) / 255
    linear = xp.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    t = linear @ xp.asarray(_FORTH)
    f = xp.where(t > 0.008856, xp.cbrt(xp.maximum(t, 0.008856)), 7.787 * t + 16 / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(xp.float32)


def lab_to_rgb(lab: Any) -> Any:
    """Return sRGB of CIE Lab; what lies outside of the gamut is clipped, channel by channel.

    >>> lab_to_rgb(np.asarray([[100.0, 0.0, 0.0]], np.float32)).round().tolist()
    [[255.0, 255.0, 255.0]]

    Args:
      lab: f32 [... 3].

    Returns:
      float32 [... 3], from 0 to 255.
    """
    xp = lab.__array_namespace__()
    y = (lab[..., 0] + 16) / 116
    f = xp.stack([lab[..., 1] / 500 + y, y, xp.maximum(y - lab[..., 2] / 200, 0.0)], -1)
    t = xp.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787)
    linear = xp.clip(t.astype(xp.float32) @ xp.asarray(_BACK), 0.0, 1.0)
    x = xp.where(linear > 0.0031308, 1.055 * xp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return (255 * xp.clip(x, 0.0, 1.0)).astype(xp.float32)


def colored(image: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Return the image in other colours: its own lightness with a and b.

    >>> colored(np.full((1, 1, 3), 128, np.uint8), np.zeros((1, 1, 2), np.float32)).tolist()
    [[[128, 128, 128]]]

    Args:
      image: u8 RGB [h w 3], grey or not.
      ab: f32 [h w 2].
    """
    lightness = rgb_to_lab(image)[..., :1]
    return np.rint(lab_to_rgb(np.concatenate([lightness, ab.astype(np.float32)], -1))).astype(np.uint8)
