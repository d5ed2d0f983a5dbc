"""Evaluate a network on a split: the metrics of its task over a stream of batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from jaxseg.errors import FailedRun
from jaxseg.tasks.protocol import task_figures
from jaxseg.train.checkpoint import from_all_processes
from jaxseg.train.placement import Placement, eval_step, fill, single
from jaxseg.types import figure_of


def evaluate(
    model: Any,
    variables: Mapping[str, Any],
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    placement: Placement | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Compute the task's metrics over all rows of ``batches`` whose ``real`` is not false.

    The figures do not depend on the size of the batches, the placement or the number of processes: rows are filled up
    to what the devices can share. Metrics are folded on the host of process 0, while the devices are at the next batch,
    and every process returns its result.

    Args:
      model: a linen module.
      variables: its variables, on the host or on one device.
      task: gives inputs, predictions and metrics.
      batches: one pass; on several processes, this process's rows, equally many batches on each.
      placement: where it runs; None for one device.
      on_batch: called with the number of batches observed so far.

    Returns:
      Figures by name, as ``task.metrics()`` describe them.

    Raises:
      FailedRun: on every process, if a metric failed on process 0.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), np.zeros((1, 8, 8, 3), np.uint8)
    >>> batch = {"image": image, "label": np.zeros((1, 8, 8), np.int32)}
    >>> sorted(evaluate(model, jax.jit(model.init)(jax.random.key(0), image), Semantic(2), [batch]))[-2:]
    ['miou_void_counted', 'pixel_accuracy']
    """
    placement = single() if placement is None else placement
    return evaluate_placed(model, placement.put(dict(variables)), task, batches, placement=placement, on_batch=on_batch)


def evaluate_placed(
    model: Any,
    variables: Any,
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    placement: Placement,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Evaluate with variables that the placement already holds; see :func:`evaluate`.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), jnp.zeros((1, 8, 8, 3), jnp.uint8)
    >>> variables = single().put(jax.jit(model.init)(jax.random.key(0), image))
    >>> batch = {"image": image, "label": np.full((1, 8, 8), 255)}
    >>> evaluate_placed(model, variables, Semantic(2), [batch], placement=single())["pixel_accuracy"]
    nan
    """
    observe = eval_step(placement, model, task)
    folding = _Folding(task, placement) if jax.process_index() == 0 else None
    waiting: list[Any] = []
    for seen, batch in enumerate(batches, 1):
        waiting.append(observe(variables, placement.batch(fill(batch, placement.local_devices))))
        if len(waiting) > 1:
            _fold(folding, waiting.pop(0))
        if on_batch is not None:
            on_batch(seen)
    for last in waiting:
        _fold(folding, last)
    result = from_all_processes(None if folding is None else folding.result())[0]
    if "failed" in result:
        if folding is not None and folding.error is not None:
            raise folding.error
        raise FailedRun(f"a metric failed on process 0: {result['failed']}")
    return result["figures"]


class _Folding:
    """The states of a task's metrics while they are folded.

    An error is kept until the end: the other processes, which wait for this one at every batch, must get there too.
    """

    def __init__(self, task: Any, placement: Placement):
        self.error: Exception | None = None
        self._placement = placement
        self._task = task
        self._metrics = task.metrics()
        self._states = {name: metric.init() for name, metric in self._metrics.items()}

    def fold(self, seen: Any) -> None:
        """Fold what the devices observed of one batch, in the order of its rows."""
        if self.error is not None:
            return
        try:
            for observation in self._placement.observations(seen):
                for name, metric in self._metrics.items():
                    self._states[name] = metric.fold(self._states[name], observation[name])
        except Exception as error:
            self._keep(error)

    def result(self) -> dict[str, Any]:
        """Return ``{"figures": ...}``, or ``{"failed": message}`` after an error.

        A figure that its metric does not describe is an error: nobody could tell which of two values is better.
        """
        figures: dict[str, float] = {}
        try:
            if self.error is None:
                known = task_figures(self._task)
                for name, metric in self._metrics.items():
                    figures |= {key: float(value) for key, value in metric.result(self._states[name]).items()}
                missing = [key for key in figures if figure_of(known, key).name not in known]
                if missing:
                    raise ValueError(f"no metric describes {', '.join(missing)}: add a Figure to its figures()")
        except Exception as error:
            self._keep(error)
        if self.error is not None:
            return {"failed": f"{type(self.error).__name__}: {self.error}"}
        return {"figures": figures}

    def _keep(self, error: Exception) -> None:
        if jax.process_count() == 1:
            raise error
        self.error = self.error or error


def _fold(folding: _Folding | None, seen: Any) -> None:
    if folding is None:  # keeps in step with the device, as process 0 does
        jax.block_until_ready(seen)
    else:
        folding.fold(seen)
