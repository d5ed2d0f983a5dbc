"""Read files of depth and of surface normals: which unit depth has, where it is unknown, and what cannot be either."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.data.images import read_image
from jaxseg.errors import BadInput, suggest

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "kitti": 1 / 256}
"""Metres for each unit that files store; KITTI's are 256ths of a metre."""

PLAUSIBLE = (0.02, 500.0)
"""Metres between which the median of a depth map lies, or else its unit is taken for wrong."""


def read_depth(path: Path, unit: Any = None, mask: Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read depth in metres f32[h w], and where it is known, bool[h w].

    Files are pictures of one channel (16 bits in PNG or TIFF, floats in TIFF) or arrays in ``.npy`` files; 0 stands for
    unknown.

    Args:
      path: the file.
      unit: one of :data:`UNITS`, or metres for each stored number; None is millimetres of integers, metres of floats.
      mask: a file that is 0 where depth is unknown.

    Raises:
      BadInput: the file cannot be read, is no map of one number a pixel, holds NaN or negative numbers or no depth at
        all, or its depths are so near or far that the unit must be another.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.asarray([[1500, 0]], np.uint16))
    ...     [found.tolist() for found in read_depth(Path(folder) / "a.npy")]
    [[[1.5, 0.0]], [[True, False]]]
    """
    values = _one_band(path, read_image(path, channels=None))
    if values.dtype == np.uint8 and unit is None:
        raise BadInput(f"{path} has 8 bits: a picture of depth, not depth; or say its unit: --option unit=m")
    known = np.ones(values.shape, bool)
    if mask is not None:
        known = _one_band(mask, read_image(mask, channels=None)) != 0
        if known.shape != values.shape:
            raise BadInput(f"{mask} is {_size(known)} but {path} is {_size(values)}; a mask has the size of its depth")
    seen = values[known]
    if seen.dtype.kind == "f" and not np.isfinite(seen).all():
        count = int((~np.isfinite(seen)).sum())
        raise BadInput(f"{path} holds {count} values that are NaN or infinite; write 0 where depth is unknown")
    if seen.size and seen.min() < 0:
        raise BadInput(f"{path} holds negative depth, down to {seen.min():g}; write 0 where depth is unknown")
    depth = (np.where(known, values, 0) * factor_of(unit, values.dtype)).astype(np.float32)
    known = depth > 0
    if not known.any():
        raise BadInput(f"{path} has no pixel of known depth, all are 0; leave such an image out")
    _check_unit(path, float(np.median(depth[known])), factor_of(unit, values.dtype))
    return depth, known


def read_normal(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read unit normals f32[h w 3] in camera axes from a ``.npy`` file, and where they are known, bool[h w].

    Vectors of length 0 stand for unknown.

    Raises:
      BadInput: the file cannot be read, or holds something else than vectors of length 1 and 0.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "a.npy", np.asarray([[[0, 0, -1.0], [0, 0, 0]]]))
    ...     read_normal(Path(folder) / "a.npy")[1].tolist()
    [[True, False]]
    """
    values = read_image(path, channels=None)
    if values.shape[-1] != 3 or values.dtype.kind != "f":
        raise BadInput(
            f"{path} is {values.dtype} of {values.shape[-1]} bands; normals are floats x, y, z, in a npy file"
        )
    if not np.isfinite(values).all():
        raise BadInput(f"{path} holds NaN or infinite normals; write 0 0 0 where they are unknown")
    length = np.linalg.norm(values, axis=-1)
    known = length > 0
    wrong = known & (np.abs(length - 1) > 0.01)
    if wrong.any():
        row, column = (int(places[0]) for places in np.nonzero(wrong))
        raise BadInput(
            f"{path} holds normals of length {length[row, column]:.3g} (row {row}, column {column}); "
            "they have length 1, or 0 where they are unknown"
        )
    if not known.any():
        raise BadInput(f"{path} has no known normal, all are 0; leave such an image out")
    return (values / np.where(known, length, 1.0)[..., None]).astype(np.float32), known


def factor_of(unit: Any, dtype: Any) -> float:
    """Return metres for each stored number.

    Raises:
      BadInput: there is no such unit.

    >>> factor_of(None, np.uint16), factor_of("kitti", np.uint16), factor_of(0.0002, np.uint16)
    (0.001, 0.00390625, 0.0002)
    """
    if unit is None:
        return UNITS["m" if np.dtype(dtype).kind == "f" else "mm"]
    if isinstance(unit, str) and unit in UNITS:
        return UNITS[unit]
    if isinstance(unit, (int, float)) and not isinstance(unit, bool) and 0 < unit < float("inf"):
        return float(unit)
    raise BadInput(
        f"option unit is {unit!r}; it is one of {', '.join(UNITS)} or the metres of 1{suggest(str(unit), UNITS)}"
    )


def _check_unit(path: Path, median: float, factor: float) -> None:
    low, high = PLAUSIBLE
    if low <= median <= high:
        return
    fitting = [name for name in ("mm", "m", "cm") if 0.3 <= median / factor * UNITS[name] <= 100]
    hint = f"--option unit={fitting[0]}" if fitting else "--option unit=METRES_OF_1"
    raise BadInput(f"{path}: half of its depths are {median:.4g} m or more, so the unit is another; say {hint}")


def _one_band(path: Path, values: np.ndarray) -> np.ndarray:
    if values.shape[-1] != 1:
        raise BadInput(f"{path} has {values.shape[-1]} bands; a depth map has one number for each pixel")
    return values[..., 0]


def _size(values: np.ndarray) -> str:
    return f"{values.shape[1]}x{values.shape[0]}"
