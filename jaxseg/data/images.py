"""Read image files, for data sets and for prediction alike.

:func:`read_image` returns a picture as it is meant to be seen, or its bands as they are stored; :func:`read_label` the
numbers of a mask. A file that could only be read by guessing is refused by name, never read wrongly: values that do not
fill the range of their type, animations and stacks, dark 16-bit colour in a PNG.
"""

import contextlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxseg.data import tiff
from jaxseg.errors import BadInput

Range = tuple[float | int, float | int]

MAX_PIXELS = 178_956_970
"""Largest image that is opened unless ``JAXSEG_MAX_PIXELS`` says otherwise: Pillow's guard against files that unfold
into more than memory holds."""


@dataclass(frozen=True, eq=False)
class Bands:
    """Values as a file stores them, turned upright.

    Attributes:
      values: [h w c].
      span: the range that the file states for them, if it does.
      white_is_zero: True if a grey picture counts from white.

    >>> Bands(np.zeros((2, 3, 13))).span is None
    True
    """

    values: np.ndarray
    span: Range | None = None
    white_is_zero: bool = False


def read_image(
    path: str | os.PathLike[str], *, channels: int | None = 3, value_range: Range | None = None
) -> np.ndarray:
    """Read an image file: PNG, JPEG, TIFF, WebP and whatever else Pillow reads, or an array in a ``.npy`` file.

    With three channels it is the picture as it is meant to be seen, uint8 RGB [h w 3]: turned as its EXIF entry says,
    transparency over white, CMYK and palettes as colours. Integers of more than 8 bits count from 0 to 65535, or to
    what a TIFF's own tags (SMinSampleValue, SMaxSampleValue, BitsPerSample) say; floating-point values from 0 to 1.

    With another number of channels it is what the file stores, [h w c] in uint8, uint16 or float32, upright; of a
    colour picture the luma where one channel is asked for.

    Args:
      path: the file.
      channels: 3 for RGB; the number of bands that must be there; or None for as many as there are.
      value_range: the values that are black and white, instead of those above (``--range LOW HIGH``).

    Raises:
      BadInput: there is no such file; it is empty, damaged or no image, holds several frames or too many pixels, or
        its values do not fit the range assumed for them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("CMYK", (4, 2)).save(Path(folder) / "a.tif")
    ...     read_image(Path(folder) / "a.tif").shape
    (2, 4, 3)
    """
    path = Path(path)
    if value_range is not None and not value_range[0] < value_range[1]:
        low, high = value_range
        raise BadInput(f"{path}: a range runs from the smaller to the larger value, not from {low:g} to {high:g}")
    with _named(path):
        bands = _bands(path, as_bands=channels != 3)
        if channels == 3:
            return _seen(path, bands, value_range)
        if value_range is not None:
            raise BadInput(f"{path}: a range of values is for RGB; bands are read as they are stored")
        values = _stored(path, channels) if bands is None else _narrowed(path, bands.values)
    if channels is not None and values.shape[-1] != channels:
        raise BadInput(f"{path} has {values.shape[-1]} bands, not {channels}")
    return values


def read_label(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the numbers [h w] that a mask stores, in the file's own type: grey of 1 to 16 bits, palette indices, npy.

    Raises:
      BadInput: as of :func:`read_image`; or the file holds colours instead of numbers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("1", (2, 1), 1).save(Path(folder) / "a.png")
    ...     read_label(Path(folder) / "a.png").tolist()
    [[1, 1]]
    """
    path = Path(path)
    with _named(path):
        bands = _bands(path)
        if bands is not None:
            if bands.values.shape[-1] != 1 or bands.values.dtype.kind not in "ui":
                raise BadInput(f"{path} is not a map of one class number per pixel: {_shape(bands.values)}")
            return bands.values[..., 0]
        with _opened(path) as image:
            bits, inverted = _grey_bits(path, image)
            label = np.asarray(ImageOps.exif_transpose(image))
            mode = image.mode
    if mode not in ("1", "L", "P"):
        raise BadInput(f"{path} is not a map of one 8-bit class number per pixel but a picture of mode {mode}")
    if mode == "1":
        return (label != inverted).astype(np.uint8)
    if mode == "P" or bits == 8:
        return label if mode == "P" or not inverted else 255 - label
    label = label // (255 // (2**bits - 1))  # Pillow spreads 2 and 4 bits over 0..255
    return 2**bits - 1 - label if inverted else label


def read_colours(path: str | os.PathLike[str]) -> np.ndarray | None:
    """Read the colours u8[h w 3] of a mask that is stored in RGB; None where it stores numbers.

    Raises:
      BadInput: as of :func:`read_image`; or the file has transparent pixels or colours of 16 bits.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (2, 1), (128, 0, 0)).save(Path(folder) / "a.png")
    ...     read_colours(Path(folder) / "a.png").tolist()
    [[[128, 0, 0], [128, 0, 0]]]
    """
    path = Path(path)
    with _named(path):
        if _bands(path) is not None:
            return None
        with _opened(path) as image:
            if image.mode in ("1", "L", "P"):
                return None
            if _png_depth(path) == (16, True):
                raise BadInput(f"{path} is a mask in colours of 16 bits; save it with 8 bits or as numbers")
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data and upright.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise BadInput(f"{path} is a mask with transparent pixels; save it in RGB, with a colour for them")
            return np.asarray(upright.convert("RGB"))


def palette_of(path: str | os.PathLike[str]) -> list[tuple[int, int, int]] | None:
    """Return the colours of a file's palette by number, None where it has none.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(Path(folder) / "a.png")
    ...     palette_of(Path(folder) / "a.png") is None
    True
    """
    path = Path(path)
    with _named(path), _opened(path) as image:
        flat = image.getpalette("RGB") if image.mode == "P" else None
    return None if flat is None else [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]


def orientation_of(path: str | os.PathLike[str]) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1 is upright, also where nothing is said.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(Path(folder) / "a.png")
    ...     orientation_of(Path(folder) / "a.png")
    1
    """
    path = Path(path)
    with _named(path):
        with open(path, "rb") as file:
            head = file.read(32)
        if head.startswith(b"\x93NUMPY"):
            return 1
        if tiff.is_tiff(head):
            return tiff.orientation_of(path)
        with _opened(path) as image:
            found = image.getexif().get(0x0112, 1)
    return found if found in range(1, 9) else 1


def _bands(path: Path, *, as_bands: bool = False) -> Bands | None:
    """Return the stored values if they exceed 8 bits or RGB; None if Pillow should read the file."""
    with open(path, "rb") as file:
        head = file.read(32)
    if not head:
        raise BadInput(f"{path} is empty (0 bytes)")
    if head.startswith(b"\x93NUMPY"):
        return Bands(_array(path))
    if tiff.is_tiff(head):
        page = tiff.read(path, _max_pixels(), as_bands=as_bands)
        if page is not None:
            return Bands(page.values, page.span, page.white_is_zero)
    with _opened(path) as image:
        if not image.mode.startswith(("I", "F")):
            return None
        upright = ImageOps.exif_transpose(image)
        return Bands(np.asarray(upright)[..., None], tiff.span_of(path) if tiff.is_tiff(head) else None)


def _array(path: Path) -> np.ndarray:
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.ndim not in (2, 3) or 0 in found.shape or found.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {_shape(found)}, not numbers [h w] or [h w c]")
    _check_pixels(path, found.shape[1], found.shape[0])
    values = np.array(found)
    return values[..., None] if values.ndim == 2 else values


def _seen(path: Path, bands: Bands | None, value_range: Range | None) -> np.ndarray:
    if bands is None:
        with _opened(path) as image:
            rgb = _rgb(ImageOps.exif_transpose(image))
        if _png_depth(path) == (16, True):
            _check_deep_png(path, rgb, value_range)
        return rgb if value_range is None else _scaled(rgb, value_range)
    values = bands.values
    if values.shape[-1] not in (1, 3, 4):
        raise BadInput(f"{path} has {values.shape[-1]} bands; a picture of 1 or 3 is needed here")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInput(f"{path} holds {int((~np.isfinite(values)).sum())} values that are no finite numbers")
    span = value_range or _span(path, bands)
    shown = _scaled(values, span)
    if bands.white_is_zero:
        shown = 255 - shown
    if shown.shape[-1] == 4:
        alpha = shown[..., 3:].astype(np.float32) / 255
        return np.rint(shown[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.repeat(shown, 3, -1) if shown.shape[-1] == 1 else shown


def _span(path: Path, bands: Bands) -> Range:
    """Return the range of the values: the one in the tags, or that of their type if they fill it."""
    values = bands.values
    low, high = float(values.min()), float(values.max())
    if bands.span is not None:
        if low < bands.span[0] or high > bands.span[1]:
            raise BadInput(f"{path}: values {low:g}..{high:g} lie outside the {_words(bands.span)} that its tags state")
        return bands.span
    whole: Range = (0.0, 1.0) if values.dtype.kind == "f" else (0.0, 255.0 if values.dtype.itemsize == 1 else 65535.0)
    if low < 0 or high > whole[1]:
        hint = _hint(low, high, values)
        raise BadInput(
            f"{path}: {values.dtype} values {low:g}..{high:g} lie outside {_words(whole)}; say --range {hint}"
        )
    if values.dtype != np.uint8 and 0 < high < (whole[1] + 1) / 4 and high < whole[1]:
        hint = _hint(low, high, values)
        raise BadInput(
            f"{path}: {values.dtype} values {low:g}..{high:g} would be nearly black under {_words(whole)}; "
            f"say --range {hint} (or --range {_words(whole).replace('..', ' ')} if it is meant)"
        )
    return whole


def _hint(low: float, high: float, values: np.ndarray) -> str:
    if low >= 0 and (values.dtype.kind != "f" or high > 1):
        full = next((2**bits - 1 for bits in (8, 10, 12, 14, 16) if high < 2**bits), None)
        if full is not None:
            return f"0 {full}"
    return f"{min(low, 0):g} {high:g}"


def _words(span: Range) -> str:
    return f"{span[0]:g}..{span[1]:g}"


def _scaled(values: np.ndarray, span: Range) -> np.ndarray:
    """Map ``span`` to 0..255 and clip; integers keep their upper 8 bits."""
    low, high = span
    if values.dtype.kind != "f" and low == int(low) and high == int(high):
        spread = (values.astype(np.int64) - int(low)) * 256 // (int(high) - int(low) + 1)
        return np.clip(spread, 0, 255).astype(np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255.0).astype(np.uint8)


def _rgb(image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return np.asarray(image.convert("RGB"))


def _stored(path: Path, channels: int | None) -> np.ndarray:
    """Return the bands of an 8-bit picture, upright: grey, RGB, or RGBA if four channels are requested."""
    if _png_depth(path) == (16, True):
        raise BadInput(f"{path} is a colour PNG of 16 bits, of which only 8 can be read; save it as TIFF or npy")
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if channels == 4 and upright.mode in ("RGBA", "RGBX"):
            return np.asarray(upright)
        grey = upright.mode in ("1", "L") or channels == 1
        if not upright.has_transparency_data and upright.mode in ("1", "L", "RGB"):
            return np.atleast_3d(np.asarray(upright.convert("L" if grey else "RGB")))
        rgb = Image.fromarray(_rgb(upright))
    return np.asarray(rgb.convert("L"))[..., None] if grey else np.asarray(rgb)


def _narrowed(path: Path, values: np.ndarray) -> np.ndarray:
    """Convert to uint8, uint16 or float32 without changing a value."""
    if values.dtype.name in ("uint8", "uint16", "float32"):
        return np.ascontiguousarray(values)
    small = values.dtype.kind in "bui" and values.min() >= 0 and values.max() < 2**16
    kind = np.uint8 if values.dtype == bool else np.uint16 if small else np.float32
    done = values.astype(kind)
    if values.dtype.kind in "ui" and not np.array_equal(done, values):
        raise BadInput(f"{path}: {values.dtype} values {values.min()}..{values.max()} do not fit float32")
    return done


def _grey_bits(path: Path, image: Image.Image) -> tuple[int, bool]:
    """Return the bits per sample of a grey picture, and True if Pillow inverted it (0 is white)."""
    depth, _ = _png_depth(path)
    if depth:
        return depth, False
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (8,))
    return (bits[0] if isinstance(bits, tuple) else bits), tags.get(262) == 0


def _png_depth(path: Path) -> tuple[int, bool]:
    """Return the bits per sample of a PNG and True if it has colour or alpha; 0 for other files."""
    with open(path, "rb") as file:
        head = file.read(26)
    return (
        (head[24], head[25] in (2, 4, 6)) if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) == 26 else (0, False)
    )


def _check_deep_png(path: Path, rgb: np.ndarray, value_range: Range | None) -> None:
    """Raise if the upper 8 bits, all that Pillow reads of a 16-bit colour PNG, do not represent it."""
    if value_range is not None:
        raise BadInput(f"{path} is a colour PNG of 16 bits, to which no range can be applied; save it as TIFF or npy")
    if rgb.max() < 64:
        raise BadInput(
            f"{path}: 16-bit values below {256 * (int(rgb.max()) + 1)} would be nearly black under 0..65535; "
            "save it as TIFF or npy and say --range LOW HIGH, or save it with 8 bits"
        )


def _shape(values: np.ndarray) -> str:
    return f"{values.dtype}[{' '.join(map(str, values.shape))}]"


_OPENING = threading.Lock()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open the picture in a file, or the first one of a Multi-Picture JPEG (telephones, drones)."""
    with _OPENING:  # Pillow's guard is one number for the whole process; ours names the way around it
        guard, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = guard
    with opened as image:
        _check_pixels(path, *image.size)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in ("MPO", "TIFF"):  # of TIFFs the other module knows which are thumbnails
            raise BadInput(f"{path} holds {frames} frames; give each as an image of its own")
        yield image


def _max_pixels() -> int:
    chosen = os.environ.get("JAXSEG_MAX_PIXELS", str(MAX_PIXELS))
    if not chosen.isdigit():
        raise BadInput(f"JAXSEG_MAX_PIXELS is {chosen!r}, not a number of pixels")
    return int(chosen)


def _check_pixels(path: Path, width: int, height: int) -> None:
    limit = _max_pixels()
    if width * height > limit:
        raise BadInput(
            f"{path} is {width}x{height}: above the limit of {limit} pixels, a guard against decompression bombs; "
            f"set JAXSEG_MAX_PIXELS={width * height} to read it"
        )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn errors of the decoders into BadInput that names the file."""
    try:
        yield
    except BadInput:
        raise
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except (PermissionError, IsADirectoryError) as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        damaged = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())})"
        raise BadInput(f"{path} is not an image that can be read{damaged}; PNG, JPEG and TIFF can") from error
