"""Read and check an image and its label map in two files, and make the example that a builder writes."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxseg.data.images import orientation_of, palette_of, read_image, read_label
from jaxseg.data.listing import is_image
from jaxseg.data.notes import note
from jaxseg.data.records import Record, decode_image, encode_png
from jaxseg.errors import BadInput

Palette = Mapping[int, tuple[int, int, int]]
"""Number in a label file -> the colour that the data set gives it."""

_UNDONE = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What takes an upright picture back to how a file of that EXIF orientation stores it."""


def features(channels: int = 3, dtype: str = "uint8") -> dict[str, Any]:
    """Return the features of :func:`example`: image, label as PNG, and what the source calls it.

    RGB is stored as it was published, other bands as compressed numbers; those are not ``ENCODED``.

    Args:
      channels: of the image.
      dtype: of bands that are not RGB: uint8, uint16 or float32.

    >>> sorted(features(13, "uint16"))
    ['id', 'image', 'label']
    """
    if channels == 3 and dtype == "uint8":
        image = tfds.features.Image(shape=(None, None, 3))
    else:
        image = tfds.features.Tensor(
            shape=(None, None, channels), dtype=np.dtype(dtype), encoding=tfds.features.Encoding.ZLIB
        )
    return {
        "image": image,
        "label": tfds.features.Image(shape=(None, None, 1)),
        "id": tfds.features.Text(),
    }


def example(path: Path, label: np.ndarray, name: str, *, rgb_only: bool = False) -> dict[str, Any]:
    """Return what the builder writes of an image file and its label map u8[h w].

    An RGB image in a PNG or a JPEG is kept as it is, everything else becomes the PNG of what it shows. An image with an
    EXIF turn is turned if only so it fits its label, or if it fits either way; the latter is noted.

    Args:
      path: the image file.
      label: its label map.
      name: what the source calls the example.
      rgb_only: refuse what is no RGB image.

    Raises:
      BadInput: the image is absent, damaged or of another size than its label.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 2)).save(Path(folder) / "a.png")
    ...     made = example(Path(folder) / "a.png", np.zeros((2, 4), np.uint8), "a")
    >>> made["id"]
    'a'
    """
    image, _ = encoded_image(path, (label.shape[0], label.shape[1]), rgb_only=rgb_only)
    return {"image": io.BytesIO(image), "label": io.BytesIO(encode_png(label)), "id": name}


def encoded_image(
    path: Path, size: tuple[int, int] | None = None, *, rgb_only: bool = False
) -> tuple[bytes, tuple[int, int]]:
    """Return an image file, encoded as a builder writes it, and its height and width.

    An RGB image in a PNG or a JPEG is kept as it is, everything else becomes the PNG of what it shows. It is turned as
    its EXIF entry says, unless it fits its annotation only without the turn.

    Args:
      path: the image file.
      size: height and width that its annotation is for; None if that does not say.
      rgb_only: refuse what is no RGB image.

    Raises:
      BadInput: the image is absent, damaged or of another size than its annotation.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 2)).save(Path(folder) / "a.png")
    ...     encoded_image(Path(folder) / "a.png")[1]
    (2, 4)
    """
    image, as_stored = _fitted(path, size)
    data = _as_it_is(path, rgb_only=rgb_only)
    return (data if data and as_stored else encode_png(image)), (image.shape[0], image.shape[1])


def fitted_image(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image as u8 RGB [h w 3], turned as its EXIF entry says unless it fits its annotation only without that.

    Args:
      path: the image file.
      size: height and width that its annotation is for; None if that does not say.

    Raises:
      BadInput: the image is absent, damaged or of another size than its annotation.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (4, 2)).save(Path(folder) / "a.png")
    ...     fitted_image(Path(folder) / "a.png").shape
    (2, 4, 3)
    """
    return _fitted(path, size)[0]


def _fitted(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, bool]:
    """Return the image, and True if that is how the file stores it."""
    upright, orientation = read_image(path), 1 if path.suffix.lower() == ".npy" else orientation_of(path)
    turned = upright.shape[0], upright.shape[1]
    stored = turned[::-1] if orientation in _UNDONE else turned
    if size is not None and size not in (turned, stored):
        also = f" ({stored[1]}x{stored[0]} without the turn of its EXIF entry)" if stored != turned else ""
        raise BadInput(f"{path} is {turned[1]}x{turned[0]}{also} but its label is {size[1]}x{size[0]}")
    if orientation == 1:
        return upright, True
    if size in (None, turned):
        if stored == turned:
            note("turned as their EXIF entries say, though their labels fit without the turn too", path.name)
        return upright, False
    note("not turned as their EXIF entries say, since their labels only fit without", path.name)
    return np.asarray(Image.fromarray(upright).transpose(_UNDONE[orientation])), True


def band_example(
    path: Path, label: np.ndarray, name: str, *, channels: int | None, dtype: str = "uint8"
) -> dict[str, Any]:
    """Return what the builder writes of an image of any bands (TIFF, npy, grey) and its label map u8[h w].

    Args:
      path: the image file.
      label: its label map.
      name: what the source calls the example.
      channels: bands that the file must have.
      dtype: type in which they are kept; it must hold the file's.

    Raises:
      BadInput: the image is absent, damaged, of other bands, of a wider type or of another size than its label.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.zeros((2, 4, 13), np.uint16))
    ...     label = np.zeros((2, 4), np.uint8)
    ...     made = band_example(Path(folder) / "a.npy", label, "a", channels=13, dtype="uint16")
    >>> made["image"].shape
    (2, 4, 13)
    """
    image = read_image(path, channels=channels) if (channels, dtype) != (3, "uint8") else read_image(path)
    if image.shape[:2] != label.shape:
        raise BadInput(
            f"{path} is {image.shape[1]}x{image.shape[0]} but its label is {label.shape[1]}x{label.shape[0]}"
        )
    if not np.can_cast(image.dtype, dtype, "safe"):
        raise BadInput(f"{path} holds {image.dtype}, which does not fit {dtype}")
    return {"image": image.astype(dtype), "label": io.BytesIO(encode_png(label)), "id": name}


def to_record(example: Mapping[str, Any]) -> Record:
    """Return the record of what was read: pictures decoded, numbers as they are.

    >>> to_record({"label": encode_png(np.zeros((2, 3), np.uint8))})["label"].shape
    (2, 3)
    """
    numbers = {key for key, value in example.items() if isinstance(value, np.ndarray) and value.ndim > 1}
    return {key: value if key in numbers else decode_image(value) for key, value in example.items()}


def label_map(path: Path, palette: Palette | None = None) -> np.ndarray:
    """Read u8[h w], the class numbers of a file of one channel, with a palette or without.

    Args:
      path: the file.
      palette: the colours of the data set, by which a palette in the file is checked.

    Raises:
      BadInput: it is absent, no image, holds more than numbers below 256, or its palette shows that its numbers are in
        another order than the data set's.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.png").write_bytes(encode_png(np.full((1, 2), 3, np.uint8)))
    ...     label_map(Path(folder) / "a.png").tolist()
    [[3, 3]]
    """
    label = read_label(path)
    if label.dtype != np.uint8:
        if label.min() < 0 or label.max() > 255:
            raise BadInput(f"{path}: label values {label.min()}..{label.max()} are not within 0..255")
        label = label.astype(np.uint8)
    if palette is not None:
        _check_palette(path, label, palette)
    return label


def lines_of(path: Path) -> list[str]:
    """Return the lines of a list that are not blank, stripped.

    Raises:
      BadInput: there is no such file, or nothing is in it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "train.txt").write_text("a\\n\\nb \\n")
    ...     lines_of(Path(folder) / "train.txt")
    ['a', 'b']
    """
    if not path.is_file():
        raise BadInput(f"there is no list {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not lines:
        raise BadInput(f"{path} lists no image")
    return lines


def divided(line: str) -> tuple[str, str | None]:
    """Return the image and the mask that a line of a list names; a line that is one name has no mask, blanks or not.

    >>> divided("images/a b.png labels/a.png"), divided("a b.png")
    (('images/a b.png labels/a.png', None), ('a b.png', None))
    >>> divided("/SegNet/train/a.png /SegNet/trainannot/a.png")
    ('/SegNet/train/a.png', '/SegNet/trainannot/a.png')
    """
    for pattern in (r"\t+", r"\s*[,;]\s*", r"\s+"):
        parts = re.split(pattern, line)
        if len(parts) == 2 and all(is_image(part) for part in parts):
            return parts[0], parts[1]
    return line, None


def _as_it_is(path: Path, *, rgb_only: bool) -> bytes:
    """Return the bytes of an 8-bit RGB PNG or JPEG; none for any other image."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, kind = image.mode, image.format
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return b""  # read_image says what is wrong
    if rgb_only and mode != "RGB":
        raise BadInput(f"{path} is an image of mode {mode}, not RGB")
    deep = kind == "PNG" and data[24] == 16
    return data if mode == "RGB" and kind in ("PNG", "JPEG") and not deep else b""


def _check_palette(path: Path, label: np.ndarray, palette: Palette) -> None:
    own = palette_of(path)
    if own is None:
        return
    number_of = {colour: number for number, colour in palette.items()}
    used = [number for number in np.unique(label).tolist() if number in palette and number < len(own)]
    strange = [number for number in used if own[number] != palette[number]]
    for number in strange:
        other = number_of.get(own[number], number)
        if other != number:
            raise BadInput(
                f"{path}: its palette gives number {number} the colour of {other}, so its numbers are in another "
                "order than the data set's; save it with the data set's numbers, or without a palette if they are right"
            )
    if strange:
        note("labels with another palette than the data set's; their numbers are taken as they are", path.name)
