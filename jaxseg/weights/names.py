"""The rename engine: a flat state dict of another framework into a model's variables, strictly.

Rules stand beside each architecture as pairs ``(regex, path)``. A regex must match a whole source name; the path may
use its groups (``\\1``) and leads to a leaf of the target without the collection: ``layer1_0/norm1/mean``. None leaves
the entry out on purpose. The first rule that matches decides. Layouts follow from the target leaf, see :func:`lay_out`;
the kernel of a transposed convolution, whose axes torch orders otherwise, says so: ``up/kernel transposed``.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from jaxseg.types import BadInput, Rules


def convert(source: Mapping[str, np.ndarray], target: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Variables in the structure, shapes and dtypes of ``target``, with the numbers of ``source``.

    Args:
      source: arrays by name, in torch's layouts (OIHW kernels, OI dense).
      target: variables of the model, arrays or shapes: ``{"params": ..., "batch_stats": ...}``.
      rules: as described above.

    Returns:
      A tree of NumPy arrays like ``target``.

    Raises:
      BadInput: a target that nothing fills or that two sources fill, a source that no rule knows, a path that the model
        does not have, or a shape that does not fit. All faults are listed at once.
    """
    leaves = _leaves(target)
    filled: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    faults = []
    for name, value in source.items():
        path = rename(name, rules)
        if path is None:
            continue
        path, _, order = path.partition(" ")
        if not path:
            faults.append(f"{name}: no rule knows this name")
        elif path not in leaves:
            faults.append(f"{name}: the model has no {path}")
        elif path in filled:
            faults.append(f"{name}: {path} was already filled by {origin[path]}")
        else:
            key, leaf = leaves[path]
            array = np.asarray(value)
            array = np.swapaxes(array, 0, 1) if order == "transposed" else array
            array = lay_out(array, tuple(leaf.shape), key[-1])
            if array is None:
                faults.append(f"{name}: shape {tuple(np.shape(value))} does not fit {path} of {tuple(leaf.shape)}")
            filled[path] = np.zeros(0) if array is None else array.astype(leaf.dtype)
            origin[path] = name
    faults += [f"{path}: nothing in the file fills it" for path in leaves if path not in filled]
    if faults:
        raise BadInput(f"{len(faults)} weights do not fit the model:\n  " + "\n  ".join(faults))
    return traverse_util.unflatten_dict({key: filled[path] for path, (key, _) in leaves.items()})


def rename(name: str, rules: Rules) -> str | None:
    """The path that the first matching rule gives; "" if no rule matches, None if the entry is to be left out."""
    for pattern, path in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return None if path is None else match.expand(path) if match.re.groups else path
    return ""


def lay_out(array: np.ndarray, shape: tuple[int, ...], leaf: str) -> np.ndarray | None:
    """A torch array in the layout of our leaf, or None where it does not fit.

    A "kernel" of four axes is HWIO: from OIHW, or from a fully connected layer O(IHW) that is read as a convolution.
    A "kernel" of two axes is IO, from OI. Everything else keeps its shape.
    """
    if leaf == "kernel" and len(shape) == 4:
        h, w, i, o = shape
        if array.ndim == 2 and array.shape == (o, i * h * w):
            array = array.reshape(o, i, h, w)
        return array.transpose(2, 3, 1, 0) if array.shape == (o, i, h, w) else None
    if leaf == "kernel" and len(shape) == 2:
        return array.T if array.shape == shape[::-1] else None
    return array if array.shape == shape else None


def _leaves(target: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Path without its collection -> (whole path, leaf)."""
    leaves: dict[str, tuple[tuple[str, ...], Any]] = {}
    for key, leaf in traverse_util.flatten_dict(dict(target)).items():
        path = "/".join(key[1:])
        if path in leaves:
            raise BadInput(f"{path} is in two collections: {leaves[path][0][0]} and {key[0]}")
        leaves[path] = (key, leaf)
    return leaves
