"""Monocular depth: predict the distance of every pixel."""

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses.depth import DepthLoss, ScaleInvariant
from jaxseg.metrics import DepthErrors
from jaxseg.ops.crop import centre_crop
from jaxseg.tasks.maps import Cells, term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models


@for_models("depth")
@dataclass(frozen=True)
class Depth:
    """Predict the depth of every pixel in metres. Works with any model that returns ``depth`` ``[b h w]``.

    Pixels of unknown depth (``depth_valid`` false, or depth 0) teach nothing and count nowhere. Where a network returns
    the middle of the image alone, the truth is cropped to it.

    Attributes:
      losses: what is minimised, each with its own ``weight``; see :mod:`jaxseg.losses.depth`.
      errors: what is measured, with the region that counts and its limits.
      cells: the pixels that carry a loss; None for all.

    >>> import jax.numpy as jnp
    >>> task, depth = Depth(), jnp.asarray([[[1.0, 2.0]]])
    >>> task.loss({"depth": depth}, {"depth": depth})["scale_invariant"].sum.item()
    0.0
    """

    losses: tuple[DepthLoss, ...] = (ScaleInvariant(),)
    errors: DepthErrors = DepthErrors()
    cells: Cells | None = None

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Depth":
        """Return the task of a model."""
        del model, classes
        return cls()

    def __post_init__(self):
        names = [loss.name for loss in self.losses]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"losses are one or more, each of another kind, not {names}")

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image."""
        return {"image": batch["image"]}

    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has no depth.

        Raises:
          BadInput: so it is; what it has is named.
        """
        if "depth" not in facts.keys:
            raise BadInput(f"data set {facts.name!r} has no depth, only {', '.join(facts.keys)}: choose one with depth")

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return one term per loss."""
        depth = outputs["depth"]
        size = depth.shape[1:3]
        truth = centre_crop(batch["depth"], *size)
        known = truth > 0
        if "depth_valid" in batch:
            known &= centre_crop(batch["depth_valid"], *size)
        if "computed" in outputs:
            known &= outputs["computed"]
        if self.cells is not None:
            depth, truth, known = self.cells.of(depth), self.cells.of(truth), self.cells.of(known)
        return {loss.name: term_of(*loss(depth, truth, known), batch, loss.weight) for loss in self.losses}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``depth`` in metres."""
        return {"depth": outputs["depth"]}

    def metrics(self) -> dict[str, Metric]:
        """Return the errors."""
        return {"depth": self.errors}
