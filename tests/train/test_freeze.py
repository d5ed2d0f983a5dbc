"""Frozen variables stay to the bit; everything else is trained as if they were constants."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.errors import BadInput
from jaxseg.layers.norm import FrozenBatchNorm
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import state as states
from jaxseg.train.freeze import check_freeze, restored
from jaxseg.train.optim import SGD, path_of
from jaxseg.train.step import make_statistics_step, make_train_step
from tests.train.toys import CLASSES, Net, Toy

MODEL, TASK = Net(dropout=0.0), Semantic(CLASSES)
BATCH = jax.tree.map(jnp.asarray, Toy().rows(np.arange(4), 0))


def after(freeze, steps=2):
    """The state before and after some steps under weight decay and momentum, by path."""
    tx = SGD(0.5, weight_decay=0.1).build(steps)
    state = states.create(jax.random.key(0), MODEL, TASK, tx, BATCH)
    before = jax.device_get(states.variables(state))
    step = jax.jit(make_train_step(MODEL, TASK, tx, freeze=freeze))
    for _ in range(steps):
        state, metrics = step(state, BATCH)
    return by_path(before), by_path(jax.device_get(states.variables(state))), jax.device_get(metrics)


def by_path(variables):
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {path_of(path).partition("/")[2]: leaf for path, leaf in leaves}


@pytest.mark.parametrize(
    ("freeze", "stay"),
    [
        ((r"^first/", r"^norm/"), {"first/kernel", "first/bias", "norm/scale", "norm/bias", "norm/mean", "norm/var"}),
        ((r"/(mean|var)$",), {"norm/mean", "norm/var"}),
    ],
)
def test_what_is_frozen_stays_to_the_bit_under_decay_and_momentum_and_the_rest_moves(freeze, stay):
    before, now, _ = after(freeze)
    same = {path for path in before if np.array_equal(before[path], now[path])}
    assert stay <= set(before)
    assert same == stay


def test_a_frozen_normalisation_uses_its_running_statistics():
    """Frozen and free normalisations see other values: the statistics are 0 and 1, the batch's are not."""
    assert after((r"/(mean|var)$",), 1)[2]["loss"] != after((), 1)[2]["loss"]


def test_the_gradient_of_what_is_free_is_that_with_the_rest_as_constants():
    freeze = (r"^first/", r"^norm/")
    _, now, metrics = after(freeze, 1)
    tx = optax.sgd(0.5)
    state = states.create(jax.random.key(0), MODEL, TASK, tx, BATCH)

    def loss(free):
        params = {**state.params, **free}
        given = {"params": params, **state.model_state}
        outputs = MODEL.apply(given, BATCH["image"], train=False)  # running statistics; dropout is 0
        terms = TASK.loss(outputs, BATCH)
        return sum(term.weight * term.sum / term.count for term in terms.values())

    free = {name: state.params[name] for name in ("last", "aux")}
    grads = jax.grad(loss)(free)
    expected = jax.tree.map(lambda p, g: p - 0.5 * (g + 0.1 * p), free, grads)
    for path, value in by_path({"params": expected}).items():
        np.testing.assert_allclose(now[path], value, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(grads), rtol=1e-5)


def test_statistics_of_layers_that_keep_their_own_are_not_spoilt_by_precise_bn():
    class Still(nn.Module):
        @nn.compact
        def __call__(self, image, *, train=False):
            x = FrozenBatchNorm(name="still")(image.astype(jnp.float32), train=train)
            return {"logits": nn.Dense(CLASSES)(x)}

    model = Still()
    variables = model.init(jax.random.key(0), BATCH["image"])
    found = make_statistics_step(model, TASK)(variables, {"image": BATCH["image"]}, np.int32(0))
    jax.tree.map(np.testing.assert_array_equal, found, variables["batch_stats"])
    assert restored({"still": {"mean": 1}}, {"still": {"mean": 0}}, ("^still",)) == {"still": {"mean": 0}}


@pytest.mark.parametrize(
    ("freeze", "fault"),
    [
        (("nowhere",), "no variable matches 'nowhere'; paths look like"),
        (("(",), "not a regular expression"),
        (("",), "leaves no parameter to train"),
    ],
)
def test_what_freezes_nothing_or_everything_is_refused(freeze, fault):
    with pytest.raises(BadInput, match=fault):
        check_freeze(freeze, {"params": {"head": {"kernel": 0}}, "batch_stats": {"norm": {"mean": 0}}})
