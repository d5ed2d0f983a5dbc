"""Refine the predictions of semantic segmentation by a fully connected CRF."""

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
    """Wrap a semantic task so that its predictions are refined; its losses stay as they are.

    Attributes:
      task: gives inputs, losses and metrics, and the probabilities to refine.
      crf: the CRF, guided by the colours of each image.

    >>> task = Refined(Semantic(2), DenseCRF(iterations=1))
    >>> batch = {"image": jnp.zeros((1, 4, 4, 3), jnp.uint8)}
    >>> task.predict({"logits": jnp.zeros((1, 4, 4, 2))}, batch)["label"].shape
    (1, 4, 4)
    """

    task: Semantic
    crf: DenseCRF

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the inputs of the task."""
        return self.task.inputs(batch, train=train)

    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has other classes than the task."""
        self.task.check_facts(facts)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the losses of the task."""
        return self.task.loss(outputs, batch)

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``label`` and ``probability`` after the CRF, computed one image at a time."""
        probability = self.task.predict(outputs, batch)["probability"]
        image = centre_crop(batch["image"], probability.shape[1], probability.shape[2])
        refined = lax.map(lambda pair: self.crf(*pair), (probability, image))
        return {**self.task.predict({"logits": jnp.log(refined)}, batch), "probability": refined}

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics of the task."""
        return self.task.metrics()
