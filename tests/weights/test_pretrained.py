"""Weights from a file for a part of a model, and a stage that begins with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.backbones import alexnet, mobilenet, vgg
from jaxseg.errors import BadInput
from jaxseg.models.semantic.fcn import fcn32s_vgg16
from jaxseg.models.semantic.lraspp import LRASPP
from jaxseg.recipe import Recipe, dump, load, override, override_text
from jaxseg.train.loop import fit
from jaxseg.weights import names
from jaxseg.weights.combine import Combined, Subset
from jaxseg.weights.pretrained import Pretrained
from tests.shared_data import weights_or_skip
from tests.train import toys

RULES = (("(a|z)", r"last/kernel"), (r"b", "last/bias"), ("extra", None))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEG_WEIGHTS_DIR", str(tmp_path))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "head.npz", a=rng.normal(size=(3, 4, 1, 1)), b=rng.normal(size=3), extra=np.zeros(2))
    return tmp_path


def variables_of(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8)))


def test_a_part_is_filled_and_nothing_else(folder):
    rules = tuple((name, path and path.removeprefix("last/")) for name, path in RULES)
    found = Pretrained("head.npz", rules, part="last").load(variables_of(toys.Net()))
    assert set(found) == {"params"}
    assert set(found["params"]) == {"last"}
    with np.load(folder / "head.npz") as file:
        np.testing.assert_array_equal(found["params"]["last"]["kernel"][0, 0], file["a"][:, :, 0, 0].T.astype("f4"))
        np.testing.assert_array_equal(found["params"]["last"]["bias"], file["b"].astype(np.float32))


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (Pretrained("head.npz", RULES, part="head"), "the model has no part 'head'"),
        (Pretrained("head.npz", RULES), "nothing in the file fills it"),
        (Pretrained("other.npz", RULES, source="ask its author"), "no file of weights .*other.npz'; ask its author"),
        (Pretrained("text.npz", RULES), "is of no known kind"),
    ],
)
def test_mistakes_are_named(folder, init, message):
    (folder / "text.npz").write_text("no archive")
    with pytest.raises(BadInput, match=message):
        init.load(variables_of(toys.Net()))


def test_prefixes_of_wrappers_are_taken_off_and_told(folder):
    with np.load(folder / "head.npz") as file:
        arrays = {f"model.net.{name}": value for name, value in file.items()}
    np.savez(folder / "wrapped.npz", **arrays, **{"optimizer.step": np.zeros(1)})
    rules = tuple((name, path and path.removeprefix("last/")) for name, path in RULES)
    lines = []
    found = Pretrained("wrapped.npz", rules, part="last").load(variables_of(toys.Net()), log=lines.append)
    plain = Pretrained("head.npz", rules, part="last").load(variables_of(toys.Net()))
    jax.tree.map(np.testing.assert_array_equal, found, plain)
    assert lines == [
        "wrapped.npz: names without their prefix 'model.net.'",
        "wrapped.npz: left out, as not under it: optimizer.* (1)",
    ]


def test_several_files_together_and_some_paths_only(folder):
    """Caffe's VGG fills FCN's backbone and its classifier, whose dense layers become kernels."""
    model = fcn32s_vgg16(num_classes=3, width=1, fc_features=2)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.uint8)))
    rng = np.random.default_rng(1)
    arrays = {"fc6.weight": (2, 8 * 49), "fc6.bias": (2,), "fc7.weight": (2, 2), "fc7.bias": (2,), "fc8.bias": (1000,)}
    for name, layer in variables["params"]["backbone"].items():
        shape = layer["kernel"].shape
        arrays |= {f"{name}.weight": (shape[3], shape[2], *shape[:2]), f"{name}.bias": shape[3:]}
    file = {name: rng.normal(size=shape).astype(np.float32) for name, shape in arrays.items()}
    np.savez(folder / "vgg.npz", **file)
    backbone = Pretrained("vgg.npz", vgg.CAFFE_NAMES, part="backbone")
    classifier = Pretrained("vgg.npz", vgg.CAFFE_CLASSIFIER, part="classifier")
    both = Combined((backbone, classifier))
    assert str(both) == "vgg.npz"
    found = both.load(variables)["params"]
    assert set(found) == {"backbone", "classifier"}
    fc6 = file["fc6.weight"].reshape(2, 8, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found["classifier"]["fc6"]["kernel"], fc6)
    np.testing.assert_array_equal(found["backbone"]["conv5_3"]["bias"], file["conv5_3.bias"])
    deeper = tuple((name, path and f"classifier/{path}") for name, path in vgg.CAFFE_CLASSIFIER)
    whole = Pretrained("vgg.npz", deeper)
    with pytest.raises(BadInput, match="nothing in the file fills it"):
        whole.load(variables)
    assert set(Subset(whole, "classifier/.*").load(variables)["params"]) == {"classifier"}
    with pytest.raises(BadInput, match="backbone/conv1_1/bias was already filled"):
        Combined((backbone, backbone)).load(variables)
    with pytest.raises(BadInput, match="no variable of the model matches 'fc6'"):
        Subset(whole, "fc6").load(variables)


def test_caffes_alexnet_fits_its_layout():
    """The rules lead to every layer of AlexNet, and of FCN's classifier behind it, from names that exist."""
    layers = [f"conv{i}" for i in range(1, 6)], ["fc6", "fc7"]
    for rules, wanted in zip((alexnet.CAFFE_NAMES, vgg.CAFFE_CLASSIFIER), layers, strict=True):
        found = [names.rename(f"{layer}.{leaf}", rules) for layer in wanted for leaf in ("weight", "bias")]
        assert found == [f"{layer}/{leaf}" for layer in wanted for leaf in ("kernel", "bias")]
        assert names.rename("fc8.weight", rules) is None


def test_a_recipe_holds_it():
    init = Pretrained("head.npz", RULES, part="last", source="ask")
    recipe = Recipe(stages=(override(toys.stage(), "init", init),))
    assert load(dump(recipe)) == recipe
    assert override_text(recipe, "stages.0.init=None").stages[0].init is None
    assert override_text(recipe, "stages.0.init.file=/a/b.npz").stages[0].init.file == "/a/b.npz"
    with pytest.raises(BadInput, match="must be None, 'previous' or weights"):
        override_text(recipe, "stages.0.init=next")


def test_a_stage_begins_with_it(folder, tmp_path):
    """At a rate of zero it also ends with it."""
    from jaxseg.train import checkpoint
    from jaxseg.train.optim import SGD

    rules = tuple((name, path and path.removeprefix("last/")) for name, path in RULES)
    stage = toys.stage(steps=1, optimizer=SGD(0.0), init=Pretrained("head.npz", rules, part="last"), pictures=0)
    fit(Recipe(stages=(stage,)), tmp_path / "run")
    params = checkpoint.read(tmp_path / "run" / "stages" / "0-main" / "checkpoints").variables["params"]
    with np.load(folder / "head.npz") as file:
        np.testing.assert_array_equal(params["last"]["bias"], file["b"].astype(np.float32))


def test_real_backbones_fill_a_network(monkeypatch):
    """Those that the recipes of transfer begin with."""
    from jaxseg.recipe import find_file, load_file

    monkeypatch.setenv("JAXSEG_WEIGHTS_DIR", str(weights_or_skip("mobilenetv2_imagenet").parent))
    for name in ("camvid_transfer_mobilenet_v1", "camvid_transfer_mobilenet_v2"):
        stage = load_file(find_file(name)).stages[0]
        assert isinstance(stage.model, LRASPP)
        assert isinstance(stage.model.backbone, mobilenet.MobileNet)
        variables = variables_of(stage.model)
        found = stage.init.load(variables)
        assert set(found["params"]) == {"backbone"}
        for collection, tree in found.items():
            assert jax.tree.structure(tree["backbone"]) == jax.tree.structure(variables[collection]["backbone"])
