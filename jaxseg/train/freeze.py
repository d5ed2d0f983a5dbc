r"""Freeze variables of a network by their paths: no gradient, no decay, and statistics that stay.

Paths are without their collection, ``"backbone/stem/norm/mean"``, and expressions may match anywhere in them, as in
:mod:`jaxseg.train.optim`. A frozen parameter gets no gradient (the backward pass below it is not computed) and no
update, so that weight decay does not shrink it. A BatchNorm whose ``mean`` is frozen normalises by its running
statistics, in training too: ``r"^backbone/.*/(mean|var)$"`` does that and still trains scales and shifts, which is what
fine-tuning with two or four images a step needs.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxseg.errors import BadInput
from jaxseg.layers.norm import BatchNorm
from jaxseg.train.optim import path_of

Patterns = tuple[str, ...]


def is_frozen(path: str, patterns: Patterns) -> bool:
    """Return True if one of the expressions matches somewhere in the path.

    >>> is_frozen("backbone/conv1/kernel", (r"^backbone/",))
    True
    """
    return any(re.search(pattern, path) for pattern in patterns)


def without_gradient(params: Any, patterns: Patterns) -> Any:
    """Return the parameters, the frozen ones as constants.

    >>> jax.grad(lambda p: without_gradient(p, ("^a",))["a"] * 3.0)({"a": 1.0})
    {'a': Array(0., dtype=float32, weak_type=True)}
    """
    return _map(jax.lax.stop_gradient, params, patterns)


def without_update(updates: Any, patterns: Patterns) -> Any:
    """Return the updates, those of frozen parameters zero.

    >>> float(without_update({"a": jnp.ones(())}, ("^a",))["a"])
    0.0
    """
    return _map(jnp.zeros_like, updates, patterns)


def restored(found: Any, before: Any, patterns: Patterns) -> Any:
    """Return a collection with the frozen leaves as they were before.

    >>> restored({"a": 1, "b": 1}, {"a": 0, "b": 0}, ("^a",))
    {'a': 0, 'b': 1}
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, new, old: old if is_frozen(path_of(path), patterns) else new, found, before
    )


@contextlib.contextmanager
def frozen_statistics(patterns: Patterns) -> Iterator[None]:
    """Within the context, every BatchNorm whose ``mean`` is frozen uses and keeps its running statistics.

    >>> norm, x = BatchNorm(), jnp.full((2, 1, 1, 1), 3.0)
    >>> variables = norm.init(jax.random.key(0), x, train=False)
    >>> with frozen_statistics(("mean",)):
    ...     y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    >>> bool(jnp.allclose(y, 3.0, atol=1e-3))
    True
    """
    if not patterns:
        yield
        return

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        called = isinstance(module, BatchNorm) and context.method_name == "__call__"
        if called and is_frozen("/".join((*module.path, "mean")), patterns):
            kwargs = {**kwargs, "train": False}
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def check_freeze(patterns: Patterns, collections: Any) -> None:
    """Raise if an expression freezes nothing, or if nothing is left to train.

    >>> check_freeze((r"^backbone/",), {"params": {"backbone": {"kernel": 0}, "head": {"kernel": 0}}})

    Args:
      patterns: of ``Stage.freeze``.
      collections: the network's variables.

    Raises:
      BadInput: so it is, or one is not a regular expression.
    """
    own = {name: jax.tree_util.tree_leaves_with_path(tree) for name, tree in collections.items()}
    paths = {name: [path_of(path) for path, _ in leaves] for name, leaves in own.items()}
    known = [path for found in paths.values() for path in found]
    for pattern in patterns:
        try:
            hits = any(re.search(pattern, path) for path in known)
        except re.error as error:
            raise BadInput(f"freeze: {pattern!r} is not a regular expression: {error}") from error
        if not hits:
            raise BadInput(f"freeze: no variable matches {pattern!r}; paths look like {known[0]!r}, {known[-1]!r}")
    if patterns and all(is_frozen(path, patterns) for path in paths["params"]):
        raise BadInput(f"freeze: {', '.join(patterns)} leaves no parameter to train")


def _map(change: Callable[[Any], Any], tree: Any, patterns: Patterns) -> Any:
    if not patterns:
        return tree
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf) if is_frozen(path_of(path), patterns) else leaf, tree
    )
