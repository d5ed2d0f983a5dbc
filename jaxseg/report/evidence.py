"""Gather, while a network is evaluated, what a report shows beyond figures: states of metrics, and images by merit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxseg.metrics import Calibration, Confusion
from jaxseg.tasks.multitask import OfTask, view
from jaxseg.tasks.protocol import Metric, task_figures
from jaxseg.types import Figure


@dataclass(eq=False)
class Evidence:
    """What was seen of a split.

    Attributes:
      ranked_by: the figure by which images are ranked, each measured on its own; None where the task has no figure.
      states: the final state of every metric, by the metric's name; those of :class:`Calibration` are added to the
        task's own.
      metrics: the metrics that the states are of.
      added: names of the metrics that the task itself has not; their figures do not join the task's.
      scores: value of ``ranked_by`` by the number of the image in its split; images for which it is undefined are left
        out.

    >>> Evidence(None).scores
    {}
    """

    ranked_by: Figure | None
    states: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    scores: dict[int, float] = field(default_factory=dict)

    def of_kind(self, kind: type) -> dict[str, tuple[Any, Any]]:
        """Return metric and state of every metric of a kind, by the name of its task, empty where there is one alone.

        >>> Evidence(None).of_kind(Confusion)
        {}
        """
        found = {}
        for name, metric in self.metrics.items():
            task, inner = (metric.name, metric.metric) if isinstance(metric, OfTask) else ("", metric)
            if isinstance(inner, kind) and name in self.states:
                found[task] = (inner, self.states[name])
        return found


def watch(task: Any, *, rank_by: str | None = None) -> tuple["Watched", Evidence]:
    """Return the task with metrics that leave evidence, and where they leave it once the split was evaluated.

    Figures stay the same, while batches need the key ``index``.

    Args:
      task: any task.
      rank_by: the figure that ranks the images; None, or one that the task has not, is its headline.

    >>> from jaxseg.tasks.semantic import Semantic
    >>> watched, evidence = watch(Semantic(2))
    >>> list(watched.metrics()), evidence.ranked_by.name
    (['confusion', 'boundary', 'calibration of confusion'], 'miou')
    """
    figures = task_figures(task)
    chosen = figures.get(rank_by or "", next(iter(figures.values()), None))
    evidence = Evidence(chosen, metrics=dict(task.metrics()))
    for name, metric in task.metrics().items():
        inner = metric.metric if isinstance(metric, OfTask) else metric
        if isinstance(inner, Confusion):
            calibration = Calibration(inner.num_classes)
            added = f"calibration of {name}"
            evidence.metrics[added] = OfTask(metric.name, calibration) if isinstance(metric, OfTask) else calibration
            evidence.added.add(added)
    return Watched(task, evidence), evidence


@dataclass(frozen=True, eq=False)
class Watched:
    """A task whose metrics leave evidence, see :func:`watch`.

    >>> from jaxseg.tasks.semantic import Semantic
    >>> Watched(Semantic(2), Evidence(None)).metrics()
    {}
    """

    task: Any
    evidence: Evidence

    def inputs(self, batch: Any, *, train: bool) -> dict[str, Any]:
        """Return the task's inputs."""
        return self.task.inputs(batch, train=train)

    def loss(self, outputs: Any, batch: Any) -> Any:
        """Return the task's loss."""
        return self.task.loss(outputs, batch)

    def predict(self, outputs: Any, batch: Any) -> dict[str, Any]:
        """Return the task's predictions."""
        return self.task.predict(outputs, batch)

    def metrics(self) -> dict[str, Metric]:
        """Return the task's metrics, watched."""
        chosen, found = self.evidence.ranked_by, {}
        for name, metric in self.evidence.metrics.items():
            ranks = chosen is not None and chosen in metric.figures()
            found[name] = Ranking(name, metric, self.evidence) if ranks else Kept(name, metric, self.evidence)
        return found


@dataclass(frozen=True, eq=False)
class Kept:
    """A metric whose final state is kept as evidence.

    A metric that was added observes nothing where the network predicts no probabilities.

    >>> metric = Kept("confusion", Confusion(2), Evidence(None))
    >>> _ = metric.result(metric.init())
    >>> metric.evidence.states["confusion"].shape
    (3, 3)
    """

    name: str
    metric: Metric
    evidence: Evidence

    @property
    def _added(self) -> bool:
        return self.name in self.evidence.added

    def init(self) -> Any:
        """Return the metric's initial state."""
        return self.metric.init()

    def observe(self, predictions: Any, batch: Any) -> Any:
        """Observe as the metric does."""
        seen = view(self.metric.name, predictions) if isinstance(self.metric, OfTask) else predictions
        if self._added and "probability" not in seen:
            return {}
        return self.metric.observe(predictions, batch)

    def fold(self, state: Any, observation: Any) -> Any:
        """Fold as the metric does."""
        return state if isinstance(observation, Mapping) and not observation else self.metric.fold(state, observation)

    def result(self, state: Any) -> dict[str, float]:
        """Keep the state, and return the metric's figures."""
        self.evidence.states[self.name] = state
        return {} if self._added else self.metric.result(state)

    def figures(self) -> tuple[Figure, ...]:
        """Describe the metric's figures."""
        return () if self._added else self.metric.figures()


@dataclass(frozen=True, eq=False)
class Ranking:
    """A metric that also measures each image on its own, where it can observe the rows of a batch one by one.

    >>> metric = Ranking("confusion", Confusion(2), Evidence(Confusion(2).figures()[0]))
    >>> label = np.asarray([[[0, 0]], [[0, 1]]], np.int32)
    >>> seen = metric.observe({"label": np.zeros_like(label)}, {"label": label, "index": np.asarray([3, 7])})
    >>> metric.result(metric.fold(metric.init(), seen))["pixel_accuracy"], metric.evidence.scores
    (0.75, {3: 1.0, 7: 0.25})
    """

    name: str
    metric: Metric
    evidence: Evidence

    def init(self) -> Any:
        """Return the metric's initial state."""
        return self.metric.init()

    def observe(self, predictions: Any, batch: Any) -> Any:
        """Observe each row as a batch of its own."""

        def one(found: Any, row: Any) -> Any:
            return self.metric.observe(*jax.tree.map(lambda x: x[None], (found, row)))

        if "index" not in batch:
            return {"whole": self.metric.observe(predictions, batch)}
        try:
            seen = jax.vmap(one)(dict(predictions), dict(batch))
        except Exception:  # whatever a metric of one's own does with whole batches, its figures come first
            return {"whole": self.metric.observe(predictions, batch)}
        rows = batch["index"].shape[0]
        return {"seen": seen, "index": batch["index"], "real": batch.get("real", np.ones(rows, bool))}

    def fold(self, state: Any, observation: Any) -> Any:
        """Fold the real rows one after the other, and note what each is worth alone."""
        if "whole" in observation:
            return self.metric.fold(state, observation["whole"])
        chosen = self.evidence.ranked_by
        assert chosen is not None
        for row in np.flatnonzero(observation["real"]).tolist():
            seen = jax.tree.map(lambda x, row=row: np.asarray(x)[row], observation["seen"])
            value = self.metric.result(self.metric.fold(self.metric.init(), seen)).get(chosen.name, float("nan"))
            if value == value:
                self.evidence.scores[int(np.asarray(observation["index"])[row])] = float(value)
            state = self.metric.fold(state, seen)
        return state

    def result(self, state: Any) -> dict[str, float]:
        """Keep the state, and return the metric's figures."""
        self.evidence.states[self.name] = state
        return self.metric.result(state)

    def figures(self) -> tuple[Figure, ...]:
        """Describe the metric's figures."""
        return self.metric.figures()
