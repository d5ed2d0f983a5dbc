"""A small variant of several families learns four rendered scenes: soon it is far better than any constant answer.

A wrong sign, a gradient that is stopped somewhere or scores that are misplaced, unseen by shape tests, fail here.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.data.sets.scenes import scene
from jaxseg.tasks.semantic import Semantic
from tests.contracts.zoo import SMALL

LEARNERS = ("deconvnet_vgg16", "linknet", "lraspp_mobilenet_v3_large")
"""One for switches, one for sums, one for a light head: each way up that has a form of its own. The whole zoo takes
minutes."""

CLASSES = 3
"""Wall, floor, and all the rest as one."""


@functools.cache
def four_scenes(height, width):
    rooms = [scene("train", i, height, width) for i in range(4)]
    label = np.stack([np.minimum(room["label"], CLASSES - 1) for room in rooms]).astype(np.int32)
    return {"image": jnp.asarray(np.stack([room["image"] for room in rooms])), "label": jnp.asarray(label)}


def constant_loss(label):
    """The entropy of the labels: what an answer that does not look at the image costs at best, in nats."""
    share = np.bincount(np.asarray(label).ravel()) / label.size
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def drawn(model, image):
    """Variables as He et al. draw them, without the compiling that the networks' own beginnings need."""
    rng = np.random.default_rng(0)
    rest = {"scale": 1.0, "var": 1.0, "alpha": 0.25}

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            return jnp.asarray(rng.normal(size=leaf.shape) * (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.dtype)
        return jnp.full(leaf.shape, rest.get(name, 0.0), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(lambda: model.init(jax.random.key(0), image)))


def learned(model, batch, steps=25):
    """The mean cross-entropy of the last five of so many steps of Adam on one batch, all in one program."""
    task, tx = Semantic(model.num_classes), optax.adam(1e-2)
    variables = drawn(model, batch["image"])

    def loss(params, state, key):
        outputs, state = model.apply(
            {"params": params, **state}, batch["image"], train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        term = task.loss({"logits": outputs["logits"]}, batch)["cross_entropy"]
        return term.sum / term.count, dict(state)

    def step(carry, key):
        params, state, moments = carry
        (value, state), slope = jax.value_and_grad(loss, has_aux=True)(params, state, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, moments = tx.update(slope, moments)
        return (optax.apply_updates(params, updates), state, moments), value

    @jax.jit
    def run(params, state):
        return jax.lax.scan(step, (params, state, tx.init(params)), jax.random.split(jax.random.key(1), steps))[1]

    values = run(variables["params"], {name: value for name, value in variables.items() if name != "params"})
    return float(values[-5:].mean())


@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns_four_scenes(name):
    model, batch = SMALL[name](jnp.float32), four_scenes(48, 64)
    final, least = learned(model, batch), constant_loss(batch["label"])
    assert final < 0.8 * least, f"{final:.3f} after training, {least:.3f} without looking"
