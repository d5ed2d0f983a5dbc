"""torchvision, also where its compiled operators do not load.

A torchvision wheel built for CUDA cannot load its operators beside a CPU build of torch, and its import then fails on
the first decorator that names one. The networks need none of them: it is enough that the names exist.
"""

import functools
import importlib
import importlib.util
import sys
import warnings

import pytest

REASON = "the oracle is torchvision (pip install --no-deps torchvision, beside the extra 'parity')"


@functools.cache
def _import():
    """torchvision, or what kept it from being imported."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        return None
    from torch import library

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchvision")
        except (RuntimeError, OSError, ImportError):
            for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
                del sys.modules[name]
        _import.operators = library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            _import.operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        try:
            return importlib.import_module("torchvision")
        except (RuntimeError, OSError, ImportError) as error:
            return error


def torchvision_or_skip():
    """The module; skips the test where it cannot be had."""
    module = _import()
    if module is None or isinstance(module, Exception):
        pytest.skip(f"{REASON}: {module or 'not installed'}", allow_module_level=True)
    return module
