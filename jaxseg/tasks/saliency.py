"""Salient objects: tell what stands out in an image from its background."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.losses import binary_cross_entropy
from jaxseg.metrics import SaliencyMeasures
from jaxseg.ops.pad import inside
from jaxseg.tasks.maps import term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models


@for_models("saliency")
@dataclass(frozen=True)
class Saliency:
    """Separate the salient foreground. Works with any model that returns ``saliency_logits`` ``[b h w]``.

    A network that is deeply supervised also returns ``side_logits`` ``[b h w l]``: each gets the cross-entropy too.

    Attributes:
      side_weight: factor of the loss of each side output; 1 in U^2-Net.
      stretch: whether predictions of an image are stretched to the range from 0 to 1, as U^2-Net's program does.

    >>> found = Saliency(stretch=True).predict({"saliency_logits": jnp.asarray([[[-1.0, 0.0, 1.0]]])}, {})
    >>> [round(x, 2) for x in found["saliency"].ravel().tolist()]
    [0.0, 0.5, 1.0]
    """

    side_weight: float = 1.0
    stretch: bool = False

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Saliency":
        """Return the task of a model with weights of others, whose predictions are stretched."""
        del model, classes
        return cls(stretch=True)

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image."""
        return {"image": batch["image"]}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return ``fused``, and ``side1`` and so on."""
        terms = {"fused": self._term(outputs["saliency_logits"], batch, 1.0)}
        if "side_logits" in outputs:
            for number in range(outputs["side_logits"].shape[-1]):
                side = outputs["side_logits"][..., number]
                terms[f"side{number + 1}"] = self._term(side, batch, self.side_weight)
        return terms

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``saliency``, a probability."""
        p = jax.nn.sigmoid(outputs["saliency_logits"].astype(jnp.float32))
        if self.stretch:
            low, high = p.min((1, 2), keepdims=True), p.max((1, 2), keepdims=True)
            p = (p - low) / jnp.maximum(high - low, 1e-8)
        return {"saliency": p}

    def metrics(self) -> dict[str, Metric]:
        """Return max F, mean absolute error and S-measure."""
        return {"saliency": SaliencyMeasures()}

    def _term(self, logits: Array, batch: Batch, weight: float) -> Term:
        target = batch["saliency"]
        known = inside(batch["size"], *target.shape[1:3]) if "size" in batch else jnp.ones(target.shape, bool)
        values = binary_cross_entropy(logits, target.astype(jnp.float32))
        return term_of(jnp.where(known, values, 0.0), known.astype(jnp.float32), batch, weight)
