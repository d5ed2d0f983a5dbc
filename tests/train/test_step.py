"""The step: its loss, its gradient however the batch is cut, its averages, and what the compiler keeps of it."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.losses import CrossEntropy
from jaxseg.tasks.protocol import Term
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import state as states
from jaxseg.train.optim import SGD, Poly
from jaxseg.train.step import make_eval_step, make_train_step
from tests.train.toys import CLASSES, Net, Toy

TASK = Semantic(num_classes=CLASSES)


def batch_of(rows=8, seed=0):
    """Rows with very different numbers of void pixels, the last of them not real."""
    batch = next(Toy().train_batches(batch_size=rows, seed=seed))
    batch["real"][-1] = False
    return {name: jnp.asarray(value) for name, value in batch.items()}


def begin(model, tx=None, *, ema=False, task=TASK):
    return states.create(jax.random.key(0), model, task, tx or optax.sgd(1.0), batch_of(), ema=ema)


def difference(before, after):
    """What was subtracted from the parameters: the gradient under ``optax.sgd(1.0)``."""
    return jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), before.params, after.params)


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_the_loss_is_each_terms_mean_over_what_counts():
    model, batch = Net(dropout=0.0, norm=False), batch_of()
    state = begin(model)
    _, metrics = jax.jit(make_train_step(model, TASK, optax.sgd(1.0)))(state, batch)
    outputs = model.apply(states.variables(state), batch["image"], train=False)
    batch = jax.device_get(batch)
    counted = (batch["label"] != 255) & batch["real"][:, None, None]
    means = {}
    for name in ("logits", "aux_logits"):
        log = np.asarray(jax.nn.log_softmax(outputs[name]))
        picked = np.take_along_axis(log, np.where(counted, batch["label"], 0)[..., None], -1)[..., 0]
        means[name] = -picked[counted].mean()
    np.testing.assert_allclose(metrics["loss/cross_entropy"], means["logits"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/aux_cross_entropy"], means["aux_logits"], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], means["logits"] + 0.4 * means["aux_logits"], rtol=1e-5)


@pytest.mark.parametrize("number", [2, 4, 8])
def test_microbatches_give_the_gradient_of_the_whole_batch(number):
    model, batch = Net(dropout=0.0, norm=False), batch_of()
    state = begin(model)
    whole, one = jax.jit(make_train_step(model, TASK, optax.sgd(1.0)))(state, batch)
    parts, many = jax.jit(make_train_step(model, TASK, optax.sgd(1.0), accumulate=number))(state, batch)
    assert_close(difference(state, whole), difference(state, parts), rtol=1e-4, atol=1e-6)
    assert_close(one, many, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class HardPixels:
    """Counts what the network itself finds hard: the counts depend on its outputs."""

    def inputs(self, batch, *, train):
        return {"image": batch["image"]}

    def loss(self, outputs, batch):
        value = jnp.square(outputs["logits"]).sum(-1)
        hard = value > 0.02
        return {"hard": Term(jnp.sum(jnp.where(hard, value, 0.0)), jnp.sum(hard).astype(jnp.float32))}


def test_microbatches_are_exact_where_the_network_decides_what_counts():
    model, batch = Net(dropout=0.0, norm=False), batch_of()
    state = begin(model, task=HardPixels())
    whole, one = jax.jit(make_train_step(model, HardPixels(), optax.sgd(1.0)))(state, batch)
    parts, many = jax.jit(make_train_step(model, HardPixels(), optax.sgd(1.0), accumulate=4))(state, batch)
    assert_close(difference(state, whole), difference(state, parts), rtol=1e-4, atol=1e-6)
    assert_close(one, many, rtol=1e-5)


def test_counting_costs_no_second_forward_pass():
    """Two microbatches compile to as many convolutions as one batch, unless the counts need the network."""

    def convolutions(task, number):
        state = begin(model, task=task)
        step = make_train_step(model, task, optax.sgd(1.0), accumulate=number)
        text = jax.jit(step).lower(state, batch).compile().as_text()
        assert text is not None
        return len(re.findall(r"= \S+ convolution\(", text)) + text.count("custom-call(")

    model, batch = ThreeByThree(), batch_of()
    assert convolutions(TASK, 1) == convolutions(TASK, 2) > 0
    assert convolutions(HardPixels(), 2) > convolutions(HardPixels(), 1)


class ThreeByThree(nn.Module):
    @nn.compact
    def __call__(self, image, *, train=False):
        return {"logits": nn.Conv(CLASSES, (3, 3), name="only")(image.astype(jnp.float32) / 255.0)}


def test_running_statistics_move_once_for_each_microbatch():
    model, batch = Net(dropout=0.0), batch_of()
    state = begin(model)
    new, _ = jax.jit(make_train_step(model, TASK, optax.sgd(0.0), accumulate=2))(state, batch)
    variables = states.variables(state)
    for m in (0, 1):
        _, changed = model.apply(variables, batch["image"][m::2], train=True, mutable=["batch_stats"])
        variables = {**variables, **changed}
    assert_close(new.model_state, {"batch_stats": variables["batch_stats"]}, rtol=1e-5, atol=1e-6)


def test_dropout_differs_from_step_to_step_and_repeats_from_the_same_state():
    model, batch = Net(norm=False, dropout=0.5), batch_of()
    state = begin(model)
    step = jax.jit(make_train_step(model, TASK, optax.sgd(0.0)))
    one, first = step(state, batch)
    _, second = step(one, batch)
    _, again = step(state, batch)
    assert float(first["loss"]) == float(again["loss"]) != float(second["loss"])


def test_averages_of_parameters_and_statistics_are_the_formula():
    model, batch = Net(dropout=0.0), batch_of()
    tx = SGD(0.1).build(10)
    state = begin(model, tx, ema=True)
    step = jax.jit(make_train_step(model, TASK, tx, ema=0.5))
    averages = {"params": state.params, **state.model_state}
    for t in range(12):
        state, _ = step(state, batch)
        keep = min(0.5, (1 + t) / (10 + t))
        values = {"params": state.params, **state.model_state}
        averages = jax.tree.map(lambda a, v, k=keep: k * np.asarray(a) + (1 - k) * np.asarray(v), averages, values)
    assert_close(state.ema, averages, rtol=1e-5, atol=1e-6)
    assert states.variables(state) is not state.params
    assert_close(states.variables(state), averages, rtol=1e-5, atol=1e-6)


def test_metrics_tell_the_norm_and_the_rate_of_the_step_just_made():
    model, batch = Net(dropout=0.0, norm=False), batch_of()
    state = begin(model)
    step = jax.jit(make_train_step(model, TASK, optax.sgd(1.0), rate=Poly(1.0, 1.0).build(4)))
    new, metrics = step(state, batch)
    leaves = np.concatenate([x.ravel() for x in jax.tree.leaves(difference(state, new))])
    np.testing.assert_allclose(metrics["grad_norm"], np.sqrt(np.sum(leaves**2)), rtol=1e-4)
    assert float(metrics["learning_rate"]) == 1.0
    assert float(step(new, batch)[1]["learning_rate"]) == 0.75
    assert int(new.step) == 1


def test_weights_scale_a_terms_share():
    model, batch = Net(dropout=0.0, norm=False), batch_of()
    state = begin(model)
    light = Semantic(num_classes=CLASSES, losses=(CrossEntropy(weight=0.25),), aux_weight=0.0)
    _, metrics = jax.jit(make_train_step(model, light, optax.sgd(1.0)))(state, batch)
    np.testing.assert_allclose(metrics["loss"], 0.25 * metrics["loss/cross_entropy"], rtol=1e-6)


def test_evaluation_observes_predictions_without_dropout():
    model, batch = Net(dropout=0.9), batch_of()
    state = begin(model)
    observe = jax.jit(make_eval_step(model, TASK))
    seen = observe(states.variables(state), batch)
    again = observe(states.variables(state), batch)
    assert set(seen) == set(TASK.metrics())
    assert_close(seen, again, rtol=0)


def test_weights_are_carried_over_by_path_and_shape():
    narrow, wide = begin(Net(width=4)), begin(Net(width=6), ema=True)
    moved = jax.tree.map(lambda x: x + 1.0, states.variables(narrow))
    state, carried, known = states.carry_over(wide, moved)
    fits = {"params/aux/bias", "params/last/bias"}
    assert (carried, known) == (len(fits), len(jax.tree.leaves(states.variables(wide))))
    np.testing.assert_array_equal(state.params["last"]["bias"], moved["params"]["last"]["bias"])
    np.testing.assert_array_equal(state.ema["params"]["aux"]["bias"], moved["params"]["aux"]["bias"])
    np.testing.assert_array_equal(state.params["first"]["kernel"], wide.params["first"]["kernel"])
    whole, carried, known = states.carry_over(begin(Net()), moved)
    assert carried == known
    assert_close(states.variables(whole), moved, rtol=0)
