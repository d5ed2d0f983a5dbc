"""Convert models and variables to Flax NNX and back, through ``flax.nnx.bridge``."""

from typing import Any

import flax.linen as nn
from flax import nnx
from flax.nnx.bridge import variables as bridge


def to_nnx(model: nn.Module, variables: Any) -> Any:
    """Return the model as an NNX module that holds these variables, without initialising or running it.

    Parameters are ``nnx.Param`` and running statistics ``nnx.BatchStat``, at their paths in ``variables``. Call it like
    ``model.apply`` without the first argument; ``train=True`` needs ``mutable=["batch_stats"]``, which updates the
    statistics in place, and ``rngs`` if the network has dropout.

    >>> from jaxseg.models.semantic.unet import unet
    >>> model, image = unet(num_classes=2, depth=1, width=2), jax.numpy.zeros((1, 8, 8, 3), "uint8")
    >>> network = to_nnx(model, jax.jit(model.init)(jax.random.key(0), image))
    >>> sorted(from_nnx(network))
    ['batch_stats', 'params']

    Args:
      model: a network of the zoo, or any linen module.
      variables: of the model, from ``model.init`` or ``run.variables``.
    """
    module = nnx.bridge.ToNNX(model)
    for name, value in bridge.linen_vars_to_nnx_attrs(variables).items():
        setattr(module, name, nnx.data(value))
    return module


def from_nnx(module: Any) -> dict[str, Any]:
    """Return the variables of a module made by ``to_nnx``, for ``model.apply`` and ``jaxseg.save``.

    >>> from jaxseg.models.semantic.unet import unet
    >>> model, image = unet(num_classes=2, depth=1, width=2), jax.numpy.zeros((1, 8, 8, 3), "uint8")
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> jax.tree.structure(from_nnx(to_nnx(model, variables))) == jax.tree.structure(variables)
    True
    """
    held = {name: value for name, value in vars(module).items() if not name.startswith(("to_nnx__", "_pytree__"))}
    return bridge.nnx_attrs_to_linen_vars(held)
