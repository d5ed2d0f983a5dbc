"""Miniature folders for the tests of folders: images of 4 x 6 pixels, masks, tables."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

LABEL = np.asarray([[0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 2, 0], [2, 2, 2, 1, 1, 1], [0, 0, 0, 0, 1, 2]], np.uint8)
COLOURS = np.asarray([(0, 0, 0), (128, 64, 128), (0, 128, 192)], np.uint8)
TABLE = "name,r,g,b\nsky,0,0,0\nroad,128,64,128\ncar,0,128,192\n"


def picture(seed: int, shape: tuple[int, ...] = (4, 6, 3), dtype: str = "uint8") -> np.ndarray:
    top = {"uint8": 256, "uint16": 65536}[dtype]
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def write(path: Path, array: np.ndarray) -> Path:
    """Write an array as its suffix says, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix.lower() in (".tif", ".tiff"):
        colour = array.ndim == 3 and array.shape[2] == 3
        planes = {"planarconfig": "contig"} if array.ndim == 3 else {}
        tifffile.imwrite(path, array, photometric="rgb" if colour else "minisblack", **planes)
    else:
        Image.fromarray(array).save(path)
    return path


def pair(root: Path, image: str, mask: str, seed: int = 0, label: np.ndarray = LABEL) -> None:
    """Write an image and its mask."""
    write(root / image, picture(seed))
    write(root / mask, label)


def palette_png(path: Path, label: np.ndarray, colours: np.ndarray = COLOURS) -> None:
    image = Image.fromarray(label, "P")
    image.putpalette(colours.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
