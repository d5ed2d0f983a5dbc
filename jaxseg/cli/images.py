"""Images as users have them: files, folders and patterns, in any mode that Pillow reads."""

import glob
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxseg.errors import BadInput

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2")
"""What counts as an image in a folder; a file that is named outright may have any suffix."""


def find_images(names: Sequence[str]) -> list[Path]:
    """The image files that names stand for, each once: a file, a folder's images, or a pattern such as ``a/*.png``.

    Raises:
      BadInput: a name stands for nothing, or two images would leave results of the same name.
    """
    found = dict.fromkeys(path for name in names for path in _expand(name))
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise BadInput(f"{other} and {path} would both be written as {path.stem}_label.png; use two folders")
    return list(found)


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
        if not inside:
            raise BadInput(f"folder {name!r} holds no image ({', '.join(SUFFIXES)})")
        return inside
    if path.exists():
        return [path]
    if not glob.has_magic(name):
        raise BadInput(f"there is no image {name!r}")
    matches = sorted(Path(match) for match in glob.glob(name, recursive=True))
    matches = [match for match in matches if match.is_file()]
    if not matches:
        raise BadInput(f"no file matches {name!r}")
    return matches


def read_image(path: Path) -> np.ndarray:
    """The image as it is meant to be seen, uint8 RGB [h w 3].

    It is turned as its EXIF entry says, transparency lies over white, 16 bits become the upper 8, floating-point
    values count from 0 to 1, and every other mode is converted by Pillow.

    Raises:
      BadInput: the file is no image, is damaged, or holds several frames.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    raise BadInput(f"{path} holds {frames} frames; give each as an image of its own")
                return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise BadInput(f"{path} is too large to be opened at once: {error}; cut it into parts") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadInput | FileNotFoundError | PermissionError):
            raise error if isinstance(error, BadInput) else BadInput(f"{path}: {error.strerror}") from error
        damaged = "" if isinstance(error, UnidentifiedImageError) else f" ({' '.join(str(error).split())})"
        raise BadInput(f"{path} is not an image that can be read{damaged}; PNG, JPEG and TIFF can") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        return _repeated(np.clip(grey // 256, 0, 255))
    if image.mode == "F":
        return _repeated(np.clip(np.rint(np.nan_to_num(np.asarray(image)) * 255.0), 0, 255))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    return np.asarray(image.convert("RGB"))


def _repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
