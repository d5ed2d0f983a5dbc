"""Models and weights of ours in Flax NNX, and back, through ``flax.nnx.bridge``."""

from typing import Any

import flax.linen as nn
from flax import nnx
from flax.nnx.bridge import variables as bridge


def to_nnx(model: nn.Module, variables: Any) -> Any:
    """The model as an NNX module that holds these variables; nothing is initialised, and nothing runs.

    Parameters are ``nnx.Param`` and running statistics ``nnx.BatchStat``, each under the path that it has in
    ``variables``. Called like ``model.apply`` without its first argument; ``train=True`` needs
    ``mutable=["batch_stats"]``, which updates the statistics in place, and ``rngs`` where the network drops out.

    Args:
      model: a network of the zoo, or any linen module.
      variables: of the model, as ``model.init`` or ``run.variables`` have them.
    """
    module = nnx.bridge.ToNNX(model)
    for name, value in bridge.linen_vars_to_nnx_attrs(variables).items():
        setattr(module, name, nnx.data(value))
    return module


def from_nnx(module: Any) -> dict[str, Any]:
    """The variables of a module that ``to_nnx`` made, as ``model.apply`` and ``jaxseg.save`` take them."""
    held = {name: value for name, value in vars(module).items() if not name.startswith(("to_nnx__", "_pytree__"))}
    return bridge.nnx_attrs_to_linen_vars(held)
