"""What every test runs under: stricter than a user's machine."""

import os
from pathlib import Path

# Tests compile much and run little: code that is not optimised is there sooner. Flags of one's own replace these.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from jaxtyping import install_import_hook

install_import_hook("jaxseg", "beartype.beartype")

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# What compiles slowly compiles once per checkout; git ignores the folder, and deleting it is always safe.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".cache" / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
