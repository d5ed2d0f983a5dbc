"""What every test runs under: stricter than a user's machine."""

import gc
import os
from pathlib import Path
from typing import NamedTuple

import pytest

# Tests compile much and run little: code that is not optimised is there sooner. Flags of one's own replace these.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook("jaxseg", "beartype.beartype")

import jax

ASKED_OF_TESTS = {"JAXSEG_FUZZ", "JAXSEG_WRITE_SNAPSHOTS", "JAXSEG_ONNX_PYTHON"}
"""Variables that speak to the tests themselves; all others of ours are unset."""

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# What compiles slowly compiles once per checkout; git ignores the folder, and deleting it is always safe.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session", autouse=True)
def _folders_of_its_own(tmp_path_factory):
    """What the user has prepared, downloaded or set is neither seen nor touched, nor by commands that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("JAXSEG_") and name not in ASKED_OF_TESTS]:
            patch.delenv(name)
        folder = tmp_path_factory.mktemp("user")
        for name in ("JAXSEG_CACHE", "JAXSEG_DATA_DIR", "JAXSEG_WEIGHTS_DIR"):
            patch.setenv(name, str(folder / name.split("_")[1].lower()))
        yield


ENOUGH = 4 * 2**30
"""Bytes of a process from which compiled programs of modules that are done with are dropped."""


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module():
    """Thousands of compiled programs would fill a machine's memory."""
    yield
    statm = Path("/proc/self/statm")
    if statm.is_file() and int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > ENOUGH:
        jax.clear_caches()
        gc.collect()


class Said(NamedTuple):
    """What a command said: its exit status, its stdout and the lines of its stderr."""

    status: int
    out: str
    err: list[str]


@pytest.fixture
def jaxseg(capsys, monkeypatch):
    """Run a command in this process through its entry point: a verb run alone first keeps its own help options."""
    from jaxseg.cli.main import main

    monkeypatch.setenv("JAXSEG_CACHE", "off")
    monkeypatch.delenv("JAXSEG_TRACEBACK", raising=False)

    def run(*argv) -> Said:
        capsys.readouterr()
        status = main([str(word) for word in argv])
        said = capsys.readouterr()
        return Said(status, said.out, said.err.splitlines())

    return run
