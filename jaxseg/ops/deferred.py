"""Outputs of a network that are computed where they are read, so that they need not be kept.

A network with many heads returns their outputs one after the other, and all of them wait for their losses. What a head
would make of maps that all heads share can wait instead, as a function and the arrays that it needs: a task resolves its
own outputs inside its loss, under ``jax.checkpoint``, and nothing of them outlives it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct


class Deferred(flax.struct.PyTreeNode):
    """Outputs to be: ``compute(arrays)`` returns them by key.

    >>> resolved({"image": 0, "deferred": Deferred((2, 3), lambda pair: {"sum": pair[0] + pair[1]})})
    {'image': 0, 'sum': 5}

    Attributes:
      arrays: what they depend on, parameters included.
      compute: a pure function.
    """

    arrays: Any
    compute: Callable[[Any], dict[str, Any]] = flax.struct.field(pytree_node=False)


def resolved(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs with those computed that were deferred, under their own keys.

    >>> resolved({"logits": 1})
    {'logits': 1}
    """
    found: dict[str, Any] = {}
    for key, value in outputs.items():
        found.update(value.compute(value.arrays) if isinstance(value, Deferred) else {key: value})
    return found


def is_deferred(outputs: Mapping[str, Any]) -> bool:
    """Return True if any of the outputs is yet to be computed.

    >>> is_deferred({"logits": 1})
    False
    """
    return any(isinstance(value, Deferred) for value in outputs.values())
