"""Outputs of a network that are computed where they are read, so that they need not be kept.

A network with many heads returns their outputs one after the other, and all of them wait for their losses. What a head
makes of maps that all heads share can wait instead, as a function and the arrays that it needs, until its own loss is
taken: one head after the other, forwards and backwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@partial(jax.tree_util.register_dataclass, data_fields=("shared", "own", "given"), meta_fields=("compute",))
@dataclass(frozen=True)
class Deferred:
    """Outputs to be: ``compute(shared, own, given)`` returns them by key.

    >>> resolved({"image": 0, "deferred": Deferred(2, 3, lambda shared, own, given: {"sum": shared + own})})
    {'image': 0, 'sum': 5}

    Attributes:
      shared: the arrays that all heads read.
      own: this head's, its parameters.
      compute: a pure function.
      given: further arrays that it reads, which have no gradient.
    """

    shared: Any
    own: Any
    compute: Callable[[Any, Any, Any], dict[str, Any]]
    given: Any = ()


def resolved(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs with those computed that were deferred, under their own keys.

    >>> resolved({"logits": 1})
    {'logits': 1}
    """
    found: dict[str, Any] = {}
    for key, value in outputs.items():
        found.update(
            value.compute(value.shared, value.own, value.given) if isinstance(value, Deferred) else {key: value}
        )
    return found


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def in_turn(
    functions: Sequence[Callable[[Any, Any, Any], Any]], shared: Any, owns: list[Any], given: list[Any], here: list[Any]
) -> list[Any]:
    """Return ``function(shared, own, given)`` of each function, zeros where ``here`` is false.

    Nothing that a function computes on the way is kept: its gradient computes it again, and that of the next function
    waits for it, so that memory does not grow with their number. A function that is not ``here`` is not run.

    >>> f = lambda shared, own, given: shared * own + given
    >>> sums = in_turn((f, f), jnp.ones(2), [jnp.ones(2), jnp.ones(2)], [0.0, 1.0], [jnp.asarray(True)] * 2)
    >>> [x.tolist() for x in sums]
    [[1.0, 1.0], [2.0, 2.0]]

    Args:
      functions: pure functions of arrays.
      shared: floats that all of them read.
      owns: floats, those of each.
      given: further arrays of each, which have no gradient.
      here: bool[] of each.
    """
    return [
        jax.lax.cond(at, function, partial(_nothing, function), shared, own, own_given)
        for function, own, own_given, at in zip(functions, owns, given, here, strict=True)
    ]


def _nothing(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, *arguments))


def _forth(functions: Any, shared: Any, owns: Any, given: Any, here: Any) -> tuple[Any, Any]:
    return in_turn(functions, shared, owns, given, here), (shared, owns, given, here)


def _back(functions: Any, kept: Any, slopes: list[Any]) -> tuple[Any, list[Any], None, None]:
    shared, owns, given, here = kept
    total = jax.tree.map(jnp.zeros_like, shared)
    found = []
    for function, own, own_given, at, slope in zip(functions, owns, given, here, slopes, strict=True):

        def add(total: Any, shared: Any, own: Any, given: Any, slope: Any, function: Any = function) -> Any:
            _, pull = jax.vjp(lambda a, b: function(a, b, given), shared, own)
            of_shared, of_own = pull(slope)
            return jax.tree.map(jnp.add, total, of_shared), of_own

        def leave(total: Any, shared: Any, own: Any, given: Any, slope: Any) -> Any:
            del shared, given, slope
            return total, jax.tree.map(jnp.zeros_like, own)

        total, of_own = jax.lax.cond(at, add, leave, total, shared, own, own_given, slope)
        found.append(of_own)
    return total, found, None, None


in_turn.defvjp(_forth, _back)
