"""Semantic segmentation whose predictions pass through a fully connected CRF."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxseg.ops.crf import DenseCRF
from jaxseg.ops.crop import centre_crop
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.semantic import Semantic


@dataclass(frozen=True)
class Refined:
    """A semantic task that refines what it predicts; its losses stay as they are.

    Attributes:
      task: gives inputs, losses and metrics, and the probabilities to refine.
      crf: the CRF; each image's own colours guide it.
    """

    task: Semantic
    crf: DenseCRF

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """The task's."""
        return self.task.inputs(batch, train=train)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """The task's."""
        return self.task.loss(outputs, batch)

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """``label`` and ``probability`` after the CRF, one image at a time."""
        probability = self.task.predict(outputs, batch)["probability"]
        image = centre_crop(batch["image"], probability.shape[1], probability.shape[2])
        refined = lax.map(lambda pair: self.crf(*pair), (probability, image))
        return {"label": jnp.argmax(refined, axis=-1).astype(jnp.int32), "probability": refined}

    def metrics(self) -> dict[str, Metric]:
        """The task's."""
        return self.task.metrics()
