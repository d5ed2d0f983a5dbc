"""A small network of every family that gives pixels numbers learns four rendered scenes by heart.

Its loss falls below half of the best constant answer's. The cheapest families run always, ``-m slow`` runs the others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg import registry
from jaxseg.data.sets.scenes import scene
from jaxseg.tasks.table import task_for
from tests.contracts.zoo import main_output

TASKS = ("boundary", "saliency")
SETTINGS = {
    name: entry.overfit
    for name, entry in registry.entries().items()
    if entry.task in TASKS and entry.overfit is not None
}


@functools.cache
def four_scenes(size):
    rooms = [scene("train", i, *size) for i in range(4)]
    return {key: jnp.asarray(np.stack([room[key] for room in rooms])) for key in ("image", *TASKS)}


def learned(name):
    """The loss of the fused output in the last five steps, and that of the best constant."""
    setting, task = registry.find(name).overfit, task_for(registry.find(name).task, None, ())
    model, batch = registry.create_overfit(name), four_scenes(setting.size)
    tx, key = optax.adam(setting.learning_rate), main_output(name)
    variables = jax.jit(model.init)(jax.random.key(0, impl="rbg"), batch["image"])
    params, rest = variables["params"], {k: v for k, v in variables.items() if k != "params"}

    def loss(params, rest):
        outputs, rest = model.apply({"params": params, **rest}, batch["image"], train=True, mutable=["batch_stats"])
        terms = task.loss(outputs, batch)
        return sum(t.weight * t.sum / t.count for t in terms.values()), (dict(rest), _mean(terms["fused"]))

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def run(params, rest):
        def step(carry, _):
            params, rest, moments = carry
            (_, (rest, fused)), slope = jax.value_and_grad(loss, has_aux=True)(params, rest)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                updates, moments = tx.update(slope, moments)
            return (optax.apply_updates(params, updates), rest, moments), fused

        return jax.lax.scan(step, (params, rest, tx.init(params)), length=setting.steps)[1]

    constants = [
        float(_mean(task.loss({key: jnp.full(batch["image"].shape[:3], float(c))}, batch)["fused"]))
        for c in range(-4, 5)
    ]
    return float(run(params, rest)[-5:].mean()), min(constants)


def _mean(term):
    return term.sum / term.count


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if setting.quick else pytest.mark.slow) for name, setting in SETTINGS.items()]
)
def test_it_learns_four_scenes(name):
    found, constant = learned(name)
    print(f"loss: {found:.4f} learned, {constant:.4f} of the best constant")
    assert found < constant / 2
