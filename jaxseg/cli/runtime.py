"""What the command line, and never the library, sets for the whole process: allocator and compilation cache."""

import ctypes
import logging
import os
import sys
from pathlib import Path


def prepare_runtime() -> None:
    """Keep freed memory mapped where JAX runs on the CPU, and compiled programs on disk; call it before any computing.

    ``JAXSEG_CACHE`` moves the cache (default ``$XDG_CACHE_HOME/jaxseg`` or ``~/.cache/jaxseg``); set to "0" or "off"
    it keeps none. A cache that JAX was already told of (``JAX_COMPILATION_CACHE_DIR``) stays.
    """
    import jax

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain tell of things that nobody can act upon
    folder = cache_dir()
    if folder is not None and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    if jax.default_backend() == "cpu":
        keep_freed_memory()


def cache_dir() -> Path | None:
    """Where jaxseg may keep things that it can make again; None if the user wants none."""
    chosen = os.environ.get("JAXSEG_CACHE")
    if chosen is not None and chosen.lower() in ("", "0", "off"):
        return None
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxseg"


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Let glibc reuse freed buffers instead of returning them to the system; true if it agreed.

    XLA on CPU allocates its temporary buffers anew at every execution; without this the page faults cost up to 40 % on
    large maps. A no-op outside Linux with glibc, or where ``MALLOC_MMAP_THRESHOLD_`` is set already.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    limit = 2**31 - 1
    agreed = [mallopt(_M_MMAP_THRESHOLD, limit), mallopt(_M_TRIM_THRESHOLD, limit), mallopt(_M_TOP_PAD, 64 * 2**20)]
    return all(agreed)
