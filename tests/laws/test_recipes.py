"""Every recipe in ``experiments/`` says what it reproduces, builds, dumps to JSON and loads back equal."""

import ast
import json
import runpy

import jax
import jax.numpy as jnp
import pytest

from jaxseg.recipe import dump, load, load_file
from tests.laws.tree import ROOT

FILES = sorted((ROOT / "experiments").glob("[!_]*.py"))
catalogue = runpy.run_path(str(ROOT / "docs" / "catalogue.py"))


def test_there_are_recipes():
    assert "unet_scenes" in [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_docstring_says_what_it_reproduces(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    fields = catalogue["parse_fields"](text)
    missing = [field for field in catalogue["FIELDS"] if not fields.get(field)]
    assert not missing, f"{path.name}: the docstring has no line beginning with {missing} and a colon"
    assert f"jaxseg train experiments/{path.name}" in fields["Command"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_back_equal(path):
    recipe = load_file(path)
    again = load(json.loads(json.dumps(dump(recipe))))
    assert again == recipe
    assert dump(again) == dump(recipe)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_parts_fit_together(path):
    for stage in load_file(path).stages:
        facts = stage.data.facts()
        assert stage.task.num_classes == facts.num_classes
        assert stage.task.num_outputs == stage.model.num_classes
        size = stage.model.input_size(64, 64) if hasattr(stage.model, "input_size") else (64, 64)
        image = jax.ShapeDtypeStruct((2, *size, 3), jnp.uint8)
        variables = jax.eval_shape(stage.model.init, jax.random.key(0), image)
        outputs = jax.eval_shape(stage.model.apply, variables, image)
        assert outputs["logits"].shape[-1] == stage.task.num_outputs
        stage.optimizer.build(stage.steps).init
