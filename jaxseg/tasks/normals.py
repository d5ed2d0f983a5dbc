"""Surface normals: predict in which direction every pixel's surface faces."""

from dataclasses import dataclass
from typing import Any

from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses.normals import NormalCosine, NormalLoss
from jaxseg.metrics import NormalErrors
from jaxseg.ops.crop import centre_crop
from jaxseg.tasks.maps import Cells, term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models


@for_models("normals")
@dataclass(frozen=True)
class Normals:
    """Predict unit normals in camera axes. Works with any model that returns ``normal`` ``[b h w 3]``.

    Pixels of unknown normal (``normal_valid`` false) teach nothing and count nowhere. Where a network returns the
    middle of the image alone, the truth is cropped to it.

    Attributes:
      losses: what is minimised, each with its own ``weight``; see :mod:`jaxseg.losses.normals`.
      cells: the pixels that carry a loss; None for all.

    >>> import jax.numpy as jnp
    >>> task, normal = Normals(), jnp.asarray([[[[0.0, 0.0, -1.0]]]])
    >>> task.loss({"normal": normal}, {"normal": -normal})["cosine"].sum.item()
    2.0
    """

    losses: tuple[NormalLoss, ...] = (NormalCosine(),)
    cells: Cells | None = None

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Normals":
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
        """Raise if the data set has no normals.

        Raises:
          BadInput: so it is; what it has is named.
        """
        if "normal" not in facts.keys:
            raise BadInput(
                f"data set {facts.name!r} has no normals, only {', '.join(facts.keys)}: choose one with normals"
            )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return one term per loss."""
        normal = outputs["normal"]
        size = normal.shape[1:3]
        truth = centre_crop(batch["normal"], *size)
        known = (truth != 0).any(-1)
        if "normal_valid" in batch:
            known &= centre_crop(batch["normal_valid"], *size)
        if "computed" in outputs:
            known &= outputs["computed"]
        if self.cells is not None:
            normal, truth, known = self.cells.of(normal), self.cells.of(truth), self.cells.of(known)
        return {loss.name: term_of(*loss(normal, truth, known), batch, loss.weight) for loss in self.losses}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``normal``, unit vectors."""
        return {"normal": outputs["normal"]}

    def metrics(self) -> dict[str, Metric]:
        """Return the angles between predicted and true normals."""
        return {"normals": NormalErrors()}
