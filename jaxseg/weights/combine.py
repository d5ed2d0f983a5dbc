"""Combine several weight sources into one initialisation, or select some of its variables."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flax import traverse_util

from jaxseg.errors import BadInput


@dataclass(frozen=True)
class Combined:
    """Initialise a model from several sources, each for its own part.

    >>> from jaxseg.weights.pretrained import Pretrained
    >>> str(Combined((Pretrained("a.npz", (), part="backbone"), Pretrained("b.npz", (), part="decoder"))))
    'a.npz, b.npz'

    Attributes:
      starts: sources such as :class:`jaxseg.weights.pretrained.Pretrained`; no two of them fill the same variable.
    """

    starts: tuple[Any, ...]

    def __str__(self) -> str:
        """Return the names of all sources, each once."""
        return ", ".join(dict.fromkeys(str(start) for start in self.starts))

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Return the variables of all parts, by collection and path.

        Args:
          variables: of the model, arrays or shapes.
          model: the linen module, handed to the sources.
          log: likewise.

        Raises:
          BadInput: a source fails, or two of them fill the same variable.
        """
        found: dict[tuple[str, ...], Any] = {}
        for start in self.starts:
            flat = traverse_util.flatten_dict(start.load(variables, model=model, log=log))
            twice = sorted("/".join(path) for path in flat.keys() & found.keys())
            if twice:
                raise BadInput(f"init of {start}: {twice[0]} was already filled by another file")
            found |= flat
        return traverse_util.unflatten_dict(found)


@dataclass(frozen=True)
class Subset:
    """Initialise only some of the variables; the others keep their own initialisation.

    >>> from jaxseg.weights.pretrained import Pretrained
    >>> str(Subset(Pretrained("a.npz", ()), r"encoder.*"))
    'a.npz'

    Attributes:
      start: a source such as :class:`jaxseg.weights.pretrained.Pretrained`, applied to these variables alone.
      paths: regular expression of whole paths, without their collection.
    """

    start: Any
    paths: str

    def __str__(self) -> str:
        """Return the name of the source."""
        return str(self.start)

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Return the variables at those paths.

        Args:
          variables: of the model, arrays or shapes.
          model: the linen module, handed to the sources.
          log: likewise.

        Raises:
          BadInput: no path matches, or the source fails.
        """
        flat = traverse_util.flatten_dict(dict(variables))
        some = {path: leaf for path, leaf in flat.items() if re.fullmatch(self.paths, "/".join(path[1:]))}
        if not some:
            raise BadInput(f"init of {self.start}: no variable of the model matches {self.paths!r}")
        return self.start.load(traverse_util.unflatten_dict(some), model=model, log=log)
