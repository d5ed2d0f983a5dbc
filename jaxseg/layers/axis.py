"""Position of this device's rows in the global batch.

Inside ``pmap`` or ``shard_map`` over :data:`jaxseg.types.DATA_AXIS` a layer sees only its own rows; under ``jit`` it
sees the global batch. Layers that depend on the whole batch use these functions, so that networks stay independent of
devices and every placement computes the same numbers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxseg.types import DATA_AXIS


def is_split() -> bool:
    """Return True if this code runs once per device, with the data axis bound by name.

    >>> is_split()
    False
    """
    try:
        jax.lax.axis_size(DATA_AXIS)
    except NameError:
        return False
    return True


def mean_over_devices(x: Array) -> Array:
    """Return the mean of ``x`` over the data axis if it is bound, else ``x``.

    >>> float(mean_over_devices(jnp.float32(3.0)))
    3.0
    """
    return jax.lax.pmean(x, DATA_AXIS) if is_split() else x


def device_count() -> int:
    """Return the size of the data axis: 1 unless it is bound.

    >>> device_count()
    1
    """
    return jax.lax.axis_size(DATA_AXIS) if is_split() else 1


def global_rows(rows: int) -> Array:
    """Return the indices i32[rows] of this device's rows in the global batch.

    >>> global_rows(2).tolist()
    [0, 1]
    """
    local = jnp.arange(rows, dtype=jnp.int32)
    return local + jax.lax.axis_index(DATA_AXIS).astype(jnp.int32) * rows if is_split() else local
