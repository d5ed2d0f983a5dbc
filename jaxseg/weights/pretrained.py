"""Imported weights as the beginning of a training: ``Stage(init=Pretrained("mobilenet.npz", RULES, part="backbone"))``.

The file lies in :func:`jaxseg.files.default_weights_dir`, or wherever its absolute path says; or it is a name and is
downloaded:
``Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet101")``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxseg.errors import BadInput
from jaxseg.files import default_weights_dir
from jaxseg.types import Rules
from jaxseg.weights import hub
from jaxseg.weights.names import convert
from jaxseg.weights.readers import read


@dataclass(frozen=True)
class Pretrained:
    """Weights of a file for a whole model or a part of it.

    Attributes:
      file: of any kind that :mod:`jaxseg.weights.readers` knows; relative paths begin at
        :func:`jaxseg.files.default_weights_dir`. Or a name of published weights, see :mod:`jaxseg.weights.hub`.
      rules: from the names in the file to the paths of the part, see :mod:`jaxseg.weights.names`.
      part: path of the module that is filled, ``"backbone"``; "" is the model itself.
      source: where the file is to be had, for the error message.
      architecture: whose weights a name such as ``torchvision:IMAGENET1K_V1`` means, see
        :data:`jaxseg.weights.published.PUBLISHED`.
    """

    file: str
    rules: Rules
    part: str = ""
    source: str = ""
    architecture: str = ""

    def __str__(self) -> str:
        """The file's name, and whose it is."""
        return f"{self.file} of {self.architecture}" if self.architecture else self.file

    def load(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The part's variables from the file, at their place in the model: every one of them, and nothing else.

        Args:
          variables: of the model, arrays or shapes.

        Raises:
          BadInput: the file is absent or of another kind, the model has no such part, or names and shapes do not fit.
          FailedRun: the download failed.
        """
        steps = self.part.split("/") if self.part else []
        target = {}
        for collection, tree in variables.items():
            for step in steps:
                tree = tree.get(step, {}) if isinstance(tree, Mapping) else {}
            if tree:
                target[collection] = tree
        if not target:
            raise BadInput(f"init of {self.file}: the model has no part {self.part!r} with variables")
        found = convert(self._read(), target, self.rules)
        for step in reversed(steps):
            found = {collection: {step: tree} for collection, tree in found.items()}
        return found

    def _read(self) -> dict[str, np.ndarray]:
        if hub.is_name(self.file):
            return read(hub.fetch(self.file, self.architecture))
        path = default_weights_dir() / self.file
        if not path.is_file():
            raise BadInput(f"there is no file of weights {str(path)!r}; {self.source or 'put it there'}")
        return read(path)
