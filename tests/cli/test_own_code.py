"""A transform and a loss of one's own in the recipe file: workers find them, and predict and export do without."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg.inference.load import load
from tests.cli.conftest import RECIPE
from tests.cli.test_mistakes import fault

OWN = '''
import dataclasses

from jaxseg.losses import CrossEntropy


@dataclasses.dataclass(frozen=True)
class Inverted:
    """Negatives."""

    def __call__(self, record, rng):
        return {**record, "image": 255 - record["image"]}


@dataclasses.dataclass(frozen=True)
class Halved:
    """Half of the cross-entropy."""

    weight: float = 0.5
    name = "halved"

    def __call__(self, logits, label, weight=None):
        return CrossEntropy()(logits, label, weight)


def recipe():
    value = plain()
    (stage,) = value.stages
    own = (Inverted(),)
    data = dataclasses.replace(
        stage.data,
        train=dataclasses.replace(stage.data.train, transforms=own),
        val=dataclasses.replace(stage.data.val, transforms=own),
        workers=1,
    )
    task = dataclasses.replace(stage.task, losses=(Halved(),))
    return dataclasses.replace(value, stages=(dataclasses.replace(stage, data=data, task=task, ema=None),))
'''


@pytest.mark.slow
def test_from_training_to_prediction(jaxseg, trained, tmp_path, monkeypatch):
    recipe, work, data = tmp_path / "of_mine.py", tmp_path / "run", ("--data-dir", trained / "data")
    recipe.write_text(RECIPE.replace("def recipe()", "def plain()") + OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    said = jaxseg("train", recipe, "--workdir", work, *data)
    assert said.status == 0, said.err
    assert f"report: {work / 'report.html'}" in said.out
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    words = ("predict", work, tmp_path / "a.png", "--out")
    assert jaxseg(*words, tmp_path / "with").err == []

    del sys.modules["of_mine"]  # as in a process of another day, in another folder
    said = jaxseg(*words, tmp_path / "without")
    assert (said.status, len(said.err)) == (0, 1), said.err
    assert "predicted without Inverted, whose code is not here: --recipe FILE" in said.err[0]
    names = ["a_label.png", "a_overlay.png"]
    for name in names:
        assert (tmp_path / "without" / name).read_bytes() == (tmp_path / "with" / name).read_bytes()
    assert load(work).facts.classes == load(trained / "run").facts.classes
    said = jaxseg("export", work, "--format", "safetensors", "--out", tmp_path / "model")
    assert said.status == 0, said.err
    assert load(tmp_path / "model").left_out == ()
    fault(jaxseg("evaluate", work, *data), "has no recipe here", "--recipe")
    figures = json.loads(jaxseg("evaluate", work, "--recipe", recipe, "--json", *data).out)["metrics"]
    rows = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    assert figures["miou"] == next(row["miou"] for row in rows if row["kind"] == "eval")
