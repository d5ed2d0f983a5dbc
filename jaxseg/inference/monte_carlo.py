"""Predict with a Bayesian network: average passes with dropout, and return how far they differ."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.predict import assembled, predict_with
from jaxseg.inference.predictor import TILE, Predictor


def predict_samples(
    run: TrainedModel,
    image: Any,
    *,
    samples: int,
    seed: int = 0,
    tile: int | None = None,
    margin: int | None = None,
    keys: tuple[str, ...] | None = None,
    shapes: tuple[tuple[int, int], ...] = (),
    on_tile: Callable[[], None] | None = None,
) -> dict[str, np.ndarray]:
    """Predict an image by the mean of ``samples`` passes with dropout.

    Args and errors as ``jaxseg.predict``, and:
      samples: passes; see :func:`jaxseg.models.semantic.bayesian_segnet.monte_carlo`.
      seed: of dropout's masks.

    Returns:
      ``label`` and ``probability`` of the mean softmax, and ``variance`` f32[h w], that of the softmax over the
      samples, averaged over the classes.

    Raises:
      BadInput: also, the network has no dropout to sample from.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = bayesian_segnet_basic(3, width=2), jnp.zeros((16, 16, 3), jnp.uint8)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), image[None])
      >>> variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> {key: value.shape for key, value in sorted(predict_samples(run, image, samples=2).items())}
      {'label': (16, 16), 'probability': (16, 16, 3), 'variance': (16, 16)}
    """
    inner = sampled(run, keys, samples=samples, seed=seed)
    return predict_with(assembled(inner, run, tile=tile, margin=margin, shapes=shapes, on_tile=on_tile), run, image)


def sampled(run: TrainedModel, keys: tuple[str, ...] | None = None, *, samples: int, seed: int = 0) -> Predictor:
    """Return an innermost predictor, in the place of :func:`jaxseg.inference.predictor.base`, that samples dropout.

    Each tile of an image draws masks of its own.

    Raises:
      BadInput: the network has no dropout to sample from.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = bayesian_segnet_basic(3, width=2), jnp.zeros((1, 16, 16, 3), jnp.uint8)
      >>> shapes = jax.eval_shape(model.init, jax.random.key(0), image)
      >>> variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> sampled(run, samples=2)({"image": np.asarray(image)})["variance"].shape
      (1, 16, 16)
    """
    if not can_sample(run.model):
        raise BadInput(
            f"{type(run.model).__name__} has no dropout to sample from; "
            "bayesian_segnet_vgg16 and bayesian_segnet_basic have"
        )
    step, key, variables = _compiled(run.model, run.task, keys, samples), jax.random.key(seed), run.variables_on_device

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return jax.device_get(step(jax.random.fold_in(key, int(batch.get(TILE, 0))), variables, batch["image"]))

    return predict


def can_sample(model: Any) -> bool:
    """Return True if the model has dropout that can be kept on at test time.

    Example:
      >>> from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
      >>> from jaxseg.models.semantic.unet import unet
      >>> can_sample(bayesian_segnet_basic()), can_sample(unet())
      (True, False)
    """
    return "sample" in inspect.signature(type(model).__call__).parameters and bool(model.dropout)


@functools.lru_cache(maxsize=8)
def _compiled(
    model: Any, task: Any, keys: tuple[str, ...] | None, samples: int
) -> Callable[[Any, Any, Any], dict[str, jax.Array]]:
    """The jitted step from a key, variables and images to the predictions named by ``keys``."""
    from jaxseg.models.semantic.bayesian_segnet import monte_carlo

    def chosen(key: jax.Array, variables: Any, image: jax.Array) -> dict[str, jax.Array]:
        drawn = monte_carlo(key, model, variables, image, samples=samples)
        found = dict(task.predict({"logits": jnp.log(drawn["probability"])}, {"image": image}))
        found["variance"] = drawn["variance"].mean(axis=-1)
        return found if keys is None else {name: found[name] for name in keys}

    return jax.jit(chosen)
