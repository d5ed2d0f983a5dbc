"""A small network of every family learns four rendered scenes by heart, far better than its classifier alone does.

A wrong sign, a gradient that is stopped somewhere or scores that are misplaced, unseen by shape tests, fail here. The
cheapest families run always, ``-m slow`` runs the others.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg import registry
from jaxseg.data.sets.scenes import scene
from jaxseg.models.semantic.dilated import identity
from jaxseg.tasks.semantic import Semantic
from tests.contracts.zoo import CLASSES, LABELLERS

SETTINGS = {name: setting for name in LABELLERS if (setting := registry.find(name).overfit) is not None}
"""One network of every file, at least."""


@functools.cache
def four_scenes(size):
    """Wall, floor, and all the rest as one."""
    rooms = [scene("train", i, *size) for i in range(4)]
    label = np.stack([np.minimum(room["label"], CLASSES - 1) for room in rooms]).astype(np.int32)
    return jnp.asarray(np.stack([room["image"] for room in rooms])), jnp.asarray(label)


def drawn(model, image, gain):
    """Variables as He et al. draw them, without the compiling that the networks' own beginnings need. What has a
    beginning that matters keeps it: the CRF's matrices, and the context module's identity, whose ReLUs let the scores
    of a front end that was not trained before pass only if they are positive."""
    rng = np.random.default_rng(0)
    rest = {"scale": 1.0, "var": 1.0, "alpha": 0.25}
    kept = {"spatial": 3.0, "bilateral": 5.0, "compatibility": -1.0}

    def draw(path, leaf):
        name, parent, room = path[-1].key, path[-2].key, path[-3].key if len(path) > 2 else ""
        if parent in kept:
            return kept[parent] * jnp.eye(CLASSES)
        if room == "context" and name == "kernel":
            return identity(CLASSES)(jax.random.key(0), leaf.shape, leaf.dtype)
        if (room, parent, name) == ("frontend", "final", "bias"):
            return jnp.full(leaf.shape, 3.0, leaf.dtype)
        if name == "kernel":
            return jnp.asarray(rng.normal(size=leaf.shape) * (gain / np.prod(leaf.shape[:-1])) ** 0.5, leaf.dtype)
        return jnp.full(leaf.shape, rest.get(name, 0.0), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: model.init(jax.random.key(0), image)))


def taught(name):
    """Of all pixels, the share of the commonest class, and the shares that are right in the last five steps: where all
    parameters learn, where those alone do that give as many channels as there are classes: the classifier, not the
    context module behind it.
    """
    setting = registry.find(name).overfit
    model, (image, label) = registry.create_overfit(name), four_scenes(setting.size)
    task, tx = Semantic(model.num_classes), optax.adam(setting.learning_rate)
    variables = drawn(model, image, setting.gain)
    params, state = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    train = bool(state)  # without statistics it means dropout alone, which a few updates of a few channels cannot bear

    def loss(params, state, key):
        outputs, state = model.apply(
            {"params": params, **state}, image, train=train, mutable=["batch_stats"], rngs={"dropout": key}
        )
        term = task.loss({"logits": outputs["logits"]}, {"label": label})["cross_entropy"]
        return term.sum / term.count, (dict(state), jnp.mean(jnp.argmax(outputs["logits"], -1) == label))

    # optimised, since it runs often
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def run(params, state, learning):
        def step(carry, key):
            params, state, moments = carry
            (_, (state, right)), slope = jax.value_and_grad(loss, has_aux=True)(params, state, key)
            with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
                updates, moments = tx.update(slope, moments)
            params = jax.tree.map(lambda p, u, learns: p + u * learns, params, updates, learning)
            return (params, state, moments), right

        keys = jax.random.split(jax.random.key(1), setting.steps)
        return jax.lax.scan(step, (params, state, tx.init(params)), keys)[1]

    everything = jax.tree.map(lambda _: 1.0, params)
    last_alone = jax.tree_util.tree_map_with_path(
        lambda path, leaf: float(leaf.shape[-1] == model.num_classes and path[0].key != "context"), params
    )
    common = np.bincount(np.asarray(label).ravel()).max() / label.size
    return common, *(float(run(params, state, learning)[-5:].mean()) for learning in (everything, last_alone))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if setting.quick else pytest.mark.slow) for name, setting in SETTINGS.items()]
)
def test_it_learns_four_scenes(name):
    """It halves the errors of the best constant answer, and those of its classifier on a network at rest by a third."""
    common, learned, rested = taught(name)
    told = f"right: {common:.3f} for the commonest class, {learned:.3f} learned, {rested:.3f} at rest"
    print(told)
    assert 1 - learned < (1 - common) / 2, told
    assert 1 - learned < (1 - rested) * 2 / 3, told


def test_every_family_learns():
    """Each file of networks that label pixels registers one with ``overfit=Overfit(...)``."""
    homes = {name: registry.find(name).module for name in LABELLERS}
    assert {homes[name] for name in SETTINGS} == set(homes.values())
