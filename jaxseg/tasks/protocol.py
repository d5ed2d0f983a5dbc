"""The protocols of tasks and metrics, which are all that training and evaluation know of them.

A network contains no loss and no metric; a task selects the arrays of a batch that the network reads, compares its
outputs with the truth, and turns them into predictions. Everything that runs on the device is a pure function with
static shapes.
"""

from collections.abc import Callable, Mapping
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


@runtime_checkable
class Model(Protocol):
    """A network as tasks use it: a linen module, or anything with its ``apply``.

    ``apply(variables, **task.inputs(batch, train=train), train=train)`` returns outputs. A network may also have

    * ``in_channels``: the number of bands of ``image``; without it 3;
    * ``input_size(height, width)`` and ``valid_size(height, width)``, where not every size fits or the outputs are
      smaller than the image: the smallest input for outputs of that size, and the outputs' size for that input.
    """

    @property
    def apply(self) -> Callable[..., Any]:
        """``apply(variables, image, train=False) -> outputs``."""
        ...


class Term(NamedTuple):
    """One part of a loss before division: its share of a step's loss is ``weight * sum / max(count, 1)``.

    ``sum`` and ``count`` are float32 scalars and are added up over microbatches and devices *before* the division, so
    that a ragged last batch, void pixels and any placement give the same number. Rows with ``real`` false add nothing
    to either. ``weight`` is a constant.

    >>> Term(sum=6.0, count=3.0).weight
    1.0
    """

    sum: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: float = 1.0


@runtime_checkable
class Metric(Protocol):
    """A measure over a whole split that does not depend on the batch size or the number of processes.

    ``fold(fold(init(), a), b)`` over any cutting of the split into batches gives the same ``result``. Where devices
    observe their own rows, their observations are folded one after the other in the order of the rows.
    """

    def init(self) -> Any:
        """Return the state before anything was observed: NumPy arrays, on the host."""
        ...

    def observe(self, predictions: Predictions, batch: Batch) -> Any:
        """Return what one batch contributes: a pytree of static shapes; rows with ``real`` false add nothing."""
        ...

    def fold(self, state: Any, observation: Any) -> Any:
        """Return the state after one more observation; runs on the host of process 0 alone."""
        ...

    def result(self, state: Any) -> dict[str, float]:
        """Return the figures by name; those undefined for lack of pixels or objects are left out."""
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

    >>> from jaxseg.data import Facts
    >>> from jaxseg.tasks.semantic import Semantic
    >>> check_facts(Semantic(1), Facts("sky", "", ("sky",), ((0, 0, 255),), {}))
    Traceback (most recent call last):
        ...
    jaxseg.errors.BadInput: a task of one class has nothing to learn: ...
    """
    if isinstance(task, ChecksFacts):
        task.check_facts(facts)


@runtime_checkable
class Task(Protocol):
    """What a network is trained and evaluated for. A frozen dataclass: hashable, comparable, saved in recipes."""

    def inputs(self, batch: Batch, *, train: bool) -> dict[str, Array]:
        """Return the keyword arguments of the model: ``{"image": ...}``, with targets where a model samples by them."""
        ...

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Term]:
        """Return the parts of the loss by name."""
        ...

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, Array]:
        """Return the predictions by key; the batch need not hold any ground truth."""
        ...

    def metrics(self) -> dict[str, Metric]:
        """Return the metrics by name; the names of their figures are unique over all of them."""
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
