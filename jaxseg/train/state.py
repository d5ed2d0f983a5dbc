"""What a training carries from step to step, and how it begins."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxseg.errors import BadInput
from jaxseg.train.optim import path_of


class State(flax.struct.PyTreeNode):
    """One value that holds a whole training: what is saved, restored, donated and compared.

    Attributes:
      step: updates made so far, i32[].
      params: the network's parameters, float32.
      model_state: its other collections, ``{"batch_stats": ...}``.
      opt_state: the optimizer's.
      ema: moving averages ``{"params": ..., "batch_stats": ...}``, or None.
      key: data of the random key from which every step's own is folded, u32[...].
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any
    key: Any


def variables(state: State) -> dict[str, Any]:
    """The variables to judge and ship: the moving averages where there are any, else the network's own."""
    return dict(state.ema) if state.ema is not None else {"params": state.params, **state.model_state}


def replace_variables(state: State, collection: str, values: Any) -> State:
    """The state with a collection of what :func:`variables` gives, other than the parameters, replaced."""
    if state.ema is not None:
        return state.replace(ema={**state.ema, collection: values})
    return state.replace(model_state={**state.model_state, collection: values})


def create(
    key: jax.Array, model: Any, task: Any, tx: optax.GradientTransformation, batch: Any, *, ema: bool = False
) -> State:
    """A training at step 0, drawn from ``key``.

    Args:
      key: a typed random key; parameters and every later step's randomness come from it.
      model: a linen module.
      task: says which arrays of the batch the network reads.
      tx: the optimizer's chain.
      batch: one batch; its first row gives the shapes.
      ema: whether to keep moving averages.
    """
    init_key, step_key = jax.random.split(key)
    row = {name: np.zeros_like(np.asarray(value)[:1]) for name, value in batch.items()}
    # Drawing random numbers is most of the compiling and is done once: 4 s instead of 22 s for a small U-Net on a CPU.
    quick = jax.default_backend() == "cpu" and not isinstance(init_key, Tracer)
    options = {"xla_backend_optimization_level": 0} if quick else None
    init = jax.jit(lambda k, x: model.init(k, **task.inputs(x, train=False), train=False), compiler_options=options)
    return start(step_key, dict(init(init_key, row)), tx, ema=ema)


def start(key: jax.Array, collections: dict[str, Any], tx: optax.GradientTransformation, *, ema: bool) -> State:
    """A training at step 0 from the variables of a network."""
    params = collections["params"]
    return State(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state={name: value for name, value in collections.items() if name != "params"},
        opt_state=tx.init(params),
        ema=jax.tree.map(jnp.copy, collections) if ema else None,
        key=jax.random.key_data(key),
    )


def carry_over(state: State, found: dict[str, Any]) -> tuple[State, int, int]:
    """``state`` with every variable replaced that ``found`` has under the same path in the same shape.

    Returns:
      The state, the number of arrays that were carried over, and the number of arrays there are.

    Raises:
      BadInput: nothing fits.
    """
    known = {path_of(path): value for path, value in jax.tree_util.tree_leaves_with_path(found)}
    carried = []

    def choose(path: Any, value: Any) -> Any:
        other = known.get(path_of(path))
        fits = other is not None and np.shape(other) == np.shape(value)
        carried.append(fits)
        return jnp.asarray(other, dtype=value.dtype) if fits else value

    mine = {"params": state.params, **state.model_state}
    mine = jax.tree_util.tree_map_with_path(choose, mine)
    if not any(carried):
        raise BadInput("init: no variable of the stage before has the same path and shape in this one")
    rest = {name: value for name, value in mine.items() if name != "params"}
    ema = None if state.ema is None else jax.tree.map(jnp.copy, mine)
    return state.replace(params=mine["params"], model_state=rest, ema=ema), sum(carried), len(carried)
