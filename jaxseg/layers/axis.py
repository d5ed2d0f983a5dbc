"""Where this device's rows lie in the global batch.

Inside ``pmap`` or ``shard_map`` over :data:`jaxseg.types.DATA_AXIS` a layer sees only its own rows, under ``jit`` it
sees them all, however they are laid out. Layers that need the whole batch ask here, so that a network says nothing
about devices and every placement computes the same numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxseg.types import DATA_AXIS


def is_split() -> bool:
    """Whether this code runs once per device, with the data axis bound by name."""
    try:
        jax.lax.axis_size(DATA_AXIS)
    except NameError:
        return False
    return True


def mean_over_devices(x: Array) -> Array:
    """The mean of ``x`` over the data axis where that is bound, else ``x`` itself."""
    return jax.lax.pmean(x, DATA_AXIS) if is_split() else x


def device_count() -> int:
    """How many devices share the batch by name: 1 unless the data axis is bound."""
    return jax.lax.axis_size(DATA_AXIS) if is_split() else 1


def global_rows(rows: int) -> Array:
    """Indices i32[rows] of this device's rows within the global batch."""
    local = jnp.arange(rows, dtype=jnp.int32)
    return local + jax.lax.axis_index(DATA_AXIS).astype(jnp.int32) * rows if is_split() else local
