"""Mistakes of a recipe that can be seen before the first step are refused there, in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import create_model
from jaxseg.errors import BadInput
from jaxseg.layers.norm import BatchNorm
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.evaluate import evaluate
from jaxseg.train.log import Console
from jaxseg.train.loop import fit
from jaxseg.train.placement import replicated
from tests.train.toys import CLASSES, Net, Toy, recipe


def refusal(value, workdir, **options):
    with pytest.raises(BadInput) as refused:
        fit(value, workdir, log=Console(quiet=True), **options)
    assert "\n" not in str(refused.value)
    assert not any(workdir.glob("stages/*/checkpoints/[0-9]*"))
    return str(refused.value)


@pytest.mark.parametrize("outputs", [CLASSES - 1, CLASSES + 1])
def test_a_network_of_other_outputs_than_the_task_has_classes(tmp_path, outputs):
    said = refusal(recipe(model=Net(num_classes=outputs)), tmp_path)
    assert f"{outputs} outputs, but the task has {CLASSES} classes" in said


def test_a_task_of_other_classes_than_the_data_set(tmp_path):
    said = refusal(recipe(model=Net(num_classes=7), task=Semantic(num_classes=7)), tmp_path)
    assert f"the task has 7 classes, but data set 'toy' has {CLASSES}" in said


def test_a_task_of_one_class(tmp_path):
    assert "num_classes=2" in refusal(recipe(model=Net(num_classes=1), task=Semantic(num_classes=1)), tmp_path)


def test_evaluation_refuses_a_network_of_other_outputs():
    model, batches = Net(num_classes=2), Toy().eval_batches(batch_size=2)
    variables = model.init(jax.random.key(0), jnp.asarray(batches[0]["image"]))
    with pytest.raises(BadInput, match="2 outputs, but the task has 3 classes"):
        evaluate(model, variables, Semantic(num_classes=3), batches)


def test_void_as_a_class_counts_as_an_output(tmp_path):
    task = Semantic(num_classes=CLASSES, void_is_class=True)
    assert f"num_classes to {CLASSES + 1}" in refusal(recipe(task=task), tmp_path)


def test_several_tasks_are_each_held_to_their_outputs(tmp_path):
    task = MultiTask({"a": Semantic(CLASSES), "b": Semantic(CLASSES + 2)})
    assert f"{CLASSES} outputs, but the task has {CLASSES + 2} classes" in refusal(recipe(task=task), tmp_path)


def test_a_validation_split_that_cannot_be_read_is_seen_before_training(tmp_path, monkeypatch):
    def broken(self, **options):
        raise BadInput("there is no split 'val'")

    monkeypatch.setattr(Toy, "eval_batches", broken)
    monkeypatch.setattr("jaxseg.train.stage.StageTrainer.update", None)
    assert "no split 'val'" in refusal(recipe(), tmp_path)


def normalised(rows, side):
    layer, x = BatchNorm(), jnp.ones((rows, side, side, 3))
    variables = layer.init(jax.random.key(0), x, train=False)
    return layer.apply(variables, x, train=True, mutable=["batch_stats"])


def test_batch_normalisation_over_one_value_is_refused_in_training():
    with pytest.raises(BadInput, match=r"one value per channel in training .* two or more images"):
        normalised(1, 1)
    for rows, side in ((2, 1), (1, 2)):
        normalised(rows, side)
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), jnp.ones((1, 1, 1, 3)), train=True)
    layer.apply(variables, jnp.ones((1, 1, 1, 3)), train=False)


def test_replicas_of_one_row_see_the_whole_batch():
    """Statistics are those of all devices: as many values as devices."""
    assert len(replicated().local) > 1
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), jnp.ones((1, 1, 1, 3)), train=False)
    x = np.arange(len(replicated().local) * 3, dtype=np.float32).reshape(-1, 1, 1, 1, 3)

    def step(x):
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    found = jax.pmap(step, axis_name="data")(x)
    assert np.abs(np.asarray(found).mean(axis=0)).max() < 1e-3
    with pytest.raises(BadInput, match="one value per channel"):
        jax.pmap(step, axis_name="other")(x)


def test_the_layer_is_named():
    model = create_model("deeplabv3_mobilenet_v3_large", num_classes=3)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    keys = {"dropout": jax.random.key(1)}

    def step(variables, image):
        return model.apply(variables, image, train=True, mutable=["batch_stats"], rngs=keys)

    with pytest.raises(BadInput, match=r"BatchNorm \S*pool\S* sees one value"):
        jax.eval_shape(step, variables, image)
    jax.eval_shape(step, variables, jax.ShapeDtypeStruct((2, 64, 64, 3), np.uint8))
