"""Find what an export names: its annotation files, its images wherever they lie, the split that a path speaks of."""

import contextlib
import functools
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jaxseg.data import problems
from jaxseg.data.folders.layout import split_named
from jaxseg.data.listing import SUFFIXES, walk
from jaxseg.errors import BadInput


def files_below(root: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of these suffixes below a folder, hidden ones and those in hidden folders left out, sorted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.json", "a.json", "._a.json"):
    ...         _ = (Path(folder) / name).write_text("")
    ...     [path.name for path in files_below(Path(folder), (".json",))]
    ['a.json', 'b.json']
    """
    if not root.is_dir():
        return []
    return [root / path for path in walk(root) if os.path.splitext(path)[1].lower() in suffixes]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      BadInput: it is none, or is not in UTF-8.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.json").write_text("[1]")
    ...     read_json(Path(folder) / "a.json")
    [1]
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON that can be read ({error}); export it again") from None
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def head_of(path: Path, size: int = 1 << 16) -> bytes:
    """Return the first bytes of a file, by which its format is recognised; nothing of one that cannot be read.

    >>> head_of(Path("nowhere"))
    b''
    """
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def split_in(parts: Iterable[str]) -> str | None:
    """Return the split that the parts of a path speak of, the last that does, None where none does.

    >>> split_in(("cells", "Valid", "images")), split_in(("instances_train2017",)), split_in(("cells",))
    ('val', 'train', None)
    """
    found = None
    for part in parts:
        for word in re.split(r"[_\-. ]+", part):
            found = split_named(word) or found
    return found


class ImageMissing(BadInput):
    """Annotations name an image that is not there.

    >>> ImageMissing("a.json names the image a.png", "a.png").name
    'a.png'
    """

    def __init__(self, message: str, name: str = ""):
        super().__init__(message)
        self.name = name


class Images:
    """The images below a folder, by the names that annotations have for them.

    Args:
      root: the folder.
      skip_missing: whether annotations whose image is not there are left out instead of refused.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "pictures").mkdir()
    ...     _ = (Path(folder) / "pictures" / "a.png").write_bytes(b"")
    ...     Images(Path(folder)).find("C:/mine/a.png", where="a.json").name
    'a.png'
    """

    def __init__(self, root: Path, *, skip_missing: bool = False):
        self.root, self._skip = root, skip_missing
        self._absent: list[str] = []

    @contextlib.contextmanager
    def each(self) -> Iterator[None]:
        """Report what the block raises as :func:`jaxseg.data.problems.each` does, but for images that may be missing.

        >>> images = Images(Path("."), skip_missing=True)
        >>> with images.each():
        ...     _ = images.find("nowhere.png", where="a.json")
        >>> images.notes()
        ['1 annotated images are not there and left out: nowhere.png']
        """
        with problems.each():
            try:
                yield
            except ImageMissing as error:
                if not self._skip:
                    raise
                self.leave_out(error.name)

    def leave_out(self, name: str) -> None:
        """Remember an annotated image that is not there and left out.

        >>> Images(Path(".")).leave_out("a.png")
        """
        self._absent.append(name)

    def notes(self) -> list[str]:
        """Return a line on the images that were left out, none where there are none.

        >>> Images(Path(".")).notes()
        []
        """
        if not self._absent:
            return []
        return [f"{len(self._absent)} annotated images are not there and left out: {', '.join(self._absent[:3])}"]

    def find(self, name: str, *, where: str, near: Sequence[Path] = ()) -> Path:
        """Return the image, as :meth:`search` does.

        Args:
          name: as the annotations have it: a path, perhaps of another machine.
          where: what names it, for messages.
          near: folders that the name may start from.

        Raises:
          BadInput: there is no such file, or there are several.
        """
        found = self.search(name, where=where, near=near)
        if found is None:
            if not name:
                raise BadInput(f"{where} names no image")
            raise ImageMissing(
                f"{where} names the image {name}, which is not below {self.root}; put it there, or leave such images "
                "out: --option skip_missing=True",
                name,
            )
        return found

    def search(self, name: str, *, where: str, near: Sequence[Path] = ()) -> Path | None:
        """Return the image: where it is named from the folders ``near``, or else the file that ends as its path does.

        Returns None where there is none.

        Raises:
          BadInput: there are several.
        """
        plain = name.replace("\\", "/")
        for folder in near:
            if plain and (folder / plain).is_file():
                return folder / plain
        wanted = [part.lower() for part in PurePosixPath(plain).parts if part not in ("/", "..", ".")]
        best: list[Path] = []
        most = 0
        for path in self._by_name.get(wanted[-1], ()) if wanted else ():
            parts = [part.lower() for part in path.relative_to(self.root).parts]
            same = sum(
                1
                for _ in itertools.takewhile(
                    lambda pair: pair[0] == pair[1], zip(parts[::-1], wanted[::-1], strict=False)
                )
            )
            if same > most:
                best, most = [], same
            if same == most:
                best.append(path)
        if len(best) > 1:
            raise BadInput(
                f"{where} names the image {name}, which may be {best[0]} or {best[1]}; keep one, or give them "
                "names of their own"
            )
        return best[0] if best else None

    def all(self) -> list[Path]:
        """Return every image below the folder."""
        return [path for several in self._by_name.values() for path in several]

    @functools.cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in files_below(self.root, SUFFIXES):
            found.setdefault(path.name.lower(), []).append(path)
        return found
