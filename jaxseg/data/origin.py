"""Record what a data set was prepared from, to detect changes of the source."""

import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from jaxseg.data.listing import is_hidden
from jaxseg.files import atomic

FILE = "prepared_from.json"


@dataclass(frozen=True)
class Origin:
    """State of a source folder when it was prepared.

    Attributes:
      source: the folder.
      files: how many files it held, subfolders included.
      bytes: their total size.
      newest: when the last of them was changed, local time.
      digest: SHA-256 of their names, sizes and times.
      prepared: when the preparation began, local time.
      notes: choices made during the preparation.

    >>> str(Origin("cells", 3, 2_000_000, "2026-01-01 10:00:00", ""))
    'cells (3 files, 2.0 MB, last changed 2026-01-01 10:00:00)'
    """

    source: str
    files: int
    bytes: int
    newest: str
    digest: str
    prepared: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.source} ({self.files} files, {self.bytes / 1e6:.1f} MB, last changed {self.newest})"


def look(source: Path, *, apart: Collection[Path] = ()) -> Origin:
    """Return the state of a source folder, from names, sizes and times; no file is opened, hidden ones do not count.

    Args:
      source: the folder.
      apart: folders inside it to ignore, such as prepared data.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("abc")
    ...     found = look(Path(folder))
    >>> found.files, found.bytes
    (1, 3)
    """
    apart = {path.absolute() for path in apart}
    lines, total, newest, seen = [], 0, 0, set()
    for folder, inner, names in os.walk(source, followlinks=True):
        here = Path(folder)
        below = "" if here == source else f"{here.relative_to(source)}{os.sep}"
        inner[:] = [name for name in inner if (here / name).absolute() not in apart and _is_new(here / name, seen)]
        for name in names:
            if is_hidden(name):
                continue
            try:
                status = os.stat(f"{folder}{os.sep}{name}")
            except OSError:
                continue  # a link that leads nowhere
            lines.append(f"{below}{name}\0{status.st_size}\0{status.st_mtime_ns}")
            total, newest = total + status.st_size, max(newest, status.st_mtime_ns)
    digest = hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()
    return Origin(os.fspath(source.absolute()), len(lines), total, _time(newest / 1e9), digest)


def keep(folder: Path, origin: Origin, notes: tuple[str, ...]) -> None:
    """Save what the prepared files in ``folder`` were made from.

    >>> import tempfile
    >>> origin = Origin("cells", 3, 2_000_000, "2026-01-01 10:00:00", "")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keep(Path(folder), origin, ("a note",))
    ...     recall(Path(folder)) == replace(origin, notes=("a note",))
    True
    """
    with atomic(folder / FILE) as part:
        part.write_text(json.dumps(asdict(replace(origin, notes=notes)), indent=1) + "\n", encoding="utf-8")


def recall(folder: Path) -> Origin | None:
    """Load what the prepared files in ``folder`` were made from; None if it was not saved.

    >>> recall(Path("nowhere")) is None
    True
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Origin(**{**found, "notes": tuple(found["notes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def now() -> str:
    """Return the local time, to the second.

    >>> len(now())
    19
    """
    return _time(datetime.now().timestamp())


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Return False for a folder that was visited already (symbolic links may form cycles)."""
    status = folder.stat()
    place = (status.st_dev, status.st_ino)
    if place in seen:
        return False
    seen.add(place)
    return True
