"""Evaluate as :mod:`jaxseg.inference.predict` predicts: image by image, cut into tiles, objects stitched."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.data.records import known
from jaxseg.errors import BadInput
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.predict import assembled
from jaxseg.inference.predictor import base


def evaluate_tiled(
    run: TrainedModel,
    batches: Iterable[Mapping[str, Any]],
    *,
    tile: int,
    margin: int | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Compute the task's metrics over all rows of ``batches`` whose ``real`` is not false, tile by tile.

    What is evaluated on is what the batches hold: their transforms have been applied, and of a canvas only ``size``,
    where the batch has it, is image.

    Args:
      run: from ``jaxseg.load``.
      batches: one pass over a split.
      tile: largest side of a tile.
      margin: as :func:`jaxseg.inference.predict.predict` takes it.
      on_batch: called with the number of batches observed so far.

    Returns:
      Figures by name, as the task's metrics describe them.

    Raises:
      BadInput: a metric needs a prediction that tiles cannot give, or there are several processes.

    >>> from pathlib import Path
    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), np.zeros((1, 40, 64, 3), np.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> run = TrainedModel(model, variables, Semantic(2), None, 0, Path(), 0, False)
    >>> batch = {"image": image, "label": np.zeros((1, 40, 64), np.int32), "real": np.ones(1, bool)}
    >>> sorted(evaluate_tiled(run, [batch], tile=32, margin=0))[-2:]
    ['miou_void_counted', 'pixel_accuracy']
    """
    if jax.process_count() > 1:
        raise BadInput("an evaluation in tiles runs in one process")
    predictor = assembled(base(run), replace(run, geometry=()), tile=tile, margin=margin)
    metrics = run.task.metrics()
    states = {name: metric.init() for name, metric in metrics.items()}
    for count, batch in enumerate(batches, 1):
        for row in np.flatnonzero(np.asarray(batch.get("real", np.ones(len(batch["image"]), bool)))).tolist():
            one = _image_of({name: np.asarray(value)[row] for name, value in batch.items()})
            found = jax.tree.map(jnp.asarray, predictor({"image": one["image"]}))
            one = jax.tree.map(jnp.asarray, one)
            for name, metric in metrics.items():
                try:
                    observed = metric.observe(found, one)
                except KeyError as error:
                    raise BadInput(f"{name} is measured on {error}, which is not assembled from tiles") from error
                states[name] = metric.fold(states[name], jax.device_get(observed))
        if on_batch is not None:
            on_batch(count)
    return {key: float(value) for name, metric in metrics.items() for key, value in metric.result(states[name]).items()}


def _image_of(row: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a row as a batch of one, its maps without what is no image."""
    height, width = row["size"].tolist() if "size" in row else row["image"].shape[:2]
    maps = {name for name, key in known(dict(row)) if key.is_map}
    return {name: (value[:height, :width] if name in maps else value)[None] for name, value in row.items()}
