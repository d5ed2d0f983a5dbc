"""Problems of a folder's files: the first one is an error, unless all of them are being gathered for ``data check``."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jaxseg.errors import BadInput

Problems = dict[str, None]
"""Problems in the order in which they were met; a dict, since each counts once."""

_current: ContextVar[Problems | None] = ContextVar("problems", default=None)


@contextlib.contextmanager
def gather() -> Iterator[Problems]:
    """Collect the problems reported inside the context, each once, instead of raising the first.

    >>> with gather() as found:
    ...     report("a.png has no mask")
    ...     report("a.png has no mask")
    >>> list(found)
    ['a.png has no mask']
    """
    found: Problems = {}
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


def report(problem: str) -> None:
    """Raise BadInput, or inside of :func:`gather` add to the list and return: the caller then leaves the file out.

    Args:
      problem: one line that names the file, what is wrong with it and what would work.

    Raises:
      BadInput: outside of :func:`gather`.

    >>> report("a.png has no mask")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: a.png has no mask
    """
    found = _current.get()
    if found is None:
        raise BadInput(problem)
    found[problem] = None


@contextlib.contextmanager
def each() -> Iterator[None]:
    """Report what the block raises as BadInput, and go on behind it.

    >>> with gather() as found:
    ...     for name in ("a.png", "b.png"):
    ...         with each():
    ...             raise BadInput(f"{name} has no mask")
    >>> len(found)
    2
    """
    try:
        yield
    except BadInput as error:
        report(str(error))
