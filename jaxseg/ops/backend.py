"""Select the form of operations that have a faster one for CPUs: :mod:`jaxseg.ops.cpu` or XLA's own.

The default, ``"auto"``, defers the choice to compilation (``lax.platform_dependent``): a program exported for several
platforms holds both forms. ``"xla"`` traces XLA's form alone, for translators that do not know such branches (ONNX) and
for analysis, and treats the images of a batch one after the other (:func:`map_images`); ``"cpu"`` traces the CPU's form
alone, for measurements on other platforms.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxseg.errors import BadInput, suggest

BACKENDS = ("auto", "cpu", "xla")

_current: ContextVar[str] = ContextVar("jaxseg_backend", default="auto")


@contextmanager
def using(backend: str) -> Iterator[None]:
    """Trace operations in the given form, inside a ``with`` block or, as a decorator, inside a function.

    The choice is made while tracing and is no part of the cache of an enclosing ``jax.jit``. Decorate the function that
    is compiled: each decoration is a new function, which is traced anew. Operations that are compiled by themselves
    have the choice in their static arguments.

    >>> from jaxseg.ops.conv import conv
    >>> x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    >>> plain = using("xla")(lambda x: conv(x, kernel))
    >>> "platform_index" in str(jax.make_jaxpr(plain)(x))
    False

    Args:
      backend: "auto", "cpu" or "xla".

    Raises:
      BadInput: ``backend`` is none of these.
    """
    if backend not in BACKENDS:
        raise BadInput(f"no backend is called {backend!r}{suggest(backend, BACKENDS)}")
    token = _current.set(backend)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> str:
    """Return the backend of the innermost :func:`using`, or "auto".

    >>> with using("cpu"):
    ...     current()
    'cpu'
    """
    return _current.get()


def choose(*operands: Any, cpu: Callable[..., Any], default: Callable[..., Any], backend: str | None = None) -> Any:
    """Return ``cpu(*operands)`` or ``default(*operands)``, as the backend says; under "auto" where it is compiled.

    >>> choose(2.0, cpu=lambda x: x + 1.0, default=lambda x: x - 1.0, backend="xla")
    1.0

    Args:
      operands: pytrees of arrays.
      cpu: form for CPUs.
      default: form for every other platform; results have the shapes and dtypes of those of ``cpu``.
      backend: :func:`current` by default. Under ``jax.jit`` or ``jax.custom_vjp`` pass it as a static argument, so that
        it is part of the cache's key and known to the gradient.
    """
    backend = backend or current()
    if backend == "auto":
        return lax.platform_dependent(*operands, cpu=cpu, default=default)
    return (cpu if backend == "cpu" else default)(*operands)


def map_images(function: Callable[..., Any]) -> Callable[..., Any]:
    """Map a function of one image over the first axis of all its arguments, by ``jax.vmap``.

    Under "xla" the images follow one another in the program instead, each with operations of its own: translators do
    not know the gathers with a batch axis that ``vmap`` makes.

    >>> with using("xla"):
    ...     map_images(lambda x, i: x[i])(jnp.asarray([[1, 2], [3, 4]]), jnp.asarray([1, 0])).tolist()
    [2, 3]
    """

    def mapped(*arguments: Any) -> Any:
        if current() != "xla":
            return jax.vmap(function)(*arguments)
        count = len(jax.tree.leaves(arguments)[0])
        rows = [function(*jax.tree.map(lambda x, i=i: x[i], arguments)) for i in range(count)]
        return jax.tree.map(lambda *values: jnp.stack(values), *rows)

    return mapped
