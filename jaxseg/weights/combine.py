"""Beginnings of a stage made of others: ``Combined((Pretrained(...), Pretrained(...)))``, ``Subset(start, PATHS)``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flax import traverse_util

from jaxseg.errors import BadInput


@dataclass(frozen=True)
class Combined:
    """What several starts bring, each for its own part of the model.

    Attributes:
      starts: such as :class:`jaxseg.weights.pretrained.Pretrained`; no two of them fill the same variable.
    """

    starts: tuple[Any, ...]

    def __str__(self) -> str:
        """The names of all, each once."""
        return ", ".join(dict.fromkeys(str(start) for start in self.starts))

    def load(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of all parts, under their collections and paths.

        Args:
          variables: of the model, arrays or shapes.

        Raises:
          BadInput: a start fails, or two of them fill the same variable.
        """
        found: dict[tuple[str, ...], Any] = {}
        for start in self.starts:
            flat = traverse_util.flatten_dict(start.load(variables))
            twice = sorted("/".join(path) for path in flat.keys() & found.keys())
            if twice:
                raise BadInput(f"init of {start}: {twice[0]} was already filled by another file")
            found |= flat
        return traverse_util.unflatten_dict(found)


@dataclass(frozen=True)
class Subset:
    """A start for some of the variables; the others begin as they would without it.

    Attributes:
      start: such as :class:`jaxseg.weights.pretrained.Pretrained`, whose part is held to these variables alone.
      paths: regular expression of whole paths, without their collection.
    """

    start: Any
    paths: str

    def __str__(self) -> str:
        """The name of the start."""
        return str(self.start)

    def load(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The variables of those paths.

        Args:
          variables: of the model, arrays or shapes.

        Raises:
          BadInput: no path fits, or the start fails.
        """
        flat = traverse_util.flatten_dict(dict(variables))
        some = {path: leaf for path, leaf in flat.items() if re.fullmatch(self.paths, "/".join(path[1:]))}
        if not some:
            raise BadInput(f"init of {self.start}: no variable of the model matches {self.paths!r}")
        return self.start.load(traverse_util.unflatten_dict(some))
