"""Change what one flag of the command line stands for throughout a recipe: precision, weights, freezing, patience."""

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxseg.conversion.initial import WeightsFrom
from jaxseg.errors import BadInput
from jaxseg.override import fields
from jaxseg.recipe import Recipe

PRECISIONS = {"float32": jnp.float32, "bf16": jnp.bfloat16}
"""Compute dtypes by the names that ``--precision`` takes."""


def with_precision(model: Any, precision: str) -> Any:
    """Return the model with another compute dtype in all its parts; parameters, statistics and losses stay float32.

    >>> from jaxseg.registry import create_small
    >>> with_precision(create_small("fpn_resnet50"), "bf16").backbone.dtype.__name__
    'bfloat16'

    Raises:
      BadInput: the precision is unknown, or the model has no dtype.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"precision is {precision!r}, but must be {' or '.join(PRECISIONS)}")
    made = _with_dtype(model, PRECISIONS[precision])
    if made == model and precision != "float32":
        raise BadInput(f"{type(model).__name__} has no dtype, so its precision cannot be set")
    return made


def adjust(
    recipe: Recipe,
    *,
    precision: str | None = None,
    weights: str = "",
    architecture: str = "",
    freeze: tuple[str, ...] = (),
    patience: int | None = None,
) -> Recipe:
    """Return the recipe with what is given in all its stages; the weights in the first.

    >>> from jaxseg.recipe import load_file
    >>> from jaxseg.recipe_files import find_file
    >>> adjust(load_file(find_file("unet_scenes")), patience=3).stages[0].patience
    3

    Args:
      recipe: any.
      precision: of :data:`PRECISIONS`; None for the models' own.
      weights: a source for the first stage, see :class:`jaxseg.conversion.initial.WeightsFrom`; "" for its own.
      architecture: whose weights a name such as ``torchvision:TAG`` means.
      freeze: added to what each stage freezes.
      patience: of each stage; None for its own.

    Raises:
      BadInput: the precision is unknown, or a model has no dtype.
    """
    stages = []
    for number, stage in enumerate(recipe.stages):
        changes: dict[str, Any] = {"freeze": (*stage.freeze, *freeze)}
        if precision is not None:
            changes["model"] = with_precision(stage.model, precision)
        if weights and number == 0:
            changes["init"] = WeightsFrom(weights, architecture)
        if patience is not None:
            changes["patience"] = patience
        stages.append(replace(stage, **changes))
    return replace(recipe, stages=tuple(stages))


def _with_dtype(model: Any, dtype: Any) -> Any:
    changes: dict[str, Any] = {}
    for field in fields(model):
        inside = getattr(model, field.name)
        if field.name == "dtype":
            changes["dtype"] = dtype
        elif isinstance(inside, nn.Module):
            changes[field.name] = _with_dtype(inside, dtype)
    return model.clone(**changes) if changes else model
