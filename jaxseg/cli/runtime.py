"""Process-wide settings of the command line, never of the library: allocator and compilation cache."""

import contextlib
import logging
import os
import sys


def prepare_runtime() -> None:
    """Enable the persistent compilation cache; call it before any computation.

    Compiled programs are stored in ``compiled`` in :func:`jaxseg.files.cache_dir`, unless JAX has a cache already
    (``JAX_COMPILATION_CACHE_DIR``) or the folder cannot be written.
    """
    import jax

    from jaxseg.errors import BadInput
    from jaxseg.files import cache_dir, make_folder

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax and Grain tell of things that nobody can act upon
    folder = cache_dir()
    if folder is not None and getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        with contextlib.suppress(BadInput):  # it only saves time
            make_folder(folder / "compiled", "JAXSEG_CACHE names another")
            jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))


TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:"
    "glibc.malloc.trim_threshold=0x7fffffffffffffff:glibc.malloc.top_pad=67108864"
)
"""One heap for all threads, on huge pages, that never shrinks."""


def keep_freed_memory() -> None:
    """Re-execute this process under an allocator that keeps freed buffers instead of returning them to the system.

    XLA on CPUs allocates its buffers anew at every execution, in arenas that glibc unmaps as soon as they are empty: a
    training step of ENet took 120,000 page faults and 1.4 to 1.9 times as long. ``mallopt`` cannot select huge pages,
    so they are set in the environment, before anything is imported. Does nothing if that has been done, if
    ``GLIBC_TUNABLES`` configures malloc, and on other systems.
    """
    before = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc." in before or not _has_glibc():
        return
    os.environ["GLIBC_TUNABLES"] = f"{before}:{TUNABLES}" if before else TUNABLES
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _has_glibc() -> bool:
    try:
        return bool(sys.executable) and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # another system, another C library
        return False
