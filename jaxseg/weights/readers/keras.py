"""Keras files: HDF5 as written by Keras 1, 2 and 3, through h5py (``pip install h5py``).

Names are the groups' joined by dots, without ``:0`` and repeated parts: ``conv2d_1.kernel``. Arrays keep the layout of
the file: kernels HWIO for TensorFlow, OIHW and rotated by 180 degrees for Theano (Keras 1).
"""

import importlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.weights.readers.zip import FREE, RATIO, checked_members

LARGEST = 100_000
"""Groups and arrays that a file may hold."""


def read_hdf5(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .h5 or .weights.h5 file, without the optimizer's.

    >>> import h5py, tempfile  # doctest: +SKIP
    >>> path = Path(tempfile.mkdtemp()) / "a.h5"  # doctest: +SKIP
    >>> with h5py.File(path, "w") as file:  # doctest: +SKIP
    ...     file["dense/dense/kernel:0"] = np.ones((2, 3), np.float32)
    >>> {name: array.shape for name, array in read_hdf5(path).items()}  # doctest: +SKIP
    {'dense.kernel': (2, 3)}

    Raises:
      BadInput: h5py is not installed; the file links to other files, or its decompressed size is far too large.
    """
    return _read(path, path.stat().st_size)


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .keras file, a zip around ``model.weights.h5``.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.keras"
    >>> with zipfile.ZipFile(path, "w") as archive:
    ...     archive.writestr("config.json", "{}")
    >>> read_keras(path)
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: it holds no model.weights.h5

    Raises:
      BadInput: see ``read_hdf5``.
    """
    with zipfile.ZipFile(path) as archive:
        members = checked_members(archive, path)
        if "model.weights.h5" not in members:
            raise BadInput("it holds no model.weights.h5")
        data = archive.read("model.weights.h5")
    return _read(io.BytesIO(data), len(data))


def _read(source: Any, size: int) -> dict[str, np.ndarray]:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise BadInput("Keras files are read through h5py, which is not installed: pip install h5py") from error
    found: dict[str, np.ndarray] = {}
    left = RATIO * size + FREE
    with h5py.File(source, "r") as file:
        root = file.get("model_weights", file)
        todo: list[tuple[tuple[str, ...], Any]] = [((), root)]
        visited = 0
        while todo:
            parts, group = todo.pop()
            for name in group:
                visited += 1
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise BadInput(f"its entry {name[:80]!r} leads elsewhere")
                if visited > LARGEST or len(parts) > 32:
                    raise BadInput("it holds groups inside each other without an end")
                inside, path = group[name], (*parts, name.split(":")[0])
                if isinstance(inside, h5py.Group):
                    if not (not parts and name.startswith("optimizer")):
                        todo.append((path, inside))
                    continue
                if inside.external or inside.is_virtual:
                    raise BadInput(f"its array {name[:80]!r} lies in another file")
                if inside.dtype.kind not in "fiub":
                    continue
                left -= inside.size * inside.dtype.itemsize
                if left < 0:
                    raise BadInput(f"its {size:,} bytes would unfold into far more than weights ever do")
                key = ".".join(p for i, p in enumerate(path) if i == 0 or path[i - 1] != p)
                if key in found:
                    raise BadInput(f"it holds {key[:80]!r} twice")
                found[key] = np.asarray(inside[()])
    return found
