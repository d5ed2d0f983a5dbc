"""How good a network is on a split: its task's metrics over a stream of batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxseg.train.placement import Placement, eval_step, fill, single


def evaluate(
    model: Any,
    variables: Mapping[str, Any],
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    placement: Placement | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """The task's metrics over all rows of ``batches`` whose ``real`` is not false.

    The figures do not depend on the size of the batches nor on the placement: rows are filled up to what the devices
    can share. Metrics are folded on the host while the device is at the next batch.

    Args:
      model: a linen module.
      variables: its variables, on the host or on one device.
      task: gives inputs, predictions and metrics.
      batches: one pass; on several processes, this process's rows, equally many batches on each.
      placement: None stands for one device.
      on_batch: called with the number of batches that were folded.
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
    """:func:`evaluate` with variables that the placement already holds."""
    observe = eval_step(placement, model, task)
    metrics = task.metrics()
    states = {name: metric.init() for name, metric in metrics.items()}
    folded = 0

    def fold(seen: Any) -> None:
        nonlocal folded
        for observation in placement.observations(seen):
            for name, metric in metrics.items():
                states[name] = metric.fold(states[name], observation[name])
        folded += 1
        if on_batch is not None:
            on_batch(folded)

    waiting: list[Any] = []
    for batch in batches:
        waiting.append(observe(variables, placement.batch(fill(batch, placement.local_devices))))
        if len(waiting) > 1:
            fold(waiting.pop(0))
    for seen in waiting:
        fold(seen)
    figures: dict[str, float] = {}
    for name, metric in metrics.items():
        figures.update({key: float(value) for key, value in metric.result(states[name]).items()})
    return figures
