"""A recipe is a value: it is rebuilt by path, with every mistake named, and comes back equal from JSON."""

import json
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxseg.errors import BadInput
from jaxseg.models.semantic.segnet import segnet_basic
from jaxseg.recipe import Recipe, Stage, dump, find_file, load, load_file, override, override_text, shipped
from jaxseg.recipe_files import is_recipe, split


@dataclass(frozen=True)
class Poly:
    value: float
    power: float = 0.9


@dataclass(frozen=True)
class Sgd:
    learning_rate: float | Poly
    nesterov: bool = False
    clip: float | None = None
    no_decay: tuple[str, ...] = ("bias",)
    order: Literal["rgb", "bgr"] = "rgb"


class Block(nn.Module):
    features: int = 4


class Net(nn.Module):
    num_classes: int = 3
    dtype: Any = jnp.float32
    widths: tuple[int, ...] = (4, 8)
    block: nn.Module = Block()
    act: Any = jax.nn.relu

    @nn.compact
    def __call__(self, image, *, train: bool = False):
        return {"logits": nn.Dense(self.num_classes)(image)}


@dataclass(frozen=True)
class Data:
    size: tuple[int, int] = (8, 8)
    options: tuple[tuple[str, Any], ...] = (("size", 64),)


@pytest.fixture
def recipe():
    sgd = Sgd(Poly(0.1))
    stage = Stage(model=Net(), task=Poly(1.0), data=Data(), optimizer=sgd, steps=10, batch_size=4)
    return Recipe(stages=(stage,), name="small")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("stages.0.steps", "7", 7),
        ("stages.0.ema", "0.5", 0.5),
        ("stages.0.ema", "None", None),
        ("stages.0.keep_best", "None", None),
        ("stages.0.keep_best", "fw_iou", "fw_iou"),
        ("name", "12", "12"),
        ("name", "'quoted'", "quoted"),
        ("stages.0.model.num_classes", "5", 5),
        ("stages.0.model.widths", "[2, 3, 4]", (2, 3, 4)),
        ("stages.0.model.widths.-1", "16", 16),
        ("stages.0.model.block.features", "9", 9),
        ("stages.0.optimizer.learning_rate.value", "1", 1.0),
        ("stages.0.optimizer.learning_rate", "0.3", 0.3),
        ("stages.0.optimizer.nesterov", "True", True),
        ("stages.0.optimizer.order", "bgr", "bgr"),
        ("stages.0.optimizer.no_decay", "()", ()),
        ("stages.0.data.size.1", "16", 16),
        ("stages.0.data.options.0.1", "96", 96),
    ],
)
def test_override_sets_the_leaf_and_nothing_else(recipe, path, text, value):
    changed = override_text(recipe, f"{path}={text}")
    leaf = changed
    for step in path.split("."):
        leaf = leaf[int(step)] if isinstance(leaf, tuple) else getattr(leaf, step)
    assert leaf == value
    assert type(leaf) is type(value)
    leaf = recipe
    for step in path.split("."):
        leaf = leaf[int(step)] if isinstance(leaf, tuple) else getattr(leaf, step)
    assert override(changed, path, leaf) == recipe


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stages.0.steps=many", ["stages.0.steps", "'many'", "int"]),
        ("stages.0.steps=1.5", ["stages.0.steps", "1.5", "int"]),
        ("stages.0.steps=True", ["stages.0.steps", "True", "int"]),
        ("stages.0.steps=None", ["stages.0.steps", "None", "int"]),
        ("stages.0.steps=0", ["stages.0.steps", "at least 1"]),
        ("stages.0.ema=2.0", ["stages.0.ema", "[0, 1)"]),
        ("stages.0.batch_size='4'", ["stages.0.batch_size", "'4'", "int"]),
        ("stages.0.modle.depth=3", ["stages.0", "'modle'", "'model'"]),
        ("stages.0.model.num_class=3", ["stages.0.model", "'num_classes'"]),
        ("stages.0.model.name=net", ["no field 'name'"]),
        ("stages.1.steps=3", ["stages holds 1 item", "stages.1"]),
        ("stages.first.steps=3", ["number", "'first'"]),
        ("stages.0.steps.value=3", ["stages.0.steps", "nothing inside"]),
        ("stages.0.optimizer.nesterov=1", ["nesterov", "True or False"]),
        ("stages.0.optimizer.order=grb", ["'grb'", "'rgb' or 'bgr'"]),
        ("stages.0.optimizer.learning_rate=fast", ["'fast'", "float or Poly"]),
        ("stages.0.model.widths=(1, 'a')", ["widths", "tuple[int, ...]"]),
        ("stages.0.data.size=(1, 2, 3)", ["size", "tuple[int, int]"]),
        ("stages.0.data=3", ["stages.0.data", "Data"]),
        ("stages.0.steps", ["path=value"]),
    ],
)
def test_a_mistake_is_named_with_what_would_work(recipe, assignment, words):
    with pytest.raises(BadInput) as error:
        override_text(recipe, assignment)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_dtype_goes_by_its_name():
    model = segnet_basic(num_classes=2)
    half = override_text(model, "dtype=bfloat16")
    assert half == segnet_basic(num_classes=2, dtype=jnp.bfloat16)
    assert load(dump(half)) == half
    assert override_text(half, "dtype='float32'") == model
    with pytest.raises(BadInput, match="dtype is 'bf16', but must be float32 or bfloat16"):
        override_text(model, "dtype=bf16")


def test_override_takes_objects(recipe):
    changed = override(recipe, "stages.0.optimizer.learning_rate", Poly(0.5))
    assert changed.stages[0].optimizer.learning_rate.value == 0.5
    assert override(recipe, "stages.0.model", Net(num_classes=9)).stages[0].model.num_classes == 9
    with pytest.raises(BadInput, match="float or Poly"):
        override(recipe, "stages.0.optimizer.learning_rate", Data())


def test_json_round_trip_is_equal(recipe):
    text = json.dumps(dump(recipe))
    back = load(json.loads(text))
    assert back == recipe
    assert hash(back.stages[0].model) == hash(recipe.stages[0].model)
    assert json.dumps(dump(back)) == text
    changed = override(recipe, "stages.0.model.dtype", jnp.bfloat16)
    assert load(json.loads(json.dumps(dump(changed)))) == changed != recipe


def test_json_refuses_what_it_cannot_give_back(recipe):
    for value in (lambda x: x, jnp.zeros(3), {"a": 1}):
        with pytest.raises(BadInput):
            dump(Net(act=value))


def test_load_builds_only_known_dataclasses():
    with pytest.raises(BadInput, match="import subprocess_of_mine first"):
        load({"type": "subprocess_of_mine:Popen", "fields": {}})
    with pytest.raises(BadInput, match="no dataclass"):
        load({"type": f"{__name__}:load", "fields": {}})
    for form in ({"type": "os:system", "fields": {}}, {"function": "os:system"}, {"function": "posix:system"}):
        with pytest.raises(BadInput, match="nothing of Python's own library"):
            load(form)
    with pytest.raises(BadInput, match=r"jaxseg.nowhere:Thing in the recipe was saved by jaxseg 0\.1"):
        load({"type": "jaxseg.nowhere:Thing", "fields": {}})
    with pytest.raises(BadInput, match="'Smeantic' does not exist; did you mean 'Semantic'"):
        load({"type": "Smeantic", "fields": {}})
    form = dump(Poly(0.1))
    form["fields"]["powr"] = form["fields"].pop("power")
    with pytest.raises(BadInput, match="did you mean 'power'"):
        load(form)
    with pytest.raises(BadInput, match="not a recipe"):
        load({"model": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no function recipe()"]),
        ("def recipe():\n    return 3", ["gives a int"]),
        ("def recipe(:", [":1", "SyntaxError"]),
        ("x = 1\nimport jaxseg.recipes", [":2", "ModuleNotFoundError"]),
        ("from jaxseg import recipe as r\ndef recipe():\n    return r.Stge()", [":3", "'Stage'"]),
        (
            "import dataclasses\n@dataclasses.dataclass\nclass MyNet:\n    depth: int\nrecipe = lambda: MyNet(dpeth=3)",
            [":5", "MyNet has no field 'dpeth'", "'depth'"],
        ),
    ],
)
def test_a_recipe_files_mistake_is_one_line_with_its_place(tmp_path, text, words):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load_file(path)
    assert "\n" not in str(error.value)
    for word in ["mine.py", *words]:
        assert word in str(error.value)


def test_files(tmp_path, recipe):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(dump(recipe)))
    assert load_file(path) == recipe
    path.write_text("{")
    with pytest.raises(BadInput, match="not JSON"):
        load_file(path)
    with pytest.raises(BadInput, match="no recipe file"):
        load_file(tmp_path / "missing.py")
    assert find_file(str(tmp_path / "missing.py")) == tmp_path / "missing.py"
    assert find_file("unet_scenes") == shipped()["unet_scenes"]
    with pytest.raises(BadInput, match="did you mean 'unet_scenes'"):
        find_file("unet_scene")


def test_a_variant_is_named_behind_a_colon_or_by_its_recipe():
    b3 = load_file(find_file("segformer_ade20k:b3"))
    assert b3.name == "segformer_b3_ade20k"
    assert load_file(find_file("segformer_b3_ade20k")) == b3
    file = split(shipped()["segformer_b3_ade20k"])[0]
    assert load_file(f"{file}:b3") == b3 == load_file(find_file(f"{file}:b3"))
    assert load_file(file) == load_file(find_file("segformer_ade20k")) == load_file(find_file("segformer_b0_ade20k"))
    assert is_recipe("segformer_ade20k:b3")
    assert is_recipe("segformer_b3_ade20k")
    assert not is_recipe("runs/segformer_b3_ade20k")


def test_the_nearest_variant_is_offered(tmp_path):
    with pytest.raises(
        BadInput, match=r"segnet_table1_camvid\.py has no variant 'fcn_basik'; did you mean 'fcn_basic'"
    ):
        find_file("segnet_table1_camvid:fcn_basik")
    with pytest.raises(BadInput, match=r"unet_scenes\.py has no variants, so 'b3' is none"):
        find_file("unet_scenes:b3")
    with pytest.raises(BadInput, match=r"did you mean .*segformer_b3_ade20k"):
        find_file("segformer_b3_ade2k")
    path = tmp_path / "mine.py"
    path.write_text(
        "NAME = 'mine_{variant}'\nVARIANTS = {'small': 1}\n\ndef recipe(variant='small'):\n    return variant\n"
    )
    with pytest.raises(BadInput, match="has no variant 'smal'; did you mean 'small'"):
        load_file(f"{path}:smal")


def test_a_stage_refuses_nonsense(recipe):
    stage = recipe.stages[0]
    with pytest.raises(BadInput, match="multiple of accumulate"):
        override(stage, "accumulate", 3)
    with pytest.raises(BadInput, match="at least one stage"):
        Recipe(stages=())
    with pytest.raises(BadInput, match="first stage"):
        Recipe(stages=(override(stage, "init", "previous"),))
    with pytest.raises(BadInput, match="folder"):
        override(stage, "name", "a/b")
