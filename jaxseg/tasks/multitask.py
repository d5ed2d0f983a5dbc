"""Several tasks on one network, each learning from the samples that carry its labels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Predictions, Task, Term
from jaxseg.types import Figure


@dataclass(frozen=True)
class MultiTask:
    """Tasks side by side: ``MultiTask({"semantic": Semantic(12), "parts": Semantic(7)})``.

    The task called ``name`` reads a batch or outputs with every key ``name/key`` standing for ``key``, so that two
    tasks of one kind have labels and logits of their own; keys without a prefix are everybody's. Where the batch holds
    ``name/present``, bool ``[b]``, a row without it is for this task as if it were not real: it adds nothing to its
    losses nor to its metrics. Terms and results are called ``name/...``.

    Attributes:
      tasks: pairs of name and task, in the order given; a mapping is turned into pairs.
      weights: factor of each task's losses in the total; empty for 1.
    """

    tasks: tuple[tuple[str, Task], ...] | Mapping[str, Task]
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "tasks", self.pairs)
        names = [name for name, _ in self.pairs]
        if not names or len(set(names)) < len(names) or not all(names) or any("/" in name for name in names):
            raise BadInput(f"tasks have names of their own without a slash, not {names}")
        if self.weights and len(self.weights) != len(names):
            raise BadInput(f"{len(self.weights)} weights for {len(names)} tasks: give one each or none")

    @property
    def pairs(self) -> tuple[tuple[str, Task], ...]:
        """Names and tasks."""
        return tuple(self.tasks.items()) if isinstance(self.tasks, Mapping) else self.tasks

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """What any of the tasks wants the network to see."""
        merged: dict[str, Any] = {}
        for name, task in self.pairs:
            merged.update(task.inputs(view(name, batch), train=train))
        return merged

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """All terms, under ``name/term``."""
        terms = {}
        for (name, task), weight in zip(self.pairs, self.weights or (1.0,) * len(self.pairs), strict=True):
            for key, term in task.loss(view(name, outputs), view(name, batch)).items():
                terms[f"{name}/{key}"] = term._replace(weight=term.weight * weight)
        return terms

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """All predictions: under their own key where only one task gives it, else under ``name/key``."""
        found = {name: task.predict(view(name, outputs), view(name, batch)) for name, task in self.pairs}
        uses = Counter(key for predictions in found.values() for key in predictions)
        return {
            key if uses[key] == 1 else f"{name}/{key}": value
            for name, predictions in found.items()
            for key, value in predictions.items()
        }

    def metrics(self) -> dict[str, Metric]:
        """All metrics, their results under ``name/...``."""
        return {
            f"{name}/{key}": OfTask(name, metric) for name, task in self.pairs for key, metric in task.metrics().items()
        }


@dataclass(frozen=True)
class OfTask:
    """A metric that sees its own task's predictions and rows, and puts the task's name before its results."""

    name: str
    metric: Metric

    def init(self) -> Any:
        """The metric's own."""
        return self.metric.init()

    def observe(self, predictions: Predictions, batch: Batch) -> Any:
        """The metric's own, of the rows that carry the task's labels."""
        return self.metric.observe(view(self.name, predictions), view(self.name, batch))

    def fold(self, state: Any, observation: Any) -> Any:
        """The metric's own."""
        return self.metric.fold(state, observation)

    def result(self, state: Any) -> dict[str, float]:
        """The metric's figures under ``name/...``."""
        return {f"{self.name}/{key}": value for key, value in self.metric.result(state).items()}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the metric's figures under ``name/...``."""
        return tuple(
            replace(figure, name=f"{self.name}/{figure.name}", title=f"{self.name}: {figure.title}")
            for figure in self.metric.figures()
        )


def view(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What the task of that name sees: ``name/key`` as ``key``, no other task's keys, rows without labels not real."""
    own = {key.removeprefix(f"{name}/"): value for key, value in values.items() if key.startswith(f"{name}/")}
    seen = {**{key: value for key, value in values.items() if "/" not in key}, **own}
    present = seen.pop("present", None)
    if present is not None:
        seen["real"] = jnp.logical_and(seen["real"], present) if "real" in seen else present
    return seen
