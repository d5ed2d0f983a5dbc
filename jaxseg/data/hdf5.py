"""Open HDF5 files, MATLAB's of version 7.3 among them, through h5py where it is installed."""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxseg.errors import BadInput


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading: a mapping of names to arrays that are read where they are indexed.

    Raises:
      BadInput: h5py is not installed, or the file is absent, damaged or of another format.

    >>> with opened(Path("nowhere.mat")) as file:  # doctest: +ELLIPSIS
    ...     pass
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: ...
    """
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise BadInput(f"{path} is read through h5py, which is not installed: pip install h5py") from error
    if not path.is_file():
        raise BadInput(f"{path} does not exist")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        yield file
