"""Read TIFF beyond 8 bits and 4 bands, through tifffile: camera data, microscopy, satellites."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import BadInput

Range = tuple[float | int, float | int]


@dataclass(frozen=True, eq=False)
class Page:
    """The picture of a file, upright: values [h w c], the range that its tags state, and whether 0 is white.

    >>> Page(np.zeros((2, 3, 13), np.uint16), None, False).values.shape
    (2, 3, 13)
    """

    values: np.ndarray
    span: Range | None
    white_is_zero: bool


def is_tiff(head: bytes) -> bool:
    """Return True if a file begins as TIFF or BigTIFF.

    >>> is_tiff(b"II*" + bytes(5)), is_tiff(b"GIF89a")
    (True, False)
    """
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(path: Path, max_pixels: int, *, as_bands: bool = False) -> Page | None:
    """Read the picture; None where it is one of 8 bits, or in a compression that only Pillow may know.

    Thumbnails and the smaller levels of a pyramid do not count as pictures.

    Args:
      path: the file.
      max_pixels: more are refused.
      as_bands: samples beside RGB of which the file does not say what they are (such as near infrared) are bands too;
        of a picture they are left out.

    Raises:
      BadInput: there are several pictures, too many pixels, or a compression that needs another package.

    >>> import tempfile, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(Path(folder) / "a.tif", np.zeros((4, 6), np.float32))
    ...     read(Path(folder) / "a.tif", 100).values.shape
    (4, 6, 1)
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = _only(path, file)
            height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
            if height * width > max_pixels:
                raise BadInput(
                    f"{path} is {width}x{height}: above the limit of {max_pixels} pixels, a guard against "
                    f"decompression bombs; set JAXSEG_MAX_PIXELS={width * height} to read it"
                )
            more = _is_more_than_colour(page)
            picture = _is_picture(page, samples) and not (as_bands and more)
            if page.dtype in (np.dtype(bool), np.dtype(np.uint8)) and picture:
                if not _is_scrambled(page):
                    return None
                if page.photometric not in (0, 1, 2) or page.bitspersample != 8:
                    raise BadInput(f"{path} is stored turned (its tag Orientation); save it upright")
            values = _decoded(path, page)
            if values is None:
                return None
            values = values[..., :3] if more and not as_bands else values
            return Page(_turned(values, page), _span(page), page.photometric == 0)
    except tifffile.TiffFileError as error:
        raise BadInput(f"{path} is not an image that can be read ({error}); PNG, JPEG and TIFF can") from error


def span_of(path: Path) -> Range | None:
    """Return the range of values that the tags of a file state.

    >>> import tempfile, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(Path(folder) / "a.tif", np.zeros((4, 6), np.uint16))
    ...     span_of(Path(folder) / "a.tif") is None
    True
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        return _span(file.pages[0])


def orientation_of(path: Path) -> int:
    """Return the tag Orientation, 1 to 8; 1 is upright, also where there is none.

    >>> import tempfile, tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tifffile.imwrite(Path(folder) / "a.tif", np.zeros((4, 6), np.uint16), photometric="minisblack")
    ...     orientation_of(Path(folder) / "a.tif")
    1
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        tag = _only(path, file).tags.get(274)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1


def _only(path: Path, file: Any) -> Any:
    whole = [page for page in file.pages if not page.is_reduced] or [file.pages[0]]
    if len(whole) > 1:
        raise BadInput(f"{path} holds {len(whole)} frames; give each as an image of its own")
    page = whole[0]
    if page.imagedepth > 1:
        raise BadInput(f"{path} holds a volume of {page.imagedepth} slices; give each as an image of its own")
    return page


def _is_picture(page: Any, samples: int) -> bool:
    """Return True for grey (with alpha or not) and colour, False for other bands."""
    alpha = samples == 2 and tuple(page.extrasamples)[:1] in ((1,), (2,))
    return samples == 1 or alpha or page.photometric in (2, 5, 6, 8)


def _is_more_than_colour(page: Any) -> bool:
    """Return True for RGB with further samples that the file does not call alpha."""
    return page.photometric == 2 and page.samplesperpixel > 3 and not {1, 2} & set(page.extrasamples)


def _is_scrambled(page: Any) -> bool:
    """Return True where Pillow 13.0 reads rows of the wrong length: uncompressed, turned by 90 degrees."""
    tag = page.tags.get(274)
    return page.compression == 1 and tag is not None and tag.value in (5, 6, 7, 8)


def _decoded(path: Path, page: Any) -> np.ndarray | None:
    """Decode to [h w c]; None if Pillow may know the compression."""
    try:
        values = page.asarray()
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        if page.samplesperpixel == 1 and page.index == 0:
            return None
        raise BadInput(
            f"{path}: {page.samplesperpixel} bands of {page.dtype} in this compression need another package: "
            "pip install imagecodecs"
        ) from None
    if page.samplesperpixel == 1:
        return values.reshape(page.imagelength, page.imagewidth, 1)
    return np.moveaxis(values, 0, -1) if page.axes == "SYX" else values


def _span(page: Any) -> Range | None:
    """Return SMinSampleValue and SMaxSampleValue, or the range of an odd number of bits."""
    low, high = (page.tags.get(code) for code in (340, 341))
    if high is not None:
        return (0.0 if low is None else float(np.min(low.value)), float(np.max(high.value)))
    bits = int(np.max(page.bitspersample))
    return (0.0, float(2**bits - 1)) if bits not in (8, 16, 32, 64) else None


def _turned(values: np.ndarray, page: Any) -> np.ndarray:
    """Turn upright by the tag Orientation."""
    tag = page.tags.get(274)
    orientation = 1 if tag is None else int(tag.value)
    if orientation in (5, 6, 7, 8):
        values = np.swapaxes(values, 0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values
