"""Images of a folder: how many bands and of which type a file stores, and the pixels themselves."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from jaxseg.data import label_files, tiff
from jaxseg.data.images import read_image
from jaxseg.errors import BadInput

Stored = Path | bytes | Callable[[], bytes]


def stored_bands(image: Stored, name: str) -> tuple[int, str]:
    """Return the number of bands that an image stores, and their type: uint8, uint16 or float32.

    Transparency is no band, a palette is colour.

    Args:
      image: the file, or its bytes.
      name: of the image, for messages.

    Raises:
      BadInput: the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.zeros((2, 4, 13), np.uint16))
    ...     stored_bands(Path(folder) / "a.npy", "a")
    (13, 'uint16')
    """
    with as_file(image, name) as path:
        quick = _of_header(path)
        if quick is not None:
            return quick
        found = read_image(path, channels=None)
        return found.shape[-1], found.dtype.name


def read_bands(path: Path, channels: int, dtype: str, size: tuple[int, int] | None) -> np.ndarray:
    """Read an image [h w c] as the data set has them, turned as it fits its labels.

    Args:
      path: the file.
      channels: 3 is RGB of 8 bits; others are read as they are stored.
      dtype: of the data set's images.
      size: height and width of the labels; None without.

    Raises:
      BadInput: the file cannot be read, or has another number of bands, another type or another size.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(Path(folder) / "a.png")
    ...     read_bands(Path(folder) / "a.png", 3, "uint8", (2, 4)).shape
    (2, 4, 3)
    """
    if channels == 3 and dtype == "uint8":
        return label_files.fitted_image(path, size)
    found = read_image(path, channels=None)
    if found.shape[-1] != channels and channels == 4 and found.dtype == np.uint8:
        found = read_image(path, channels=4)
    if found.shape[-1] != channels:
        raise BadInput(
            f"{path} has {found.shape[-1]} bands, others have {channels}; save all alike"
            + (", or read all as RGB: --option channels=3" if {found.shape[-1], channels} == {1, 3} else "")
        )
    if found.dtype.name != dtype:
        raise BadInput(f"{path} holds {found.dtype}, others hold {dtype}; save all images of one type")
    if size is not None and found.shape[:2] != size:
        raise BadInput(f"{path} is {found.shape[1]}x{found.shape[0]} but its label is {size[1]}x{size[0]}")
    return found


def stored_size(path: Path) -> tuple[int, int] | None:
    """Return height and width of an image by its header; None where that may not be how it is read (EXIF, TIFF, npy).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(Path(folder) / "a.png")
    ...     stored_size(Path(folder) / "a.png")
    (2, 4)
    """
    if path.suffix.lower() in (".npy", ".tif", ".tiff"):
        return None
    try:
        with Image.open(path) as image:
            return (image.height, image.width) if image.getexif().get(0x0112, 1) == 1 else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


@contextlib.contextmanager
def as_file(image: Stored, name: str) -> Iterator[Path]:
    """Yield a file that holds the image; errors name the image instead of a temporary file.

    >>> with as_file(b"abc", "a") as path:
    ...     path.read_bytes()
    b'abc'
    """
    if isinstance(image, Path):
        yield image
        return
    data = image if isinstance(image, bytes) else image()
    with tempfile.NamedTemporaryFile(prefix="jaxseg-") as file:
        file.write(data)
        file.flush()
        try:
            yield Path(file.name)
        except BadInput as error:
            raise BadInput(str(error).replace(file.name, f"image {name!r}")) from error


def _of_header(path: Path) -> tuple[int, str] | None:
    """Return bands and type of files that say them plainly; None for others."""
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if head.startswith(b"\x93NUMPY") or tiff.is_tiff(head):
            return None
        with Image.open(path) as image:
            mode = image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return {"1": (1, "uint8"), "L": (1, "uint8"), "RGB": (3, "uint8"), "P": (3, "uint8")}.get(mode)
