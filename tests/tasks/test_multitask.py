import dataclasses
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import Data, Facts, Source
from jaxseg.errors import BadInput
from jaxseg.layers.conv import Conv
from jaxseg.losses import CrossEntropy, Dice
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.protocol import Task
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import checkpoint
from jaxseg.train.log import Console
from jaxseg.train.loop import evaluate, fit
from jaxseg.train.optim import SGD

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


def test_each_task_is_held_to_its_own_classes():
    four, three = tuple("abcd"), tuple("xyz")
    facts = Facts("set", "", four, ((0, 0, 0),) * 4, {}, tables={"parts": three})
    BOTH.check_facts(facts)
    with pytest.raises(BadInput, match="parts: the task has 3 classes, but data set 'set' has 4"):
        BOTH.check_facts(dataclasses.replace(facts, tables={}))
    with pytest.raises(BadInput, match="things: "):
        BOTH.check_facts(dataclasses.replace(facts, classes=three))


def test_losses_of_one_kind_in_two_tasks_keep_apart():
    outputs, batch = example()
    both = MultiTask({"things": THINGS, "parts": Semantic(3, losses=(CrossEntropy(),))})
    assert set(both.loss(outputs, batch)) == {"things/cross_entropy", "parts/cross_entropy"}


class TwoHeads(nn.Module):
    """Logits of two tasks from one convolution."""

    @nn.compact
    def __call__(self, image, *, train=False):
        x = Conv(14, 1, name="both")(image.astype(jnp.float32) / 255)
        return {"one/logits": x[..., :7], "two/logits": x[..., 7:]}


def test_two_tasks_train_from_batches_with_keys_of_their_own(tmp_path):
    options = (("size", 32), ("train", 4), ("val", 3))
    train, val = (Source("scenes", split, options=options) for split in ("train", "val"))
    data = Data(train=train, val=val, keys=("image", "one/label", "two/label"))
    both = MultiTask({"one": Semantic(7), "two": Semantic(7)})
    often: dict[str, Any] = {
        "steps": 2,
        "batch_size": 2,
        "eval_every": 1,
        "save_every": 1,
        "log_every": 1,
        "pictures": 2,
    }
    stage = Stage(model=TwoHeads(), task=both, data=data, optimizer=SGD(0.1), keep_best="two/miou", **often)
    figures = fit(Recipe(stages=(stage,), name="two"), tmp_path / "run", log=Console(quiet=True))
    assert {"one/miou", "two/miou", "one/boundary_f1"} <= set(figures)
    best = checkpoint.read(tmp_path / "run/stages/0-main/best")
    assert best.notes["metrics"]["two/miou"] >= figures["two/miou"]
    titles = {row["name"]: row["title"] for row in json.loads((tmp_path / "run/figures.json").read_text())}
    assert titles["two/miou"] == "two: mean IoU, void ignored"
    assert len(list((tmp_path / "run/samples").iterdir())) == 2

    alone = dataclasses.replace(data, keys=("image", "label"))
    last = checkpoint.read(tmp_path / "run/stages/0-main/checkpoints").variables
    found = evaluate(SecondHead(), last, Semantic(7), alone.eval_batches(batch_size=2))
    assert {f"two/{name}": value for name, value in found.items()} == {
        name: value for name, value in figures.items() if name.startswith("two/")
    }


class SecondHead(nn.Module):
    """The second task of :class:`TwoHeads` alone."""

    @nn.compact
    def __call__(self, image, *, train=False):
        x = Conv(14, 1, name="both")(image.astype(jnp.float32) / 255)
        return {"logits": x[..., 7:]}
