"""Boundary detection: find where objects and surfaces end."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.losses.balanced import BalancedCrossEntropy
from jaxseg.metrics import BoundaryODS
from jaxseg.ops.pad import inside
from jaxseg.tasks.maps import term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models

BALANCED, BENCHMARK = BalancedCrossEntropy(), BoundaryODS()


@for_models("boundary")
@dataclass(frozen=True)
class Boundary:
    """Tell how probable a boundary is at every pixel, with any model that returns ``boundary_logits`` ``[b h w]``.

    A network that is deeply supervised also returns ``side_logits`` ``[b h w l]``: each gets the loss too.

    Attributes:
      loss_of: what is minimised.
      side_weight: factor of the loss of each side output; 1 in HED.
      merge: whether the prediction is the mean of the side outputs' and the fused probability, instead of the fused one
        alone.
      metric: how predictions are judged.

    >>> found = {"boundary_logits": jnp.zeros((1, 2, 2)), "side_logits": jnp.full((1, 2, 2, 1), 50.0)}
    >>> [float(Boundary(merge=merge).predict(found, {})["boundary"][0, 0, 0]) for merge in (False, True)]
    [0.5, 0.75]
    """

    loss_of: BalancedCrossEntropy = BALANCED
    side_weight: float = 1.0
    merge: bool = False
    metric: BoundaryODS = BENCHMARK

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Boundary":
        """Return the task; neither model nor classes matter."""
        del model, classes
        return cls()

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image."""
        return {"image": batch["image"]}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return ``fused``, and ``side1`` and so on."""
        terms = {"fused": self._term(outputs["boundary_logits"], batch, 1.0)}
        if "side_logits" in outputs:
            for number in range(outputs["side_logits"].shape[-1]):
                side = outputs["side_logits"][..., number]
                terms[f"side{number + 1}"] = self._term(side, batch, self.side_weight)
        return terms

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``boundary``, a probability."""
        fused = jax.nn.sigmoid(outputs["boundary_logits"].astype(jnp.float32))
        if not self.merge:
            return {"boundary": fused}
        sides = jax.nn.sigmoid(outputs["side_logits"].astype(jnp.float32))
        return {"boundary": (fused + sides.sum(-1)) / (1 + sides.shape[-1])}

    def metrics(self) -> dict[str, Metric]:
        """Return Berkeley's benchmark."""
        return {"boundary": self.metric}

    def _term(self, logits: Array, batch: Batch, weight: float) -> Term:
        known = inside(batch["size"], *logits.shape[1:3]) if "size" in batch else None
        return term_of(*self.loss_of(logits, batch["boundary"], known), batch, self.loss_of.weight * weight)
