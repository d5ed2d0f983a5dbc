"""jaxseg: dense prediction in Flax that trains, evaluates and ships."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxseg.registry import create_model, list_models

if TYPE_CHECKING:
    from jaxseg.run import Run, load, predict

__version__ = "0.1.0"
__all__ = ["Run", "create_model", "list_models", "load", "predict"]


def __getattr__(name: str) -> Any:
    """``Run``, ``load`` and ``predict`` bring JAX in, so they come when first asked for: data workers stay light."""
    if name in ("Run", "load", "predict"):
        return getattr(importlib.import_module("jaxseg.run"), name)
    raise AttributeError(f"module 'jaxseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
