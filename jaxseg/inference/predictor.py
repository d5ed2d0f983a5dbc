"""Predictors: functions on the host from images to predictions of the same size, built up by modifiers.

``base`` runs the network on images of a size that it takes. A modifier takes a predictor and returns one, so that they
compose, from the inside out: fewer compiled sizes (:func:`jaxseg.inference.shapes.shaped`), tiles
(:func:`jaxseg.inference.tiling.tiled`), a CRF (:func:`jaxseg.inference.crf.refined`), test-time geometry
(:func:`jaxseg.inference.geometry.with_geometry`). What changes the network's own pass, test-time augmentation and
dropout, takes the place of the innermost one: :func:`augmented`, :func:`jaxseg.inference.monte_carlo.sampled`.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.forward import forward
from jaxseg.inference.extent import EXTENT, within
from jaxseg.inference.load import TrainedModel, example_image
from jaxseg.inference.tta import TestTimeAugmented, View
from jaxseg.types import PREDICTIONS, bare_key

Predictor = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
"""From a batch on the host, ``image`` [b h w c] and what else the model needs, to predictions on the host."""


def base(run: TrainedModel, keys: tuple[str, ...] | None = None) -> Predictor:
    """Return the innermost predictor: one compiled pass, compiled once for each size of image.

    Args:
      run: gives model, task and variables; the variables are on the device from the first call on.
      keys: predictions to return; None returns all of them.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = unet(num_classes=3, depth=1, width=2), jnp.zeros((2, 8, 8, 3), jnp.uint8)
      >>> variables = model.init(jax.random.key(0), image)
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> base(run, ("label",))({"image": np.asarray(image)})["label"].shape
      (2, 8, 8)
    """
    step, variables = compiled(run.model, run.task, keys), run.variables_on_device

    def predict(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return jax.device_get(step(variables, {key: value for key, value in batch.items() if key != TILE}))

    return predict


def augmented(run: TrainedModel, views: tuple[View, ...]) -> TrainedModel:
    """Return the model with test-time augmentation: its outputs are means over ``views``; without views, itself.

    Raises:
      BadInput: the model predicts objects, which have no mean.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=3, depth=1, width=2)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> from jaxseg.inference.tta import FLIP
      >>> len(augmented(run, FLIP).model.views), augmented(run, ()) is run
      (2, True)
    """
    if views and takes_size(run):
        raise BadInput(
            f"--tta takes means of maps of numbers; {type(run.model).__name__} predicts objects, which have no mean"
        )
    return replace(run, model=TestTimeAugmented(run.model, views)) if views else run


TILE = "tile"
"""Number of the tile in its image, which ``tiled`` adds to a batch: dropout draws anew for each."""


@functools.lru_cache(maxsize=8)
def compiled(model: Any, task: Any, keys: tuple[str, ...] | None) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """Return the jitted step from variables and a batch to the predictions named by ``keys``.

    Example:
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = unet(num_classes=3, depth=1, width=2), jnp.zeros((2, 8, 8, 3), jnp.uint8)
      >>> variables = jax.eval_shape(model.init, jax.random.key(0), image)
      >>> jax.eval_shape(compiled(model, Semantic(3), ("label",)), variables, {"image": image})["label"].shape
      (2, 8, 8)
    """
    predictions = forward(model, task)

    def chosen(variables: Any, batch: Any) -> dict[str, jax.Array]:
        given = {key: value for key, value in batch.items() if key != EXTENT}
        with within(batch[EXTENT]) if EXTENT in batch else contextlib.nullcontext():
            found = predictions(variables, given)
        return found if keys is None else {key: found[key] for key in keys if key in found}

    return jax.jit(chosen)


def small_keys(run: TrainedModel) -> tuple[str, ...]:
    """Return the predictions that do not grow with the number of classes, so all but probabilities.

    A large photograph's probabilities take ``4 k`` bytes a pixel, its label four.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model = unet(num_classes=3, depth=1, width=2)
      >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8))
      >>> run = TrainedModel(model, variables, Semantic(3), None, 0, Path(), 0, False)
      >>> small_keys(run)
      ('label',)
    """
    batch = {"image": example_image(run.model)}
    shapes = jax.eval_shape(forward(run.model, run.task), run.variables, batch)
    rows = {key: PREDICTIONS.get(bare_key(key)) for key in shapes}
    return tuple(key for key, row in rows.items() if row is None or "k" not in row.letters)


def is_map(name: str, value: Any, size: tuple[int, int]) -> bool:
    """Return True if a prediction [b ...] moves with the pixels of the image.

    The vocabulary decides; a key that it lacks is a map if its second and third axis are ``size``.

    >>> is_map("label", np.zeros((1, 4, 6)), (4, 6)), is_map("boxes", np.zeros((1, 4, 4)), (4, 4))
    (True, False)
    """
    row = PREDICTIONS.get(bare_key(name))
    if row is not None:
        return row.is_map
    return np.ndim(value) >= 3 and tuple(np.shape(value)[1:3]) == tuple(size)


def takes_size(run: TrainedModel) -> bool:
    """Return True if the network is told which part of its image is no padding, as detectors are.

    Example:
      >>> from pathlib import Path
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> takes_size(TrainedModel(unet(), {}, Semantic(21), None, 0, Path(), 0, False))
      False
    """
    batch = {"image": example_image(run.model), "size": jax.ShapeDtypeStruct((1, 2), np.int32)}
    return "size" in jax.eval_shape(lambda given: run.task.inputs(given, train=False), batch)
