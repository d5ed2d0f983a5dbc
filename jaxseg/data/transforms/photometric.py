"""Random changes of light and colour of the image. Reached through ``transforms``."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxseg.data.records import Record
from jaxseg.errors import BadInput

GREY = np.asarray([0.299, 0.587, 0.114])
"""Luma weights of ITU-R BT.601, as Pillow and torchvision use."""


@dataclass(frozen=True)
class Photometric:
    """Jitter brightness, contrast, saturation and hue, each by a random amount around no change.

    Factors of brightness, contrast and saturation are uniform in [1 - amount, 1 + amount], as in torchvision's
    ColorJitter; the hue turns by an angle uniform in +- ``hue`` * 360 degrees around the grey axis. All of it is one
    affine map of RGB, applied once and clipped once, in the order brightness, contrast, saturation, hue.

    Images of other bands or more than 8 bits have brightness and contrast alone; the mean that contrast keeps is that
    of all bands, and whole numbers stay within their type.

    >>> rng = np.random.default_rng(0)
    >>> Photometric(brightness=0.5)({"image": np.full((1, 1, 3), 100, np.uint8)}, rng)["image"].shape
    (1, 1, 3)
    """

    brightness: float | int = 0.0
    contrast: float | int = 0.0
    saturation: float | int = 0.0
    hue: float | int = 0.0

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record with its image recoloured.

        Raises:
          BadInput: saturation or hue is to change, and the image is not uint8 RGB.
        """
        pixels = record["image"]
        if self.saturation or self.hue or (pixels.dtype == np.uint8 and pixels.shape[-1] == 3):
            check_rgb(self, pixels)
        draw = rng.uniform(-1, 1, 4)
        brightness, contrast, saturation = 1 + draw[:3] * (self.brightness, self.contrast, self.saturation)
        angle = draw[3] * self.hue * 2 * np.pi
        if pixels.dtype != np.uint8 or pixels.shape[-1] != 3:
            return {**record, "image": _scaled(pixels, brightness, contrast)}
        image = Image.fromarray(np.ascontiguousarray(pixels))
        matrix = brightness * np.eye(3)
        offset = np.zeros(3)
        if self.contrast:
            mean = brightness * float(np.asarray(image.convert("L")).mean())
            matrix, offset = contrast * matrix, offset + (1 - contrast) * mean
        for step in (saturation_matrix(saturation), hue_matrix(angle)):
            matrix, offset = step @ matrix, step @ offset
        rows = np.concatenate([matrix, offset[:, None]], 1)
        return {**record, "image": np.asarray(image.convert("RGB", tuple(rows.ravel().tolist())))}


def _scaled(pixels: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    """Return pixels of any bands and type, brighter and of more contrast."""
    bright = brightness * pixels.astype(np.float32)
    changed = contrast * bright + (1 - contrast) * bright.mean(dtype=np.float64)
    if pixels.dtype.kind == "u":
        changed = np.clip(np.rint(changed), 0, np.iinfo(pixels.dtype).max)
    return changed.astype(pixels.dtype)


@dataclass(frozen=True)
class ToGrey:
    """Convert the image to grey (luma), as three equal channels.

    >>> rng = np.random.default_rng(0)
    >>> ToGrey()({"image": np.asarray([[[255, 0, 0]]], np.uint8)}, rng)["image"].tolist()
    [[[76, 76, 76]]]
    """

    def __call__(self, record: Record, rng: np.random.Generator) -> Record:
        """Return the record without colour.

        Raises:
          BadInput: the image is not uint8 RGB.
        """
        check_rgb(self, record["image"])
        grey = np.asarray(Image.fromarray(np.ascontiguousarray(record["image"])).convert("L"))
        return {**record, "image": np.repeat(grey[..., None], 3, -1)}


def saturation_matrix(factor: float) -> np.ndarray:
    """Return the matrix [3 3] that scales saturation: 0 gives grey, 1 the image itself.

    >>> (saturation_matrix(1.0) == np.eye(3)).all()
    np.True_
    """
    return factor * np.eye(3) + (1 - factor) * np.tile(GREY, (3, 1))


def hue_matrix(angle: float) -> np.ndarray:
    """Return the rotation [3 3] of RGB around the grey axis (Rodrigues' formula); greys stay.

    >>> (hue_matrix(2 * np.pi / 3) @ [255, 0, 0]).round(3).tolist()
    [0.0, 255.0, 0.0]
    """
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.cross(np.eye(3), -axis).T
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)


def check_rgb(transform: object, image: np.ndarray) -> None:
    """Raise if the image is not uint8 RGB.

    >>> check_rgb(ToGrey(), np.zeros((2, 2, 3), np.uint8))

    Raises:
      BadInput: so it is.
    """
    if image.dtype != np.uint8 or image.shape[-1] != 3:
        found = f"{image.shape[-1]} bands of {image.dtype}"
        raise BadInput(f"{type(transform).__name__} works on uint8 RGB, but the image has {found}; leave it out")
