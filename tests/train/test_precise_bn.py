"""Statistics of batch normalisation from one pass: against NumPy, on any number of devices, within a run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.layers.norm import BatchNorm
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.evaluate import evaluate
from jaxseg.train.placement import replicated, sharded, single
from jaxseg.train.precise_bn import precise_bn
from tests.train.test_loop import assert_same_end, interrupted, last, run
from tests.train.toys import CLASSES, Net, Toy, recipe

TASK = Semantic(num_classes=CLASSES)
IMAGE = jnp.zeros((1, 8, 8, 3), jnp.uint8)


class TwoNorms(nn.Module):
    """The second layer sees what the first one makes of a batch; their momenta differ."""

    @nn.compact
    def __call__(self, image, *, train=False):
        x = BatchNorm(momentum=0.9, name="first")(image.astype(jnp.float32) / 255.0, train=train)
        return {"logits": BatchNorm(momentum=0.3, name="second")(jnp.square(x), train=train)}


def by_hand(batches):
    """Plain averages of each batch's means and unbiased variances, in float64."""
    seen = []
    for batch in batches:
        x = batch["image"].reshape(-1, 3) / 255.0
        y = np.square((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5))
        seen.append([(z.mean(0), z.var(0, ddof=1)) for z in (x, y)])
    means = np.mean(seen, axis=0)
    return {name: {"mean": m, "var": v} for name, (m, v) in zip(("first", "second"), means, strict=True)}


@pytest.mark.parametrize("place", [single, sharded, replicated])
def test_they_are_plain_averages_whatever_the_placement(place):
    model, batches = TwoNorms(), Toy(images=12).eval_batches(batch_size=4)
    variables = model.init(jax.random.key(0), IMAGE)
    variables = {**variables, "batch_stats": jax.tree.map(lambda x: x + 7.0, variables["batch_stats"])}
    told = []
    found = precise_bn(model, variables, TASK, batches, placement=place(), on_batch=told.append)
    assert told == [1, 2, 3]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found["batch_stats"], by_hand(batches))
    jax.tree.map(np.testing.assert_array_equal, found["params"], variables["params"])


def test_masks_of_dropout_belong_to_the_batch_and_not_to_the_device():
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, image, *, train=False):
            outputs = Net(dropout=0.5, name="net")(image, train=train)
            return {"logits": BatchNorm(name="after")(outputs["logits"], train=train)}

    model, batches = Dropped(), Toy(images=8).eval_batches(batch_size=4)
    variables = model.init(jax.random.key(0), IMAGE)
    one, many = (
        precise_bn(model, variables, TASK, batches, placement=place())["batch_stats"] for place in (single, replicated)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, many)


def test_a_network_without_them_is_refused():
    model = Net(norm=False)
    with pytest.raises(BadInput, match="Net has no statistics to estimate anew"):
        precise_bn(model, model.init(jax.random.key(0), IMAGE), TASK, Toy().eval_batches(batch_size=4))
    model = Net()
    with pytest.raises(BadInput, match="from no batches"):
        precise_bn(model, model.init(jax.random.key(0), IMAGE), TASK, [])


def test_a_run_of_such_a_network_is_refused_before_its_first_update(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxseg.train.stage.StageTrainer.update", None)
    with pytest.raises(BadInput, match="Net has no statistics to estimate anew"):
        run(recipe(model=Net(norm=False), precise_bn=True), tmp_path)


def test_a_run_evaluates_and_keeps_them_and_goes_on_as_if_uninterrupted(tmp_path, monkeypatch):
    value = recipe(precise_bn=True)
    stage = value.stages[0]
    metrics = run(value, tmp_path / "straight")
    kept = last(tmp_path / "straight").variables
    again = precise_bn(stage.model, kept, TASK, stage.data.eval_batches(batch_size=4, split="train"))
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], again["batch_stats"])
    assert metrics == evaluate(stage.model, kept, stage.task, stage.data.eval_batches(batch_size=3))
    for where, at in (("evaluate", 6), ("update", 7)):
        interrupted(monkeypatch, tmp_path / where, value, at=at, where=where)
        assert run(value, tmp_path / where) == metrics
        assert_same_end(tmp_path / where, tmp_path / "straight")


def test_without_averages_they_are_those_of_the_network_and_change_no_parameter(tmp_path):
    value = recipe(precise_bn=True, ema=None, pictures=0)
    stage = value.stages[0]
    metrics = run(value, tmp_path / "anew")
    kept = last(tmp_path / "anew").variables
    again = precise_bn(stage.model, kept, TASK, stage.data.eval_batches(batch_size=4, split="train"))
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], again["batch_stats"])
    assert run(recipe(ema=None, pictures=0), tmp_path / "plain") != metrics
    jax.tree.map(np.testing.assert_array_equal, kept["params"], last(tmp_path / "plain").variables["params"])
