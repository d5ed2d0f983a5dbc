"""One call takes every source: a work directory, a folder, a file, and names on servers."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxseg
from jaxseg.conversion.sources import locate
from jaxseg.errors import BadInput
from jaxseg.models.semantic.fcn import TORCHVISION_NAMES, fcn_resnet50
from jaxseg.tasks.semantic import Semantic
from jaxseg.tasks.table import for_models, task_for
from jaxseg.weights import hub as hubs
from jaxseg.weights import published
from jaxseg.weights.names import restore
from jaxseg.weights.published import Published
from tests.weights.test_huggingface import hub  # noqa: F401

SAVED = Path(__file__).parents[1] / "fixtures" / "saved"
NARROW = {"width": 4}


@pytest.fixture(scope="module")
def state():
    """A narrow FCN of 3 classes under torchvision's names."""
    model = fcn_resnet50(num_classes=3, width=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    return restore(variables, TORCHVISION_NAMES)


def kernel(run):
    return run.variables["params"]["backbone"]["conv1"]["kernel"]


def agrees(run, state):
    return np.array_equal(kernel(run), state["backbone.conv1.weight"].transpose(2, 3, 1, 0))


def test_what_kind_a_source_is(tmp_path, state):
    assert locate(SAVED / "workdir").kind == "training"
    assert locate(SAVED / "model").kind == "model"
    shutil.copy(SAVED / "model" / "weights.safetensors", tmp_path / "one.safetensors")
    assert locate(tmp_path / "one.safetensors").kind == "model"
    np.savez(tmp_path / "weights.npz", **state)
    assert locate(tmp_path / "weights.npz").kind == "weights"
    assert locate(tmp_path).kind == "weights"
    with pytest.raises(BadInput, match="no work directory or checkpoint"):
        jaxseg.load(tmp_path / "nowhere")


def test_a_file_or_folder_with_a_model_s_name(tmp_path, state):
    np.savez(tmp_path / "weights.npz", **state)
    for source in (tmp_path, tmp_path / "weights.npz"):
        run = jaxseg.load(source, "fcn_resnet50", num_classes=5, **NARROW)
        assert agrees(run, state)
        assert (run.model.num_classes, type(run.task), run.task.num_classes) == (5, Semantic, 5)
        assert run.card.origin["report"][0].startswith(
            "aux_head, head: the file has no weights of this shape, 4 arrays"
        )
    same = jaxseg.load(tmp_path, "fcn_resnet50", num_classes=3, **NARROW)
    assert same.card.origin["reinitialized"] == []
    with pytest.raises(BadInput, match="does not say which network"):
        jaxseg.load(tmp_path)
    with pytest.raises(BadInput, match=r"has no field 'with'.*'width'"):
        jaxseg.load(tmp_path, "fcn_resnet50", **{"with": 4})


@pytest.mark.parametrize("name", ["workdir", "model"])
def test_one_s_own_run_in_a_model_of_other_classes(name):
    before = jaxseg.load(SAVED / name)
    fields = {"num_classes": 4, "depth": 1, "width": 1}
    for run in (jaxseg.load(SAVED / name, "unet", **fields), jaxseg.load(SAVED / name, num_classes=4)):
        assert (run.model.num_classes, run.task.num_classes) == (4, 4)
        assert {path.split("/")[0] for path in run.card.origin["reinitialized"]} == {"classifier"}
        old, new = (jax.tree.leaves(r.variables["params"]) for r in (before, run))
        assert sum(np.array_equal(a, b) for a, b in zip(old, new, strict=True)) >= len(old) - 2
    kept = jaxseg.load(SAVED / name, "unet", depth=1, width=1)
    assert kept.facts.classes == before.facts.classes
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(kept.variables), dict(before.variables)))
    with pytest.raises(BadInput, match="weights do not fit the model"):
        jaxseg.load(SAVED / name, "unet", num_classes=4, depth=1, width=2)
    with pytest.raises(BadInput, match="is a model already; 'width' needs a model's name"):
        jaxseg.load(SAVED / name, width=2)


def test_a_recipe_and_a_model_s_name_exclude_each_other():
    recipe = jaxseg.load(SAVED / "workdir").recipe
    with pytest.raises(BadInput, match="a recipe gives the model"):
        jaxseg.load(SAVED / "model", "unet", recipe=recipe)


def test_a_classifier_s_weights_fill_the_backbone_alone(tmp_path, state):
    """As those of timm, or torchvision's of ImageNet, behind which no head fits."""
    inside = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    np.savez(tmp_path / "resnet.npz", **inside, **{"fc.weight": np.zeros((10, 8)), "fc.bias": np.zeros(10)})
    run = jaxseg.load(tmp_path / "resnet.npz", "fcn_resnet50", num_classes=5, **NARROW)
    assert agrees(run, state)
    assert run.card.origin["implementation"] == "backbone (resnet18)"
    assert run.card.origin["report"][0].startswith("aux_head, head: the file has no weights")
    assert not any(path.startswith("backbone/") for path in run.card.origin["reinitialized"])
    del inside["layer1.0.conv1.weight"]
    np.savez(tmp_path / "torn.npz", **inside)
    with pytest.raises(BadInput, match=r"backbone/layer1_0/conv1/kernel: nothing in the file fills it"):
        jaxseg.load(tmp_path / "torn.npz", "fcn_resnet50", num_classes=5, **NARROW)


def safetensors(arrays):
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


def test_names_on_the_hub(hub, state):  # noqa: F811
    config = {"id2label": {"0": "sky", "1": "road", "2": "car"}}
    statistics = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    whole = safetensors(state)
    inside = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    hub.files["org/fcn"] = {
        "model.safetensors": whole,
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(statistics).encode(),
    }
    hub.files["timm/resnet50.x"] = {"model.safetensors": safetensors(inside)}
    hub.files["me/tiny"] = {p.name: p.read_bytes() for p in (SAVED / "model").iterdir()}
    run = jaxseg.load("hf:org/fcn", "fcn_resnet50", **NARROW)
    assert agrees(run, state)
    assert run.facts.classes == ("sky", "road", "car")
    assert run.model.backbone.standardize.mean == (0.5, 0.5, 0.5)
    run = jaxseg.load("timm:resnet50.x", "fcn_resnet50", num_classes=2, **NARROW)
    assert agrees(run, state)
    assert jaxseg.load("hf:me/tiny").model.num_classes == 7
    assert jaxseg.load("hf:me/tiny", "unet", num_classes=4, depth=1, width=1).model.num_classes == 4


def test_names_at_torchvision(tmp_path, monkeypatch, state):
    """A tag of the model's own, and of the backbone that the model's name ends in."""
    np.savez(tmp_path / "whole.npz", **state)
    inside = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    np.savez(tmp_path / "inside.npz", **inside)
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAXSEG_OFFLINE", "1")
    for model, tag, file in (("fcn_resnet50", "COCO", "whole"), ("resnet50", "IMAGENET", "inside")):
        url = f"https://download.example/{file}.npz"
        place = tmp_path / "cache" / "weights" / hashlib.sha256(url.encode()).hexdigest()[:16] / f"{file}.npz"
        place.parent.mkdir(parents=True)
        shutil.copy(tmp_path / f"{file}.npz", place)
        known = {**published.PUBLISHED.get(model, {}), f"torchvision:{tag}": Published(url)}
        monkeypatch.setitem(published.PUBLISHED, model, known)
    for tag in ("COCO", "IMAGENET"):
        assert agrees(jaxseg.load(f"torchvision:{tag}", "fcn_resnet50", num_classes=5, **NARROW), state)
    with pytest.raises(BadInput, match="did you mean 'torchvision:IMAGENET1K_V2'"):
        hubs.find("torchvision:IMAGENET1K_V3", "fcn_resnet50")


def test_the_task_is_the_registry_s(tmp_path, monkeypatch, state):
    """Whatever a model is registered for has its task, if only one is registered for it."""
    from jaxseg import registry

    @dataclasses.dataclass(frozen=True)
    class Heat(Semantic):
        @classmethod
        def for_model(cls, model, classes):
            return cls(len(classes), classes=tuple(f"heat of {name}" for name in classes))

    np.savez(tmp_path / "weights.npz", **state)
    entry = dataclasses.replace(registry.find("fcn_resnet50"), task="heat")
    monkeypatch.setitem(registry._entries, "fcn_resnet50", entry)
    with pytest.raises(BadInput, match="no task 'heat'"):
        jaxseg.load(tmp_path, "fcn_resnet50", num_classes=3, **NARROW)
    from jaxseg.tasks import table

    monkeypatch.setattr(table, "_tasks", dict(table._tasks))
    for_models("heat")(Heat)
    run = jaxseg.load(tmp_path, "fcn_resnet50", num_classes=3, **NARROW)
    assert isinstance(run.task, Heat)
    assert run.task.classes[0] == "heat of class 0"
    assert task_for("semantic", run.model, ("a", "b")) == Semantic(2, classes=("a", "b"))
