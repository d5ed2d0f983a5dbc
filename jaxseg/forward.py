"""The forward pass: from variables and a batch to predictions. Training, evaluation, predict and export share it."""

from collections.abc import Callable, Mapping
from typing import Any

from jax import Array

from jaxseg.tasks.protocol import Batch, Model, Task

Forward = Callable[[Any, Batch], dict[str, Array]]
"""``(variables, batch) -> predictions``: pure, not compiled; keys as in :data:`jaxseg.types.PREDICTIONS`."""


def forward(model: Model, task: Task) -> Forward:
    """Return the function that predicts a batch: the model in evaluation mode, and what the task makes of its outputs.

    Args:
      model: a linen module, or anything with its ``apply`` (:class:`jaxseg.inference.tta.TestTimeAugmented`).
      task: gives the model's inputs and reads its outputs.

    Returns:
      A pure function ``(variables, batch) -> predictions``, to be jitted by the caller; the batch needs no
      ground truth.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxseg.models.semantic.unet import unet
      >>> from jaxseg.tasks.semantic import Semantic
      >>> model, image = unet(num_classes=3, depth=1, width=2), jnp.zeros((1, 8, 8, 3), jnp.uint8)
      >>> predictions = forward(model, Semantic(3))(model.init(jax.random.key(0), image), {"image": image})
      >>> {key: value.shape for key, value in sorted(predictions.items())}
      {'label': (1, 8, 8), 'probability': (1, 8, 8, 3)}
    """

    def predictions(variables: Mapping[str, Any], batch: Batch) -> dict[str, Array]:
        outputs = model.apply(variables, **task.inputs(batch, train=False), train=False)
        return dict(task.predict(outputs, batch))

    return predictions
