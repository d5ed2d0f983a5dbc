"""Cache, data and weight folders; atomic writes; detection of a full disk."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxseg.errors import BadInput


def cache_dir() -> Path | None:
    """Return the folder for things that can be made or downloaded again; None if caching is off.

    ``JAXSEG_CACHE`` sets it (default ``$XDG_CACHE_HOME/jaxseg`` or ``~/.cache/jaxseg``); "0" and "off" disable it.

    >>> isinstance(cache_dir(), Path | None)
    True
    """
    chosen = os.environ.get("JAXSEG_CACHE")
    if chosen is not None and chosen.lower() in ("", "0", "off"):
        return None
    return Path(chosen).expanduser() if chosen else _home()


def default_data_dir() -> Path:
    """Return the folder of prepared data: ``$JAXSEG_DATA_DIR``, or ``data`` in the cache, even if caching is off.

    >>> isinstance(default_data_dir(), Path)
    True
    """
    return _within("data", os.environ.get("JAXSEG_DATA_DIR"))


def default_weights_dir() -> Path:
    """Return the folder of weights: ``$JAXSEG_WEIGHTS_DIR``, or ``weights`` in the cache, even if caching is off.

    >>> isinstance(default_weights_dir(), Path)
    True
    """
    return _within("weights", os.environ.get("JAXSEG_WEIGHTS_DIR"))


def make_folder(path: Path, remedy: str) -> None:
    """Make a folder that files will be written to, with its parents; one that is there will do.

    Args:
      path: of the folder.
      remedy: says in the message how to choose another one.

    Raises:
      BadInput: it cannot be made or written.

    >>> make_folder(Path("/dev/null/jaxseg"), "set JAXSEG_CACHE")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: folder /dev/null/jaxseg cannot be made (Not a directory): set JAXSEG_CACHE
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if disk_is_full(error):
            raise
        raise BadInput(f"folder {path} cannot be made ({error.strerror}): {remedy}") from error
    if not os.access(path, os.W_OK):
        raise BadInput(f"folder {path} cannot be written: {remedy}")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write a file to; move it into place on success, remove it on failure.

    A reader sees the old file or the new one, never a part. Missing parent folders are made.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "a.txt") as part:
    ...         _ = part.write_text("whole")
    ...     (Path(folder) / "a.txt").read_text()
    'whole'
    """
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` to fill; put it in the place of ``path`` on success, remove it on failure.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder) / "a") as part:
    ...         _ = (part / "b.txt").write_text("whole")
    ...     sorted(path.name for path in Path(folder).rglob("*"))
    ['a', 'b.txt']
    """
    part, old = (path.with_name(f".{path.name}.{end}") for end in ("part", "old"))
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in (part, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        if path.exists():
            path.rename(old)
        part.rename(path)
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)


def disk_is_full(error: BaseException | None) -> bool:
    """Return True if the error, or one of its causes, came from a full disk or an exhausted quota.

    >>> disk_is_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
            words in str(error) for words in ("No space left", "ENOSPC")
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _within(name: str, chosen: str | None) -> Path:
    return Path(chosen).expanduser() if chosen else (cache_dir() or _home()) / name


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxseg"
