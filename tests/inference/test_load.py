"""A trained model, saved and loaded again: with no code of its recipe, the same to the bit, whole or not at all."""

import json
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.errors import BadInput
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.inference.load import load, save
from jaxseg.inference.predict import predict
from jaxseg.models.semantic.unet import unet
from jaxseg.tasks.semantic import Semantic
from tests.inference.test_predict import picture, recipe_of, run_of


@pytest.fixture(scope="module")
def run():
    return run_of(unet(num_classes=7, depth=1, width=2), (32, 32), classes=7)


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_what_is_saved_is_loaded(run, tmp_path, name):
    save(run, tmp_path / name, licence="CC0", metrics={"val/miou": 0.5})
    again = load(tmp_path / name)
    assert (again.model, again.task, again.recipe, again.stage) == (run.model, run.task, run.recipe, run.stage)
    assert (again.facts.classes, again.facts.palette) == (run.facts.classes, run.facts.palette)
    assert again.card.licence == "CC0"
    assert again.card.metrics == {"val/miou": 0.5}
    assert folder.verify(tmp_path / name, run.variables) == 0
    image = picture(20, 24, 3)
    np.testing.assert_array_equal(predict(again, image)["label"], predict(run, image)["label"])
    save(again, tmp_path / name)  # over itself
    assert load(tmp_path / name).card.licence == "CC0"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_of_objects_joints_and_tasks_travel_with_the_weights(run, tmp_path):
    card = Card(
        run.model,
        run.task,
        "x",
        tuple("abcdefg"),
        (),
        things=("cat",),
        joints=("top", "foot"),
        skeleton=(("top", "foot"),),
        tables={"a": ("arm",)},
    )
    again = folder.card_from_text(folder.card_text(card), where="here")
    assert again == card
    save(run, tmp_path / "model")
    assert load(tmp_path / "model").facts.things == run.facts.things != ()
    folder.write(tmp_path / "other", card, run.variables)
    facts = load(tmp_path / "other").facts
    assert (facts.things, facts.joints, facts.tables) == (("cat",), ("top", "foot"), {"a": ("arm",)})
    assert facts.skeleton == (("top", "foot"),)


@pytest.mark.parametrize("dataset", ["folder:{}/gone", "no_such_module:Cells"])
def test_a_data_set_that_is_gone_leaves_the_names_of_the_task(run, tmp_path, dataset):
    source = Source(dataset.format(tmp_path), "train")
    stage = replace(run.recipe.stages[0], data=Data(train=source, val=source))
    moved = replace(run, recipe=replace(run.recipe, stages=(stage,)), task=Semantic(2, classes=("sky", "ground")))
    with pytest.warns(UserWarning, match=r"classes and colours are the task's, since .*there is no (folder|module)"):
        assert moved.facts.classes == ("sky", "ground")
    with pytest.warns(UserWarning, match="classes and colours are the task"):
        assert replace(moved, task=Semantic(2)).facts.classes == ("class_0", "class_1")
    with pytest.raises(BadInput, match="there is no"):
        moved.data.facts()


def test_it_loads_without_the_recipe_s_code(run, tmp_path):
    """The recipe names a module that is nowhere; the model is jaxseg's own."""
    save(run, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    card["recipe"]["fields"]["stages"][0]["fields"]["data"]["type"] = "my_project.data:Mine"
    (tmp_path / "model" / "card.json").write_text(json.dumps(card))
    again = load(tmp_path / "model")
    assert again.recipe is None
    assert again.facts.classes == run.facts.classes
    with pytest.raises(BadInput, match="has no recipe here"):
        again.data


def test_in_another_process(run, tmp_path):
    save(run, tmp_path / "model")
    code = "import jaxseg, sys; print(jaxseg.load(sys.argv[1]).model)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True, check=True
    )
    assert "UNet(" in done.stdout


def test_a_recipe_takes_the_weights(run, tmp_path):
    save(run, tmp_path / "model")
    again = load(tmp_path / "model", recipe=recipe_of(run.model, 7))
    assert again.stage == 1
    with pytest.raises(BadInput, match="of another model"):
        load(tmp_path / "model", recipe=recipe_of(unet(num_classes=7, depth=1, width=3), 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], "no card of a model"),
        (lambda text: text.replace('"format": 2', '"format": 9'), "a newer jaxseg"),
        (lambda text: text.replace('"UNet"', '"UNot"'), "does not exist"),
        (lambda text: text.replace('"UNet"', '"os:system"'), "Python's own library"),
        (lambda text: text.replace('"width": 2', '"width": 3'), "of another model"),
        (lambda text: "[]", "no card of a model"),
    ],
)
def test_damage(run, tmp_path, change, message):
    save(run, tmp_path / "model")
    path = tmp_path / "model" / "card.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput, match=message):
        load(tmp_path / "model")


def test_truncated_weights(run, tmp_path):
    save(run, tmp_path / "model")
    path = tmp_path / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadInput, match="damaged"):
        load(tmp_path / "model")


def test_nothing_is_left_of_a_save_that_failed(run, tmp_path, monkeypatch):
    save(run, tmp_path / "model")
    before = (tmp_path / "model" / "weights.safetensors").read_bytes()

    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    other = jax.tree.map(lambda x: x + 1, run.variables)
    with pytest.raises(OSError, match="full"):
        folder.write(tmp_path / "model", load(tmp_path / "model").card, other)
    assert (tmp_path / "model" / "weights.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
