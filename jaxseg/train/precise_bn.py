"""Statistics of batch normalisation estimated anew, with the weights as they are now.

The running averages that training leaves behind trail the weights: at a large or constant learning rate they belong to
no network that ever was, and figures of evaluation swing with them. SegNet's authors therefore compute the statistics
once more over the training set before each evaluation (Badrinarayanan et al. 2017, section 4; the plain average of the
batches' means and variances, as their script ``compute_bn_statistics.py`` does it).
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
    """The variables with their ``batch_stats`` replaced by plain averages over ``batches``, on the host.

    Each batch goes through the network as in training, and its own means and (unbiased) variances count once. Nothing
    of the old statistics stays, whatever each layer's momentum. Results do not depend on the placement.

    Args:
      model: a linen module.
      variables: its variables, on the host or on one device.
      task: gives the inputs.
      batches: one pass over the training images; on several processes, this process's rows.
      placement: None stands for one device.
      on_batch: called with the number of batches that were seen.

    Raises:
      BadInput: the network has no such statistics, or there are no batches.
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
    """The new statistics alone, on the host, of variables that the placement already holds."""
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
    """Refuse a network without batch normalisation.

    Raises:
      BadInput: its variables hold no statistics.
    """
    if not collections.get(STATISTICS):
        raise BadInput(f"{type(model).__name__} has no statistics to estimate anew: it has no batch normalisation")
