"""Transforms, losses, optimizers and schedules are written on the command line as in a recipe's file."""

import json

import pytest

from jaxseg.data.transforms import RandomFlip, Resize
from jaxseg.errors import BadInput
from jaxseg.literals import parse_literal
from jaxseg.losses import CrossEntropy, Dice
from jaxseg.recipe import dump, find_file, load, load_file, override_text
from jaxseg.train.optim import SGD, AdamW, OneCycle


@pytest.fixture(scope="module")
def recipe():
    return load_file(find_file("segnet_basic_camvid"))


def test_literals_stay_what_they_were():
    for text in ("3", "-0.5", "None", "(1, 'a')", "[1, (2,)]", "{'a': 1}", "True", "()"):
        assert parse_literal(text) == eval(text)
    for text in ("word", "a.b", "1 +", "os.system('x')", "(lambda: 1)()", "f'{1}'"):
        with pytest.raises((ValueError, SyntaxError)):
            parse_literal(text)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("data.train.transforms", "(Resize(180, 240), RandomFlip(p=0.3))", (Resize(180, 240), RandomFlip(0.3))),
        ("optimizer.learning_rate", "OneCycle(0.1, warmup=0.2)", OneCycle(0.1, warmup=0.2)),
        ("optimizer", "AdamW(OneCycle(0.01), no_decay=('bias',))", AdamW(OneCycle(0.01), no_decay=("bias",))),
        ("task.losses", "(CrossEntropy(), Dice(0.5))", (CrossEntropy(), Dice(0.5))),
    ],
)
def test_a_piece_is_set_by_name(recipe, path, text, value):
    changed = override_text(recipe, f"stages.0.{path}={text}")
    found = changed.stages[0]
    for step in path.split("."):
        found = getattr(found, step)
    assert found == value
    assert load(json.loads(json.dumps(dump(changed)))) == changed


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("data.train.transforms=(Rezise(180, 240),)", ["data.train.transforms", "'Resize'"]),
        ("data.train.transforms=Resize(180, 240)", ["Resize", "must be tuple"]),
        ("data.train.transforms=(Poly(0.1),)", ["Poly", "must be tuple"]),
        ("optimizer.learning_rate=OneCycle(0.1, wrmup=0.2)", ["OneCycle(value, warmup, start, final)", "wrmup"]),
        ("optimizer.learning_rate=Resize(1, 2)", ["Resize", "float or ScheduleConfig"]),
        ("optimizer=Resize(1, 2)", ["Resize", "SGD"]),
        ("optimizer=SGD(**{'learning_rate': 1})", ["without stars"]),
        ("steps=Poly(0.1)", ["Poly", "int"]),
    ],
)
def test_a_mistake_is_named(recipe, assignment, words):
    with pytest.raises(BadInput) as error:
        override_text(recipe, f"stages.0.{assignment}")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_text_stands_for_itself_where_text_is_due(recipe):
    assert override_text(recipe, "name=Resize(1)").name == "Resize(1)"
    assert isinstance(recipe.stages[0].optimizer, SGD)
