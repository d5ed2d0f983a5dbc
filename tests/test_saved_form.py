"""What is saved names classes by public names and says its format, so that it loads wherever they have moved."""

import dataclasses
import importlib
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseg import constructors, registry
from jaxseg.constructors import find_constructor, public_name
from jaxseg.errors import BadInput
from jaxseg.inference.load import load as load_model
from jaxseg.losses import dice
from jaxseg.override import fields
from jaxseg.recipe import Recipe, dump, load, load_file, shipped
from jaxseg.train.workdir import claim

SAVED = Path(__file__).parent / "fixtures" / "saved"


def inside(value):
    """The classes of a value and of all that it holds."""
    if isinstance(value, tuple | list):
        return {kind for item in value for kind in inside(item)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {type(value)} | {kind for f in fields(value) for kind in inside(getattr(value, f.name))}
    return set()


def test_all_that_recipes_and_models_hold_has_a_name_of_its_own():
    held = inside([load_file(path) for path in shipped().values()])
    held |= inside([entry.build() for entry in registry.entries().values()])
    assert len(held) > 60
    unnamed = sorted(f"{kind.__module__}:{kind.__name__}" for kind in held if public_name(kind) is None)
    assert not unnamed, f"a second class shares the name, or no package of jaxseg.constructors holds it: {unnamed}"


def test_no_module_is_named_in_what_is_saved():
    for path in shipped().values():
        assert "jaxseg." not in json.dumps(dump(load_file(path)))
    files = [path for path in SAVED.rglob("*") if path.is_file()]
    assert len(files) >= 5
    for path in files:
        assert b"jaxseg." not in path.read_bytes(), path


@pytest.mark.parametrize("name", ["workdir", "model"])
def test_what_was_saved_once_loads_for_good(name):
    run = load_model(SAVED / name)
    other = load_model(SAVED / ("model" if name == "workdir" else "workdir"))
    assert (type(run.model).__name__, run.model.num_classes, run.step, run.averaged) == ("UNet", 7, 2, False)
    assert [loss.name for loss in run.task.losses] == ["cross_entropy", "dice"]
    assert run.recipe is not None
    assert run.recipe == load_file(SAVED / "workdir" / "recipe.json")
    assert run.facts.classes[0] == "wall"
    assert jax.tree.leaves(run.variables)
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(run.variables), dict(other.variables)))


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A second module of ``jaxseg.losses`` that defines ``Dice``."""
    (tmp_path / "elsewhere.py").write_text(Path(dice.__file__).read_text())
    package = importlib.import_module("jaxseg.losses")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    constructors._by_name.cache_clear()
    yield
    sys.modules.pop("jaxseg.losses.elsewhere", None)
    constructors._by_name.cache_clear()


@pytest.mark.usefixtures("elsewhere")
def test_a_class_that_moved_loads_what_was_saved_before(monkeypatch):
    before = (SAVED / "workdir" / "recipe.json").read_text()
    assert '"Dice"' in before
    monkeypatch.delattr(dice, "Dice")
    moved = load(json.loads(before)).stages[0].task.losses[1]
    assert type(moved).__module__ == "jaxseg.losses.elsewhere"
    assert 0.5 in dataclasses.astuple(moved)
    assert dump(moved)["type"] == "Dice"
    assert load_model(SAVED / "model").task.losses[1] == moved


@pytest.mark.usefixtures("elsewhere")
def test_a_name_that_two_classes_share_is_neither_s():
    assert public_name(dice.Dice) is None
    with pytest.raises(BadInput, match=r"ambiguous: jaxseg.losses.dice:Dice, jaxseg.losses.elsewhere:Dice"):
        find_constructor("Dice")
    with pytest.raises(BadInput, match="no public name"):
        dump(dice.Dice())


@dataclasses.dataclass(frozen=True)
class Resize:
    """A user's own class that is called as one of jaxseg's."""

    height: int


def test_a_user_s_own_class_keeps_its_module():
    form = dump(Resize(3))
    assert form == {"type": f"{__name__}:Resize", "fields": {"height": 3}}
    assert load(form) == Resize(3)


@pytest.fixture
def old(tmp_path):
    """A copy of the fixture as version 0.1 would have written it."""
    shutil.copytree(SAVED, tmp_path / "saved")
    recipe = tmp_path / "saved" / "workdir" / "recipe.json"
    notes = next((tmp_path / "saved").rglob("notes/metadata"))
    card = tmp_path / "saved" / "model" / "card.json"
    for path in (recipe, notes, card):
        form = json.loads(path.read_text())
        del form["format"]
        form |= {"format": "jaxseg model 1"} if path == card else {}
        path.write_text(json.dumps(form))
    return tmp_path / "saved"


OLD = r"was saved by jaxseg 0\.1 \(format .*\); this version of jaxseg reads format 2"


def test_the_form_of_the_version_before_is_refused_in_one_line(old):
    for attempt in (
        lambda: load_model(old / "workdir"),
        lambda: load_model(old / "model"),
        lambda: load_file(old / "workdir" / "recipe.json"),
        lambda: claim(old / "workdir", load_file(SAVED / "workdir" / "recipe.json")),
        lambda: load({"type": "jaxseg.losses.dice:Dice", "fields": {}}),
        lambda: load({"type": "Recipe", "fields": {}}),
    ):
        with pytest.raises(BadInput, match=OLD) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_a_newer_form_is_refused_as_such(tmp_path):
    form = dump(load_file(SAVED / "workdir" / "recipe.json")) | {"format": 3}
    (tmp_path / "recipe.json").write_text(json.dumps(form))
    with pytest.raises(BadInput, match=r"recipe.json.* a newer jaxseg \(format 3\)"):
        load_file(tmp_path / "recipe.json")


def test_the_same_recipe_goes_on_in_its_work_directory(tmp_path):
    shutil.copytree(SAVED / "workdir", tmp_path / "workdir")
    recipe = load_file(SAVED / "workdir" / "recipe.json")
    assert isinstance(recipe, Recipe)
    claim(tmp_path / "workdir", recipe)
    with pytest.raises(BadInput, match="seed is 0 there and 1 here"):
        claim(tmp_path / "workdir", dataclasses.replace(recipe, seed=1))
