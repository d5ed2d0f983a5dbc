"""Initialise a stage from imported weights: ``Stage(init=Pretrained("mobilenet.npz", RULES, part="backbone"))``.

The file is relative to :func:`jaxseg.files.default_weights_dir`, or absolute, or the name of published weights, which
are downloaded:
``Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet101")``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import traverse_util

from jaxseg.errors import BadInput
from jaxseg.files import default_weights_dir
from jaxseg.types import Rules
from jaxseg.weights import hub
from jaxseg.weights.names import convert
from jaxseg.weights.prefixes import fitting_prefix
from jaxseg.weights.readers import read


@dataclass(frozen=True)
class Pretrained:
    """Weights from a file, for a model or a part of it.

    >>> str(Pretrained("torchvision:IMAGENET1K_V1", (), part="backbone", architecture="resnet50"))
    'torchvision:IMAGENET1K_V1 of resnet50'

    Attributes:
      file: in any format of :mod:`jaxseg.weights.readers`; relative to :func:`jaxseg.files.default_weights_dir`. Or the
        name of published weights, see :mod:`jaxseg.weights.hub`.
      rules: from names in the file to paths of the part, see :mod:`jaxseg.weights.names`; what wrappers of training
        programs put before the names (:mod:`jaxseg.weights.prefixes`) is taken off first.
      part: path of the module to fill, ``"backbone"``; "" is the whole model.
      source: where to get the file, for the error message.
      architecture: of published weights such as ``torchvision:IMAGENET1K_V1``, see
        :data:`jaxseg.weights.published.PUBLISHED`.
    """

    file: str
    rules: Rules
    part: str = ""
    source: str = ""
    architecture: str = ""

    def __str__(self) -> str:
        """Return the file's name and its architecture."""
        return f"{self.file} of {self.architecture}" if self.architecture else self.file

    def load(
        self, variables: Mapping[str, Any], *, model: Any = None, log: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Return all variables of the part from the file, at their place in the model.

        Args:
          variables: of the model, arrays or shapes.
          model: not needed; the rules are given.
          log: called with the prefix of the file's names that was taken off, and with what is not under it.

        Raises:
          BadInput: the file is missing or of an unknown format, the model has no such part, or names and shapes differ.
          FailedRun: the download failed.
        """
        del model
        steps = self.part.split("/") if self.part else []
        target = {}
        for collection, tree in variables.items():
            for step in steps:
                tree = tree.get(step, {}) if isinstance(tree, Mapping) else {}
            if tree:
                target[collection] = tree
        if not target:
            raise BadInput(f"init of {self.file}: the model has no part {self.part!r} with variables")
        leaves = ["/".join(path[1:]) for path in traverse_util.flatten_dict(target)]
        under = fitting_prefix(self._read(), leaves, [self.rules])
        if log is not None:
            for line in under.notes:
                log(f"{self}: {line}")
        found = convert(under.source, target, self.rules)
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
