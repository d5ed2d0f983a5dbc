"""Losses of several tasks balanced by what the network learns, against the papers' formulas."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.errors import BadInput
from jaxseg.layers.task_weights import GradNorm, LogVariances
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.protocol import Term
from jaxseg.train.state import create
from jaxseg.train.step import make_train_step


class Square:
    """Squared error of ``value`` against ``truth``, over the real rows."""

    def __eq__(self, other):
        return type(self) is type(other)

    def __hash__(self):
        return 0

    def inputs(self, batch, *, train):
        return {"image": batch["image"]}

    def loss(self, outputs, batch):
        values = jnp.square(outputs["value"] - batch["truth"]).mean(-1)
        real = batch.get("real", jnp.ones(values.shape, bool))
        return {"square": Term(jnp.where(real, values, 0.0).sum(), real.sum().astype(jnp.float32))}

    def predict(self, outputs, batch):
        return {}

    def metrics(self):
        return {}


class Shared(nn.Module):
    """One shared layer and two linear heads on it."""

    by: str = "gradnorm"
    alpha: float = 1.5

    @nn.compact
    def __call__(self, image, *, train=False):
        x = jnp.tanh(nn.Dense(8, name="shared")(image))[:, None, None]
        copies, outputs = [x, x], {}
        if self.by == "gradnorm":
            copies, outputs = GradNorm(2, self.alpha, (1.0, 2.0), name="balance")(x)
        if self.by == "uncertainty":
            outputs = LogVariances(2, name="balance")()
        found = {f"{k}/value": nn.Dense(4, name=f"head_{k}")(copies[i][:, 0, 0]) for i, k in enumerate("ab")}
        return {**found, **outputs}


def batch_of(scale=10.0, present=True):
    """The second task's truth is ``scale`` times as large."""
    rng = np.random.default_rng(0)
    draw = lambda: jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)  # noqa: E731
    batch = {"image": draw(), "a/truth": draw(), "b/truth": scale * draw(), "b/present": jnp.full(6, present)}
    return {**batch, "real": jnp.ones(6, bool)}


def total(task, model, variables, batch):
    """What a training step minimises."""
    outputs: Any = model.apply(variables, batch["image"])
    terms = task.loss(outputs, batch)
    return sum(t.weight * t.sum / jnp.maximum(jax.lax.stop_gradient(t.count), 1.0) for t in terms.values())


def both(by):
    return MultiTask({"a": Square(), "b": Square()}, balance=by)


def started(by, **options):
    model, batch = Shared(by, **options), batch_of()
    return model, batch, model.init(jax.random.key(0), batch["image"])


def test_uncertainty_follows_its_formula():
    model, batch, variables = started("uncertainty")
    variables["params"]["balance"]["log_variance"] = jnp.asarray([0.5, 2.0])
    outputs: Any = model.apply(variables, batch["image"])
    losses = [float(t.sum / t.count) for t in both("fixed").loss(outputs, batch).values()]
    value, slope = jax.value_and_grad(lambda v: total(both("uncertainty"), model, v, batch))(variables)
    s = np.asarray([0.5, 2.0])
    assert float(value) == pytest.approx(float((np.exp(-s) * losses + s).sum()), rel=1e-5)
    np.testing.assert_allclose(slope["params"]["balance"]["log_variance"], 1 - np.exp(-s) * losses, rtol=1e-5)


def test_gradnorm_follows_its_formula():
    """Against norms that are taken one task at a time, and the loss of equation 2 differentiated by hand."""
    alpha = 0.7
    model, batch, variables = started("gradnorm", alpha=alpha)
    variables["params"]["balance"]["logits"] = jnp.asarray([0.3, -0.2])
    weight = 2 * np.asarray(jax.nn.softmax(jnp.asarray([0.3, -0.2])))
    params: Any = variables["params"]
    x = jnp.tanh(batch["image"] @ params["shared"]["kernel"] + params["shared"]["bias"][None])

    def loss(x, k):
        found = x @ params[f"head_{k}"]["kernel"] + params[f"head_{k}"]["bias"][None]
        return jnp.square(found - batch[f"{k}/truth"]).mean()

    losses = np.asarray([loss(x, k) for k in "ab"])
    norms = np.asarray([np.linalg.norm(jax.grad(loss)(x, k)) for k in "ab"])
    rate = losses / [1.0, 2.0]
    wanted = (weight * norms).mean() * (rate / rate.mean()) ** alpha
    of_weight = np.sign(weight * norms - wanted) * norms
    of_logits = weight * (of_weight - (weight * of_weight).sum() / 2)

    slope = jax.grad(lambda v: total(both("gradnorm"), model, v, batch))(variables)["params"]
    np.testing.assert_allclose(slope["balance"]["logits"], of_logits, rtol=1e-4)
    by_hand = jax.grad(lambda x: weight[0] * loss(x, "a") + weight[1] * loss(x, "b"))(x)
    through = jax.vjp(lambda p: jnp.tanh(batch["image"] @ p["kernel"] + p["bias"][None]), params["shared"])[1](by_hand)[
        0
    ]
    np.testing.assert_allclose(slope["shared"]["kernel"], through["kernel"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by", ["uncertainty", "gradnorm"])
def test_learnt_weights_even_out_tasks_of_unlike_scale(by):
    """The second task's loss is a hundred times the first one's: after some steps its factor is the less."""
    model, batch, _ = started(by, alpha=0.0)
    task, tx = both(by), optax.adam(0.05)
    state = create(jax.random.key(0), model, task, tx, batch)
    step = jax.jit(make_train_step(model, task, tx))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(30):
            state, metrics = step(state, batch)
    outputs: Any = model.apply({"params": state.params}, batch["image"])
    a, b = np.exp(-outputs["log_variance"]) if by == "uncertainty" else outputs["task_weight"]
    assert b < a / 2
    assert np.isfinite(metrics["loss"])


@pytest.mark.parametrize("by", ["uncertainty", "gradnorm"])
def test_a_task_without_labels_leaves_its_weight_alone(by):
    model, _, variables = started(by)
    slope = jax.grad(lambda v: total(both(by), model, v, batch_of(present=False)))(variables)["params"]["balance"]
    if by == "uncertainty":
        assert slope["log_variance"][0] != 0
        assert slope["log_variance"][1] == 0
    else:
        np.testing.assert_allclose(slope["logits"], 0, atol=1e-6)


def test_a_network_without_the_weights_is_refused():
    model, batch, variables = started("fixed")
    with pytest.raises(BadInput, match="needs a network that returns log_variance of 2 tasks, not none"):
        total(both("uncertainty"), model, variables, batch)
    with pytest.raises(BadInput, match="balance is one of 'fixed', 'uncertainty', 'gradnorm', not 'even'"):
        MultiTask({"a": Square()}, balance="even")
