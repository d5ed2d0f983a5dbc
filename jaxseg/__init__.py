"""jaxseg: dense prediction in Flax that trains, evaluates and ships."""

import importlib
from typing import TYPE_CHECKING, Any

from jaxseg.registry import create_model, list_models

if TYPE_CHECKING:
    from jaxseg.conversion.importer import import_weights
    from jaxseg.export.hub import push_to_hub
    from jaxseg.inference.load import TrainedModel, load, save
    from jaxseg.inference.monte_carlo import predict_samples
    from jaxseg.inference.predict import predict
    from jaxseg.recipe import Recipe, Stage, override
    from jaxseg.train.loop import evaluate, fit

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "Stage",
    "TrainedModel",
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
    "TrainedModel": "jaxseg.inference.load",
    "load": "jaxseg.inference.load",
    "import_weights": "jaxseg.conversion.importer",
    "predict": "jaxseg.inference.predict",
    "save": "jaxseg.inference.load",
    "predict_samples": "jaxseg.inference.monte_carlo",
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
