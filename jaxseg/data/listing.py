"""List the images of folders: suffixes in capitals or not, and without the files that systems leave there."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".npy")
"""What counts as an image in a folder; a file that is named outright may have any suffix."""

_APART = {"__macosx", "@eadir", "thumbs.db"}


def walk(root: Path) -> Iterator[str]:
    """Yield the files below a folder, with forward slashes, in the order of their names; hidden ones are left out.

    Args:
      root: the folder; links are followed, each folder is entered once.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.png", "a.png", "._a.png"):
    ...         _ = (Path(folder) / name).write_bytes(b"")
    ...     list(walk(Path(folder)))
    ['a.png', 'b.png']
    """
    seen: set[tuple[int, int]] = set()

    def inside(folder: str, prefix: str) -> Iterator[str]:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not is_hidden(entry.name))
        for name, is_folder in found:
            if is_folder:
                yield from inside(os.path.join(folder, name), f"{prefix}{name}/")
            else:
                yield prefix + name

    yield from inside(os.fspath(root), "")


def is_hidden(name: str) -> bool:
    """Return True for names that systems leave in folders: ``._a.jpg``, ``.DS_Store``, ``__MACOSX``, ``Thumbs.db``.

    >>> is_hidden("._a.jpg"), is_hidden("a.jpg")
    (True, False)
    """
    return name.startswith(".") or name.lower() in _APART


def is_image(path: str) -> bool:
    """Return True if the suffix is that of an image, in capitals or not.

    >>> is_image("a.PNG"), is_image("a.txt")
    (True, False)
    """
    return os.path.splitext(path)[1].lower() in SUFFIXES


def images_in(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return the images that lie in a folder, by name; none where there is no such folder.

    Args:
      folder: its subfolders do not count.
      suffixes: ends of the names that count, small.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.JPG", "a.jpg", "._a.jpg"):
    ...         _ = (Path(folder) / name).write_bytes(b"")
    ...     [path.name for path in images_in(Path(folder))]
    ['a.jpg', 'b.JPG']
    """
    if not folder.is_dir():
        return []
    names = [name for name in os.listdir(folder) if not is_hidden(name) and name.lower().endswith(tuple(suffixes))]
    return sorted(folder / name for name in names if (folder / name).is_file())


def find_image(folder: Path, stem: str, suffixes: Collection[str] = SUFFIXES) -> Path:
    """Return the image of a stem, whatever its suffix and in capitals or not.

    Args:
      folder: where it lies.
      stem: its name without suffix; dots and blanks belong to it.
      suffixes: that may follow, small, the likeliest first; where there is none, the path with the first.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a 1.0.JPG").write_bytes(b"")
    ...     find_image(Path(folder), "a 1.0", (".png", ".jpg")).name
    'a 1.0.JPG'
    """
    suffixes = list(suffixes)
    for suffix in (*suffixes, *(suffix.upper() for suffix in suffixes), *(suffix.title() for suffix in suffixes)):
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return path
    return folder / f"{stem}{suffixes[0]}"
