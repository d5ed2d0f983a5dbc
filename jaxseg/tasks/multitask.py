"""Train several tasks on one network, each on the samples that carry its labels."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import Array

from jaxseg.errors import BadInput
from jaxseg.ops.deferred import in_turn
from jaxseg.tasks.protocol import Batch, Metric, Outputs, Predictions, Task, Term, check_facts
from jaxseg.types import Figure


@dataclass(frozen=True)
class MultiTask:
    """Combine tasks: ``MultiTask({"semantic": Semantic(12), "parts": Semantic(7)})``.

    The task called ``name`` reads a batch or outputs with every key ``name/key`` standing for ``key``, so that two
    tasks of one kind have labels and logits of their own; keys without a prefix are everybody's. Where the batch holds
    ``name/present``, bool ``[b]``, a row without it is for this task as if it were not real: it adds nothing to its
    losses nor to its metrics. Terms and results are called ``name/...``. Batches come from ``Data`` of ``jaxseg.data``
    with such keys, ``Data(..., keys=("image", "label", "parts/label"))``.

    Losses are balanced by ``weights`` alone ("fixed"), or by weights that the network learns and returns, in the order
    of the tasks: "uncertainty" multiplies a task's losses by ``exp(-log_variance)`` and adds ``log_variance``
    (:class:`jaxseg.layers.task_weights.LogVariances`), "gradnorm" multiplies them by ``task_weight``
    (:class:`jaxseg.layers.task_weights.GradNorm`). A task of which no row of a batch has labels moves neither.

    Attributes:
      tasks: pairs of name and task, in the order given; a mapping is turned into pairs.
      weights: factor of each task's losses in the total; empty for 1.
      balance: "fixed", "uncertainty" or "gradnorm".

    >>> from jaxseg.tasks.semantic import Semantic
    >>> both = MultiTask({"semantic": Semantic(3), "parts": Semantic(2)})
    >>> logits = {"logits": jnp.zeros((1, 2, 2, 3)), "parts/logits": jnp.zeros((1, 2, 2, 2))}
    >>> sorted(both.predict(logits, {}))
    ['parts/label', 'parts/probability', 'semantic/label', 'semantic/probability']
    """

    tasks: tuple[tuple[str, Task], ...] | Mapping[str, Task]
    weights: tuple[float, ...] = ()
    balance: str = "fixed"

    def __post_init__(self):
        object.__setattr__(self, "tasks", self.pairs)
        names = [name for name, _ in self.pairs]
        if not names or len(set(names)) < len(names) or not all(re.fullmatch(r"\w+", name) for name in names):
            raise BadInput(f"tasks have names of their own (letters, digits and _), not {names}")
        if self.weights and len(self.weights) != len(names):
            raise BadInput(f"{len(self.weights)} weights for {len(names)} tasks: give one each or none")
        if self.balance not in BALANCED_BY:
            raise BadInput(f"balance is one of {', '.join(map(repr, BALANCED_BY))}, not {self.balance!r}")

    @property
    def pairs(self) -> tuple[tuple[str, Task], ...]:
        """Names and tasks, in order."""
        return tuple(self.tasks.items()) if isinstance(self.tasks, Mapping) else self.tasks

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Any]:
        """Return the inputs of all tasks."""
        merged: dict[str, Any] = {}
        for name, task in self.pairs:
            merged.update(task.inputs(view(name, batch), train=train))
        return merged

    def check_facts(self, facts: Any) -> None:
        """Raise if the data set has other classes than a task; ``Facts.tables`` gives those of a task's own.

        Raises:
          BadInput: the task is named.
        """
        for name, task in self.pairs:
            own = replace(facts, classes=facts.tables[name]) if name in facts.tables else facts
            try:
                check_facts(task, own)
            except BadInput as error:
                raise BadInput(f"{name}: {error}") from error

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return all terms, as ``name/term``; balanced by uncertainty also ``name/log_variance``, by GradNorm
        ``name/rate``, whose value is 0 and whose gradient brings the task's loss to the weights.

        Raises:
          BadInput: the network does not return the weights of as many tasks, or the loss of a task has no count.
        """
        terms: dict[str, Term] = {}
        learnt = self._learnt(outputs)
        found = self._losses(outputs, batch)
        for i, name in enumerate(found):
            fixed = self.weights[i] if self.weights else 1.0
            own = found[name]
            factor: Any = fixed
            if self.balance == "uncertainty":
                factor = fixed * jnp.exp(-learnt[i])
            if self.balance == "gradnorm":
                factor = fixed * learnt[i]
            terms |= {f"{name}/{key}": term._replace(weight=term.weight * factor) for key, term in own.items()}
            if self.balance == "uncertainty":
                present = jnp.minimum(sum(term.count for term in own.values()), 1.0)
                terms[f"{name}/log_variance"] = Term(learnt[i] * present, present)
            if self.balance == "gradnorm":
                terms |= {f"{name}/rate/{key}": _echo(term, outputs["task_echo"][i]) for key, term in own.items()}
        return terms

    def _losses(self, outputs: Outputs, batch: Batch) -> dict[str, dict[str, Term]]:
        """Return the terms of each task; deferred outputs are computed task by task, if any real row has its labels."""
        views = {name: (view(name, outputs), view(name, batch)) for name, _ in self.pairs}
        later = {name: seen["deferred"] for name, (seen, _) in views.items() if "deferred" in seen}
        found = {name: task.loss(*views[name]) for name, task in self.pairs if name not in later}
        if later:
            tasks = dict(self.pairs)

            def of(name: str) -> Any:
                compute = later[name].compute
                return lambda shared, own, given: {
                    key: Term(*(cast(Any, jnp.asarray(part, jnp.float32)) for part in term))
                    for key, term in tasks[name].loss(compute(shared, own, given[1]), given[0]).items()
                }

            shared = next(iter(later.values())).shared
            given = [(views[name][1], later[name].given) for name in later]
            here = [batch["real"].any() if "real" in batch else jnp.asarray(True) for batch, _ in given]
            owns = [each.own for each in later.values()]
            found |= dict(zip(later, in_turn(tuple(map(of, later)), shared, owns, given, here), strict=True))
        return {name: found[name] for name, _ in self.pairs}

    def _learnt(self, outputs: Outputs) -> Any:
        """Return what the network has learnt of its tasks, one number each; nothing where weights are fixed."""
        key = BALANCED_BY[self.balance]
        if not key:
            return ()
        found = outputs.get(key)
        if found is None or found.shape != (len(self.pairs),):
            raise BadInput(
                f"balance {self.balance!r} needs a network that returns {key} of {len(self.pairs)} tasks, "
                f"not {'none' if found is None else found.shape}: jaxseg.layers.task_weights has the layers"
            )
        return found

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return all predictions: under their own key where only one task makes it, else under ``name/key``."""
        found = {name: task.predict(view(name, outputs), view(name, batch)) for name, task in self.pairs}
        uses = Counter(key for predictions in found.values() for key in predictions)
        return {
            key if uses[key] == 1 else f"{name}/{key}": value
            for name, predictions in found.items()
            for key, value in predictions.items()
        }

    def metrics(self) -> dict[str, Metric]:
        """Return all metrics, their results as ``name/...``."""
        return {
            f"{name}/{key}": OfTask(name, metric) for name, task in self.pairs for key, metric in task.metrics().items()
        }


BALANCED_BY = {"fixed": "", "uncertainty": "log_variance", "gradnorm": "task_weight"}
"""What the network returns for each way to balance losses."""


def _echo(term: Term, echo: Any) -> Term:
    """Return a term that is 0 and through which the loss comes back as the gradient of ``echo``."""
    return Term(jax.lax.stop_gradient(term.sum * term.weight) * echo, term.count)


@dataclass(frozen=True)
class OfTask:
    """Restrict a metric to the predictions and rows of one task, and prefix its figures with the task's name.

    >>> from jaxseg.metrics import BoundaryF1
    >>> OfTask("parts", BoundaryF1(2)).figures()[0].name
    'parts/boundary_f1'
    """

    name: str
    metric: Metric

    def init(self) -> Any:
        """Return the metric's own initial state."""
        return self.metric.init()

    def observe(self, predictions: Predictions, batch: Batch) -> Any:
        """Observe the rows that carry the task's labels."""
        return self.metric.observe(view(self.name, predictions), view(self.name, batch))

    def fold(self, state: Any, observation: Any) -> Any:
        """Fold as the metric does."""
        return self.metric.fold(state, observation)

    def result(self, state: Any) -> dict[str, float]:
        """Return the metric's figures as ``name/...``."""
        return {f"{self.name}/{key}": value for key, value in self.metric.result(state).items()}

    def figures(self) -> tuple[Figure, ...]:
        """Describe the metric's figures under ``name/...``."""
        return tuple(
            replace(figure, name=f"{self.name}/{figure.name}", title=f"{self.name}: {figure.title}")
            for figure in self.metric.figures()
        )


def view(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one task sees of a batch, outputs or predictions.

    ``name/key`` becomes ``key``, keys of other tasks are left out, and rows without the task's labels are not real.

    >>> view("parts", {"image": 0, "label": 1, "parts/label": 2, "other/label": 3})
    {'image': 0, 'label': 2}
    """
    own = {key.removeprefix(f"{name}/"): value for key, value in values.items() if key.startswith(f"{name}/")}
    seen = {**{key: value for key, value in values.items() if "/" not in key}, **own}
    present = seen.pop("present", None)
    if present is not None:
        seen["real"] = jnp.logical_and(seen["real"], present) if "real" in seen else present
    return seen
