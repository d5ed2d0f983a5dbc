"""Where jaxseg keeps things of the user's: what it downloads and compiles, prepared data, weights put there by hand."""

import os
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


def _within(name: str, chosen: str | None) -> Path:
    return Path(chosen).expanduser() if chosen else (cache_dir() or _home()) / name


def _home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxseg"
