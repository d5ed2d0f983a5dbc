"""The state of a training and its initialisation."""

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
    """The complete state of a training: it is saved, restored, donated and compared as one value.

    >>> State(0, {"kernel": 1.0}, {}, (), None, 0).params
    {'kernel': 1.0}

    Attributes:
      step: updates made so far, i32[].
      params: the network's parameters, float32.
      model_state: its other collections, ``{"batch_stats": ...}``.
      opt_state: state of the optimizer.
      ema: moving averages ``{"params": ..., "batch_stats": ...}``, or None.
      key: data of the random key that every step's key is folded from, u32[...].
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any
    key: Any


def variables(state: State) -> dict[str, Any]:
    """Return the variables for evaluation and export: the moving averages if kept, else the network's own.

    >>> variables(State(0, {"kernel": 1.0}, {"batch_stats": {}}, (), None, 0))
    {'params': {'kernel': 1.0}, 'batch_stats': {}}
    """
    return dict(state.ema) if state.ema is not None else {"params": state.params, **state.model_state}


def replace_variables(state: State, collection: str, values: Any) -> State:
    """Return the state with one collection of :func:`variables`, other than the parameters, replaced.

    >>> state = State(0, {}, {"batch_stats": {"mean": 0.0}}, (), None, 0)
    >>> replace_variables(state, "batch_stats", {"mean": 1.0}).model_state
    {'batch_stats': {'mean': 1.0}}
    """
    if state.ema is not None:
        return state.replace(ema={**state.ema, collection: values})
    return state.replace(model_state={**state.model_state, collection: values})


def create(
    key: jax.Array, model: Any, task: Any, tx: optax.GradientTransformation, batch: Any, *, ema: bool = False
) -> State:
    """Initialise a training at step 0.

    >>> from jaxseg.models.semantic.unet import unet
    >>> from jaxseg.tasks.semantic import Semantic
    >>> import optax
    >>> batch = {"image": jnp.zeros((1, 8, 8, 3), jnp.uint8)}
    >>> state = create(jax.random.key(0), unet(num_classes=2, depth=1, width=2), Semantic(2), optax.sgd(0.1), batch)
    >>> int(state.step)
    0

    Args:
      key: a typed random key, for the parameters and every later step.
      model: a linen module.
      task: selects the model's inputs from the batch.
      tx: an optax transformation.
      batch: one batch; its first row gives the shapes.
      ema: keep moving averages.
    """
    init_key, step_key = jax.random.split(key)
    row = {name: np.zeros_like(np.asarray(value)[:1]) for name, value in batch.items()}
    # Drawing random numbers is most of the compiling and is done once: 4 s instead of 22 s for a small U-Net on a CPU.
    quick = jax.default_backend() == "cpu" and not isinstance(init_key, Tracer)
    options = {"xla_backend_optimization_level": 0} if quick else None
    init = jax.jit(lambda k, x: model.init(k, **task.inputs(x, train=False), train=False), compiler_options=options)
    return start(step_key, dict(init(init_key, row)), tx, ema=ema)


def start(key: jax.Array, collections: dict[str, Any], tx: optax.GradientTransformation, *, ema: bool) -> State:
    """Return a training at step 0 from the variables of a network.

    >>> import optax
    >>> int(start(jax.random.key(0), {"params": {"kernel": jnp.ones(())}}, optax.sgd(0.1), ema=False).step)
    0
    """
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
    """Replace every variable of ``state`` that ``found`` has at the same path with the same shape.

    >>> state = State(0, {"kernel": jnp.zeros(2), "bias": jnp.zeros(3)}, {}, (), None, 0)
    >>> carry_over(state, {"params": {"kernel": jnp.ones(2), "bias": jnp.ones(4)}})[1:]
    (1, 2)

    Returns:
      The state, the number of arrays replaced, and the number of arrays in total.

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
