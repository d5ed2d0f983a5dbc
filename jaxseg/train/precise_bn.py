"""Precise BatchNorm: recompute the statistics of batch normalisation with the current weights.

Running averages lag behind the weights, most at a large or constant learning rate, and evaluation suffers. SegNet's
authors therefore recompute the statistics over the training set before each evaluation (Badrinarayanan et al. 2017,
arXiv:1511.00561, sec. 4; the plain average of the batches' means and variances, as in their script
``compute_bn_statistics.py``).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxseg.errors import BadInput
from jaxseg.train.placement import Placement, single, statistics_step

STATISTICS = "batch_stats"
"""The collection that holds them."""


def precise_bn(
    model: Any,
    variables: Mapping[str, Any],
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    placement: Placement | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Return the variables with ``batch_stats`` replaced by plain averages over ``batches``, on the host.

    Each batch passes through the network in training mode, and its mean and (unbiased) variance count once. The old
    statistics and the layers' momentum have no effect. The result does not depend on the placement.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), np.zeros((1, 8, 8, 3), np.uint8)
    >>> variables = jax.jit(model.init)(jax.random.key(0), image)
    >>> sorted(precise_bn(model, variables, Semantic(2), [{"image": image}]))
    ['batch_stats', 'params']

    Args:
      model: a linen module.
      variables: its variables, on the host or on one device.
      task: selects the model's inputs from a batch.
      batches: one pass over the training images; with several processes, this process's rows.
      placement: None for one device.
      on_batch: called with the number of batches processed.

    Raises:
      BadInput: the network has no batch statistics, or there are no batches.
    """
    placement = single() if placement is None else placement
    placed = placement.put(dict(variables))
    found = precise_bn_placed(model, placed, task, batches, placement=placement, on_batch=on_batch)
    return {**variables, STATISTICS: found}


def precise_bn_placed(
    model: Any,
    variables: Any,
    task: Any,
    batches: Iterable[Mapping[str, Any]],
    *,
    placement: Placement,
    on_batch: Callable[[int], None] | None = None,
) -> Any:
    """Return the new statistics alone, on the host, of variables that the placement already holds.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> model, image = unet(num_classes=2, depth=1, width=2), np.zeros((1, 8, 8, 3), np.uint8)
    >>> variables = single().put(jax.jit(model.init)(jax.random.key(0), image))
    >>> found = precise_bn_placed(model, variables, Semantic(2), [{"image": image}], placement=single())
    >>> jax.tree.structure(found) == jax.tree.structure(variables["batch_stats"])
    True
    """
    check_statistics(model, variables)
    step, total, count = statistics_step(placement, model, task), None, 0
    for batch in batches:
        seen = placement.fetch(step(variables, placement.batch(batch), placement.put(np.int32(count))))
        seen = jax.tree.map(lambda x: x.astype(np.float64), seen)
        total = seen if total is None else jax.tree.map(np.add, total, seen)
        count += 1
        if on_batch is not None:
            on_batch(count)
    if total is None:
        raise BadInput("statistics cannot be estimated from no batches")
    return jax.tree.map(lambda x: (x / count).astype(np.float32), total)


def check_statistics(model: Any, collections: Mapping[str, Any]) -> None:
    """Raise if a network has no batch normalisation.

    >>> check_statistics(None, {"params": {}, "batch_stats": {"mean": 0.0}})

    Raises:
      BadInput: its variables hold no statistics.
    """
    if not collections.get(STATISTICS):
        raise BadInput(f"{type(model).__name__} has no statistics to estimate anew: it has no batch normalisation")
