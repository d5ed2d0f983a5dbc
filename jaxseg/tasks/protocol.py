"""What training and evaluation know of a task: four functions, and the two small types that pass between them.

A network contains no loss and no metric; a task says which of the batch's arrays the network reads, what its outputs
should have been, and how well it did. Everything that runs on the device is a pure function with static shapes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jax import Array

from jaxseg.errors import BadInput
from jaxseg.types import Figure

Batch = Mapping[str, Any]
"""Arrays under the keys of :data:`jaxseg.types.BATCH`."""

Outputs = Mapping[str, Any]
"""Arrays under the keys of :data:`jaxseg.types.OUTPUTS`: what a network returns."""

Predictions = Mapping[str, Any]
"""Arrays under the keys of :data:`jaxseg.types.PREDICTIONS`: what a task makes of outputs."""


class Term(NamedTuple):
    """One part of a loss, not yet divided: its share of a step's loss is ``weight * sum / max(count, 1)``.

    ``sum`` and ``count`` are float32 scalars and are added up over microbatches and devices *before* the division, so
    that a ragged last batch, void pixels and any placement give the same number. Rows with ``real`` false add nothing
    to either. ``weight`` is a constant.
    """

    sum: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: float = 1.0


@runtime_checkable
class Metric(Protocol):
    """A figure of merit over a whole split, whatever the batch size and the number of processes.

    ``fold(fold(init(), a), b)`` over any cutting of the split into batches gives the same ``result``. Where devices
    observe their own rows, their observations are folded one after the other in the order of the rows.
    """

    def init(self) -> Any:
        """The state before anything was seen: NumPy arrays, on the host."""
        ...

    def observe(self, predictions: Predictions, batch: Batch) -> Any:
        """What one batch contributes: a pytree of arrays with static shapes; rows with ``real`` false give nothing."""
        ...

    def fold(self, state: Any, observation: Any) -> Any:
        """The state after one more observation, on the host."""
        ...

    def result(self, state: Any) -> dict[str, float]:
        """The figures by name; a name that is undefined for lack of pixels or objects is left out."""
        ...

    def figures(self) -> tuple[Figure, ...]:
        """Describe every name in ``result``, the headline first; ``name/...`` is described by ``name``."""
        ...


@runtime_checkable
class ChecksFacts(Protocol):
    """A task that knows its classes and can refuse a data set that has others."""

    def check_facts(self, facts: Any) -> None:
        """Raise BadInput if the classes of the data set are not the task's."""
        ...


def check_facts(task: Any, facts: Any) -> None:
    """Raise if the task knows its classes and the data set has others; other tasks pass.

    Args:
      task: any task; those that are :class:`ChecksFacts` are asked.
      facts: the :class:`jaxseg.data.facts.Facts` of the data set.

    Raises:
      BadInput: the classes differ; both counts are named.
    """
    if isinstance(task, ChecksFacts):
        task.check_facts(facts)


@runtime_checkable
class Task(Protocol):
    """What a network is trained and judged for. A frozen dataclass: hashable, comparable, dumped into recipes."""

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Array]:
        """Keyword arguments of the model: ``{"image": ...}``, with targets where a model samples by them."""
        ...

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """The parts of the loss by name."""
        ...

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """What a user wants to see of the outputs; needs no ground truth in ``batch``."""
        ...

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name; the names of their results are unique over all of them."""
        ...


def task_figures(task: Any) -> dict[str, Figure]:
    """Return how the figures of all of a task's metrics are shown and compared, by name, the headline first.

    Raises:
      BadInput: two metrics give figures of the same name.

    >>> from jaxseg.tasks.semantic import Semantic
    >>> task_figures(Semantic(2))["miou"].title
    'mean IoU, void ignored'
    """
    found: dict[str, Figure] = {}
    for metric in task.metrics().values():
        for figure in metric.figures():
            if figure.name in found:
                raise BadInput(f"two metrics of {type(task).__name__} have a figure {figure.name!r}: rename one")
            found[figure.name] = figure
    return found
