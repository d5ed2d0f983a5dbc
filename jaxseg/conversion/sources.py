"""Which kind of source a path or a name is: checkpoints of a training, a saved model, or third-party weights."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxseg.export import folder
from jaxseg.weights import hub
from jaxseg.weights.huggingface import CARDS
from jaxseg.weights.readers import IN_FOLDER

Kind = Literal["training", "model", "weights"]
"""A work directory or checkpoint; what ``jaxseg.save`` wrote; a file or folder of another framework's weights."""


@dataclass(frozen=True)
class Located:
    """A source that is on this machine.

    >>> Located("hf:ORG/REPO", Path("cache", "weights.npz"), "weights").name
    'hf:ORG/REPO'

    Attributes:
      source: as the user gave it.
      path: of the file or folder; in the cache if it was downloaded.
      kind: what it holds.
    """

    source: str
    path: Path
    kind: Kind

    @property
    def name(self) -> str:
        """The file's name, or the source as given where it was downloaded."""
        return self.path.name if self.path == Path(self.source) else self.source


def locate(
    source: str | os.PathLike[str], model: str = "", *, on_bytes: Callable[[int, int | None], None] | None = None
) -> Located:
    """Find a source, download it where needed, and return what it is.

    Args:
      source: a path, or a name such as ``hf:ORG/REPO`` (:mod:`jaxseg.weights.hub`).
      model: whose weights a name such as ``torchvision:TAG`` means.
      on_bytes: called with the bytes that have been downloaded and, where known, their total.

    Raises:
      BadInput: there is no such source.
      FailedRun: the download failed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as empty:
    ...     locate(empty).kind
    'training'
    """
    path = hub.fetch(os.fspath(source), model, on_bytes=on_bytes)
    return Located(os.fspath(source), path, _kind(path))


def _kind(path: Path) -> Kind:
    if folder.is_model(path):
        return "model"
    if path.is_file() or any((path / name).is_file() for name in (*IN_FOLDER, *CARDS)):
        return "weights"
    return "training"
