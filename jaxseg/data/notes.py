"""Notes on choices made while preparing a data set, shown when it is done."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jaxseg.errors import several

Notes = dict[str, list[str]]
"""Choice -> the files that it was made for."""

_current: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextlib.contextmanager
def gather() -> Iterator[Notes]:
    """Collect the notes made inside the context.

    >>> with gather() as notes:
    ...     note("turned", "a.jpg")
    >>> report(notes)
    ['turned: a.jpg']
    """
    found: Notes = {}
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


def note(decision: str, file: str) -> None:
    """Add a note; outside of :func:`gather` it is dropped.

    >>> note("turned", "a.jpg")
    """
    found = _current.get()
    if found is not None:
        found.setdefault(decision, []).append(file)


def report(notes: Notes) -> list[str]:
    """Return one line per choice, with the first files and the number of others.

    >>> report({"turned": ["a", "b", "c", "d", "e"]})
    ['turned: a, b, c and 2 more']
    """
    return [f"{decision}: {several(files)}" for decision, files in notes.items()]
