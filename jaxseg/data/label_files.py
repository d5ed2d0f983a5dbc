"""An image and its label map as two files: reading and checking them, the example that a data set's builder writes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, UnidentifiedImageError

from jaxseg.data.records import encode_png
from jaxseg.errors import BadInput


def features() -> dict[str, Any]:
    """Image as it was published, label as PNG, and what the source calls the example."""
    return {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.Image(shape=(None, None, 1)),
        "id": tfds.features.Text(),
    }


def example(path: Path, image: bytes, label: np.ndarray, name: str) -> dict[str, Any]:
    """What the builder writes of an encoded RGB image and its label map u8[h w].

    Raises:
      BadInput: their sizes differ; ``path`` says of which image.
    """
    with Image.open(io.BytesIO(image)) as opened:
        width, height = opened.size
    if (height, width) != label.shape:
        raise BadInput(f"{path} is {width}x{height} but its label is {label.shape[1]}x{label.shape[0]}")
    return {"image": io.BytesIO(image), "label": io.BytesIO(encode_png(label)), "id": name}


def rgb_file(path: Path) -> bytes:
    """The file as it is.

    Raises:
      BadInput: it is absent, or no RGB image.
    """
    data, mode, _ = _opened(path)
    if mode != "RGB":
        raise BadInput(f"{path} is an image of mode {mode}, not RGB")
    return data


def rgb_bytes(path: Path) -> bytes:
    """The file as it is if it is an RGB image as PNG or JPEG, else what it shows in RGB, as PNG.

    Raises:
      BadInput: it is absent or no image.
    """
    data, mode, kind = _opened(path)
    if mode == "RGB" and kind in ("PNG", "JPEG"):
        return data
    with Image.open(io.BytesIO(data)) as image:
        return encode_png(np.asarray(image.convert("RGB")))


def label_map(path: Path) -> np.ndarray:
    """u8[h w]: the class numbers of a file of one channel, with a palette or without.

    Raises:
      BadInput: it is absent, no image, or has other than 8 bits a pixel.
    """
    _opened(path)
    with Image.open(path) as image:
        label = np.asarray(image)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise BadInput(f"{path} is not a map of one 8-bit class number per pixel")
    return label


def lines_of(path: Path) -> list[str]:
    """The lines of a list that say something, without the blanks around them.

    Raises:
      BadInput: there is no such file, or nothing is in it.
    """
    if not path.is_file():
        raise BadInput(f"there is no list {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise BadInput(f"{path} lists no image")
    return lines


def _opened(path: Path) -> tuple[bytes, str, str | None]:
    """Bytes, mode and format of an image file."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            return data, image.mode, image.format
    except UnidentifiedImageError:
        raise BadInput(f"{path} is not an image") from None
