"""jaxseg: dense prediction in Flax that trains, evaluates and ships."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxseg.registry import create_model, list_models

if TYPE_CHECKING:
    from jaxseg.export.hub import push_to_hub
    from jaxseg.foreign import import_weights
    from jaxseg.recipe import Recipe, Stage, override
    from jaxseg.run import Run, load, predict, predict_samples, save
    from jaxseg.train.loop import evaluate, fit

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "Run",
    "Stage",
    "create_model",
    "evaluate",
    "fit",
    "import_weights",
    "list_models",
    "load",
    "override",
    "predict",
    "predict_samples",
    "push_to_hub",
    "save",
]

_LATER = {
    "Recipe": "jaxseg.recipe",
    "Stage": "jaxseg.recipe",
    "override": "jaxseg.recipe",
    "Run": "jaxseg.run",
    "load": "jaxseg.run",
    "import_weights": "jaxseg.foreign",
    "predict": "jaxseg.run",
    "save": "jaxseg.run",
    "predict_samples": "jaxseg.run",
    "push_to_hub": "jaxseg.export.hub",
    "evaluate": "jaxseg.train.loop",
    "fit": "jaxseg.train.loop",
}
"""What brings JAX in comes when it is first asked for: data workers import this package too, and stay light."""


def __getattr__(name: str) -> Any:
    """The public names that live in ``_LATER``'s modules."""
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'jaxseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
