"""Semantic segmentation: predict the class of every pixel."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.losses import CrossEntropy, Loss
from jaxseg.metrics import BoundaryF1, Confusion
from jaxseg.ops.crop import centre_crop
from jaxseg.tasks.maps import term_of
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Term
from jaxseg.tasks.table import for_models
from jaxseg.types import VOID


@for_models("semantic")
@dataclass(frozen=True)
class Semantic:
    """Classify every pixel. Works with any model that returns ``logits`` ``[b h w k]``.

    Networks of valid convolutions return logits of the image's middle: label and weight are cropped to them.

    Attributes:
      num_classes: number of classes; every other label is void.
      losses: what is minimised, each with its own ``weight``; see :mod:`jaxseg.losses`. The first is also applied to
        ``aux_logits`` where a network returns them, or to each of several ``aux_logits_<which>``.
      aux_weight: factor of each auxiliary loss (0.4 in PSPNet, 1 in DeepLab v2).
      classes: names of the classes, for reports.
      void_is_class: True if the network has one more output, the last, that stands for void: void pixels are learnt as
        that class, and pixels where it is the most probable are predicted void.
      extra_metrics: further metrics, each of another kind, such as :class:`jaxseg.metrics.rand.Rand`.

    >>> task = Semantic(3)
    >>> logits = jnp.asarray([[[[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]]])
    >>> task.predict({"logits": logits}, {})["label"].tolist()
    [[[1, 0]]]
    >>> list(task.loss({"logits": logits}, {"label": jnp.asarray([[[1, 0]]])}))
    ['cross_entropy']
    """

    num_classes: int
    losses: tuple[Loss, ...] = (CrossEntropy(),)
    aux_weight: float = 0.4
    classes: tuple[str, ...] = ()
    void_is_class: bool = False
    extra_metrics: tuple[Metric, ...] = ()

    @classmethod
    def for_model(cls, model: Any, classes: tuple[str, ...]) -> "Semantic":
        """Return the task of a model whose classes have these names."""
        del model
        return cls(len(classes), classes=classes)

    def __post_init__(self):
        names = [loss.name for loss in self.losses]
        if not names or len(set(names)) < len(names):
            raise BadInput(f"losses are one or more, each of another kind, not {names}")
        if self.classes and len(self.classes) != self.num_classes:
            raise BadInput(f"{len(self.classes)} class names for {self.num_classes} classes: give one each or none")
        kinds = [type(metric).__name__ for metric in self.extra_metrics]
        if len(set(kinds)) < len(kinds) or {"Confusion", "BoundaryF1"} & set(kinds):
            raise BadInput(f"extra_metrics are of other kinds than Confusion and BoundaryF1, each once, not {kinds}")

    @property
    def num_outputs(self) -> int:
        """Number of channels of the logits."""
        return self.num_classes + self.void_is_class

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the image."""
        return {"image": batch["image"]}

    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has another number of classes, or if there is nothing to tell apart.

        Raises:
          BadInput: so it is; both counts are named.
        """
        if self.num_outputs == 1:
            raise BadInput(
                "a task of one class has nothing to learn: the softmax of one output is always 1; "
                "count the background as a class: num_classes=2 in task and model"
            )
        known = len(facts.classes)
        if known != self.num_classes:
            raise BadInput(
                f"the task has {self.num_classes} classes, but data set {facts.name!r} has {known}: "
                f"set num_classes of task and model to {known}"
            )

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return one term per loss, and ``aux_<name>`` or ``aux_<which>_<name>`` for each auxiliary head."""
        terms = {loss.name: self._term(loss, outputs["logits"], batch) for loss in self.losses}
        main = self.losses[0]
        for key in outputs:
            if key.startswith("aux_logits"):
                term = self._term(main, outputs[key], batch)
                which = key.removeprefix("aux_logits")
                terms[f"aux{which}_{main.name}"] = term._replace(weight=self.aux_weight * main.weight)
        return terms

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return ``label``, the most probable class, and ``probability``, the softmax of the logits."""
        self._check_outputs(outputs["logits"])
        logits = outputs["logits"].astype(jnp.float32)
        label = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return {
            "label": jnp.where(label < self.num_classes, label, VOID) if self.void_is_class else label,
            "probability": jax.nn.softmax(logits, axis=-1),
        }

    def metrics(self) -> dict[str, Metric]:
        """Return the confusion matrix, the boundary F1, and the extra metrics."""
        return {
            "confusion": Confusion(self.num_classes, self.classes),
            "boundary": BoundaryF1(self.num_classes),
            **{type(metric).__name__: metric for metric in self.extra_metrics},
        }

    def _check_outputs(self, logits: Array) -> None:
        """Raise, while tracing, if the network's channels are not the task's classes."""
        if logits.shape[-1] != self.num_outputs:
            void = " and void" * self.void_is_class
            raise BadInput(
                f"the network has {logits.shape[-1]} outputs, but the task has {self.num_classes} classes{void}: "
                f"set the model's num_classes to {self.num_outputs}"
            )

    def _term(self, loss: Loss, logits: Array, batch: Batch) -> Term:
        """Sum and count over the real rows."""
        self._check_outputs(logits)
        size = logits.shape[1:3]
        label = centre_crop(batch["label"], *size)
        if self.void_is_class:
            label = jnp.where((label >= 0) & (label < self.num_classes), label, self.num_classes)
        weight = centre_crop(batch["weight"], *size) if "weight" in batch else None
        values, counts = loss(logits.astype(jnp.float32), label, weight)
        return term_of(values, counts, batch, loss.weight)
