"""Relative depth: predict how near every pixel is, up to a scale and a shift of the whole image."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses.depth import DepthLoss
from jaxseg.losses.relative_depth import AffineInvariant, GradientMatching
from jaxseg.metrics import RelativeDepthErrors
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.maps import term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models

ALIGNED = RelativeDepthErrors()


@for_models("relative_depth")
@dataclass(frozen=True)
class RelativeDepth:
    """Predict inverse depth without a unit. Works with any model that returns ``inverse_depth`` ``[b h w]``.

    The truth is ``depth`` in metres, or in any unit that is one within an image.

    Attributes:
      losses: of inverse depth, each with its own ``weight``; see :mod:`jaxseg.losses.relative_depth`.
      errors: what is measured, after each image's alignment.

    >>> task, depth = RelativeDepth(), jnp.asarray([[[1.0, 2.0, 4.0]]])
    >>> terms = task.loss({"inverse_depth": 2.0 / depth + 3.0}, {"depth": depth})
    >>> round(terms["affine_invariant"].sum.item(), 5)
    0.0
    """

    losses: tuple[DepthLoss, ...] = (AffineInvariant(), GradientMatching())
    errors: RelativeDepthErrors = ALIGNED

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "RelativeDepth | Depth":
        """Return the task of a model: that of metres where it was built for them."""
        del classes
        return Depth() if model.max_depth else cls()

    def __post_init__(self):
        names = [loss.name for loss in self.losses]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"losses are one or more, each of another kind, not {names}")

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image."""
        return {"image": batch["image"]}

    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has no depth."""
        Depth().check_facts(facts)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return one term per loss."""
        known = batch["depth"] > 0
        if "depth_valid" in batch:
            known &= batch["depth_valid"]
        truth = jnp.where(known, 1 / jnp.where(known, batch["depth"], 1.0), 0.0)
        found = outputs["inverse_depth"].astype(jnp.float32)
        return {loss.name: term_of(*loss(found, truth, known), batch, loss.weight) for loss in self.losses}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``inverse_depth``, larger where it is nearer."""
        return {"inverse_depth": outputs["inverse_depth"]}

    def metrics(self) -> dict[str, Metric]:
        """Return the errors after alignment."""
        return {"depth": self.errors}
