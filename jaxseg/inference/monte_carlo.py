"""Predict with a Bayesian network: average passes with dropout, and return how far they differ."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.predict import in_tiles


def predict_samples(
    run: TrainedModel,
    image: Any,
    *,
    samples: int,
    seed: int = 0,
    tile: int = 1024,
    margin: int | None = None,
    keys: tuple[str, ...] = ("label", "probability", "variance"),
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """What a Bayesian network says of an image, and how sure it is: the mean of ``samples`` passes with dropout.

    Args and errors as :func:`predict`, and:
      samples: passes; see :func:`jaxseg.models.semantic.bayesian_segnet.monte_carlo`.
      seed: of dropout's masks.

    Returns:
      ``label`` and ``probability`` of the mean softmax, and ``variance`` f32[h w], that of the softmax over the
      samples, averaged over the classes.

    Raises:
      BadInput: also, the network has no dropout to sample from.
    """
    if not can_sample(run.model):
        raise BadInput(
            f"{type(run.model).__name__} has no dropout to sample from; "
            "bayesian_segnet_vgg16 and bayesian_segnet_basic have"
        )
    forward, key = _sampled(run.model, run.task, keys, samples), jax.random.key(seed)

    def of_tile(i: int, pixels: np.ndarray) -> Any:
        return forward(jax.random.fold_in(key, i), run.variables, pixels)

    return in_tiles(run.model, image, of_tile, tile, margin, on_tile)


def can_sample(model: Any) -> bool:
    """Whether the network drops values when it is asked to in evaluation."""
    return "sample" in inspect.signature(type(model).__call__).parameters and bool(model.dropout)


@functools.lru_cache(maxsize=8)
def _sampled(model: Any, task: Any, keys: tuple[str, ...], samples: int) -> Callable[[Any, Any, Any], Any]:
    """The compiled step from a key, variables and images to the predictions asked for."""
    from jaxseg.models.semantic.bayesian_segnet import monte_carlo

    def forward(key: jax.Array, variables: Any, image: jax.Array) -> dict[str, jax.Array]:
        seen = monte_carlo(key, model, variables, image, samples=samples)
        found = task.predict({"logits": jnp.log(seen["probability"])}, {"image": image})
        found["variance"] = seen["variance"].mean(axis=-1)
        return {name: found[name] for name in keys}

    return jax.jit(forward)
