"""The two errors for users, suggestions of similar names, and the first of many names."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

Value = TypeVar("Value")


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


def several(names: Sequence[str], most: int = 3, *, between: str = ", ") -> str:
    """Return the first names, and how many more there are.

    >>> several(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'

    Args:
      names: all of them.
      most: how many are named.
      between: stands between them.
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def pick(table: Mapping[str, Value], name: str, what: str) -> Value:
    """Return a row of a table of variants.

    Args:
      table: name -> row.
      name: of the row.
      what: the family, for the message.

    Raises:
      BadInput: there is no such row; the names are listed.

    >>> pick({"tiny": 1, "base": 2}, "huge", "Swin")
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: no Swin is called 'huge'; there are: tiny, base
    """
    if name not in table:
        raise BadInput(f"no {what} is called {name!r}; there are: {', '.join(table)}")
    return table[name]
