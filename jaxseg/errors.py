"""The two errors for users, and suggestions of similar names."""

import difflib
from collections.abc import Iterable
from typing import Any


class BadInput(ValueError):
    """Bad input from the caller: one line says what is wrong and what would work. The command line exits with 2."""


class FailedRun(RuntimeError):
    """A run that failed without a mistake by the caller. The command line exits with 1."""


def suggest(name: str, known: Iterable[Any]) -> str:
    """Return a phrase that offers the names closest to ``name``, or lists all ``known`` ones when they are few.

    >>> suggest("unte", ["unet", "fcn"])
    "; did you mean 'unet'?"
    """
    known = sorted(str(k) for k in known)
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    return f"; there are: {', '.join(known)}" if 0 < len(known) <= 24 else ""
