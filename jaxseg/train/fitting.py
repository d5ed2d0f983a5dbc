"""Weights that are computed from what the stage before learnt and from the data: ``Stage(init=RegionSVMs())``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Fitting(Protocol):
    """Source of weights that needs the stage before it, the data and a folder for what it computes on the way.

    >>> isinstance(object(), Fitting)
    False
    """

    def fit(
        self,
        variables: Mapping[str, Any],
        *,
        stage: Any,
        data_dir: Any = None,
        folder: Path,
        log: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Return some of the model's variables, under their collections and paths.

        Args:
          variables: of the stage's model, with the weights of the stage before where they fit.
          stage: with model and data.
          data_dir: where prepared data lie.
          folder: for what is kept on disk.
          log: called with each line that the user should read.
        """
        ...
