import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.losses import CrossEntropy, Dice
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.protocol import Task
from jaxseg.tasks.semantic import Semantic

THINGS, PARTS = Semantic(4), Semantic(3, losses=(Dice(),))
BOTH = MultiTask({"things": THINGS, "parts": PARTS}, weights=(1.0, 0.5))


def example():
    rng = np.random.default_rng(0)
    draw = lambda k: jnp.asarray(rng.normal(size=(3, 6, 6, k)), jnp.float32)  # noqa: E731
    outputs = {"logits": draw(4), "parts/logits": draw(3)}
    batch = {
        "label": jnp.asarray(rng.integers(0, 4, (3, 6, 6)), jnp.int32),
        "parts/label": jnp.asarray(rng.integers(0, 3, (3, 6, 6)), jnp.int32),
        "parts/present": jnp.asarray([True, False, True]),
        "real": jnp.asarray([True, True, False]),
    }
    return outputs, batch


def test_is_a_task_and_a_value():
    assert isinstance(BOTH, Task)
    assert MultiTask((("things", THINGS), ("parts", PARTS)), (1.0, 0.5)) == BOTH
    assert hash(BOTH) != hash(MultiTask({"things": THINGS, "parts": PARTS}))


def test_each_task_learns_only_from_rows_that_carry_its_label():
    outputs, batch = example()
    terms = jax.jit(BOTH.loss)(outputs, batch)
    things = THINGS.loss({"logits": outputs["logits"][:2]}, {"label": batch["label"][:2]})["cross_entropy"]
    parts = PARTS.loss({"logits": outputs["parts/logits"][:1]}, {"label": batch["parts/label"][:1]})["dice"]
    assert set(terms) == {"things/cross_entropy", "parts/dice"}
    np.testing.assert_allclose(terms["things/cross_entropy"].sum, things.sum, rtol=1e-6)
    np.testing.assert_allclose(terms["parts/dice"].sum, parts.sum, rtol=1e-6)
    assert (terms["things/cross_entropy"].count, terms["parts/dice"].count) == (things.count, parts.count)
    assert terms["parts/dice"].weight == 0.5


def test_no_gradient_flows_from_a_row_without_the_label():
    outputs, batch = example()

    def loss(logits):
        return BOTH.loss({**outputs, "parts/logits": logits}, batch)["parts/dice"].sum

    slope = np.abs(jax.grad(loss)(outputs["parts/logits"])).max((1, 2, 3))
    assert slope[0] > 0
    assert slope[1] == slope[2] == 0


def test_metrics_are_each_tasks_own():
    outputs, batch = example()
    predictions = BOTH.predict(outputs, batch)
    figures = {}
    for metric in BOTH.metrics().values():
        figures.update(metric.result(metric.fold(metric.init(), jax.jit(metric.observe)(predictions, batch))))
    right = np.asarray(predictions["parts/label"][0]) == np.asarray(batch["parts/label"][0])
    assert figures["parts/pixel_accuracy"] == pytest.approx(right.mean())
    right = np.asarray(predictions["things/label"][:2]) == np.asarray(batch["label"][:2])
    assert figures["things/pixel_accuracy"] == pytest.approx(right.mean())


def test_a_prediction_that_only_one_task_makes_keeps_its_key():
    outputs, batch = example()
    assert set(MultiTask({"things": THINGS}).predict(outputs, batch)) == {"label", "probability"}
    assert "things/label" in BOTH.predict(outputs, batch)


def test_wrong_settings_are_refused():
    with pytest.raises(BadInput, match="names of their own"):
        MultiTask((("a", THINGS), ("a", PARTS)))
    with pytest.raises(BadInput, match="1 weights for 2 tasks"):
        MultiTask({"a": THINGS, "b": PARTS}, weights=(1.0,))


def test_losses_of_one_kind_in_two_tasks_keep_apart():
    outputs, batch = example()
    both = MultiTask({"things": THINGS, "parts": Semantic(3, losses=(CrossEntropy(),))})
    assert set(both.loss(outputs, batch)) == {"things/cross_entropy", "parts/cross_entropy"}
