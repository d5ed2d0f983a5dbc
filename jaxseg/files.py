"""Folders for caches, data and weights; atomic writing; the test for a full disk."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


def cache_dir() -> Path | None:
    """Where jaxseg may keep things that it can make or fetch again; None if the user wants none.

    ``JAXSEG_CACHE`` names it (default ``$XDG_CACHE_HOME/jaxseg`` or ``~/.cache/jaxseg``); "0" and "off" switch it off.
    """
    chosen = os.environ.get("JAXSEG_CACHE")
    if chosen is not None and chosen.lower() in ("", "0", "off"):
        return None
    return Path(chosen).expanduser() if chosen else _home()


def default_data_dir() -> Path:
    """Where prepared data lie: ``$JAXSEG_DATA_DIR``, or else ``data`` in the cache. No switch takes it away."""
    return _within("data", os.environ.get("JAXSEG_DATA_DIR"))


def default_weights_dir() -> Path:
    """Where weights lie: ``$JAXSEG_WEIGHTS_DIR``, or else ``weights`` in the cache. No switch takes it away."""
    return _within("weights", os.environ.get("JAXSEG_WEIGHTS_DIR"))


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


def disk_is_full(error: BaseException | None) -> bool:
    """Return True if the error, or one that led to it, came from a full disk or an exhausted quota."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _within(name: str, chosen: str | None) -> Path:
    return Path(chosen).expanduser() if chosen else (cache_dir() or _home()) / name


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxseg"
