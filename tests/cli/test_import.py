"""Weights saved by torch come in without torch, and the model then labels a photo as torchvision's does."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxseg.inference.load import load
from jaxseg.models.semantic.fcn import TORCHVISION_NAMES, fcn_resnet50
from jaxseg.weights.names import restore
from tests.cli.test_mistakes import fault
from tests.torchvision_cpu import torchvision_or_skip

MODEL = ("--model", "fcn_resnet50")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder with torchvision's FCN of 7 classes saved by torch, and the network itself."""
    torch = pytest.importorskip("torch", reason="the weights are torch's (extra 'parity')")
    models = torchvision_or_skip().models.segmentation
    torch.manual_seed(0)
    network = models.fcn_resnet50(weights=None, weights_backbone=None, num_classes=7, aux_loss=False).eval()
    folder = tmp_path_factory.mktemp("published")
    torch.save({"model": network.state_dict(), "epoch": 3}, folder / "fcn.pth")
    return folder, network


def photo(folder):
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    small.resize((96, 80), Image.Resampling.BICUBIC).save(folder / "photo.png")
    return folder / "photo.png"


def labels_agree(network, folder, jaxseg):
    """``folder/model`` labels a photo as the network does, which torchvision's statistics go before."""
    import torch

    path = photo(folder)
    said = jaxseg("predict", folder / "model", path, "--out", folder / "out")
    assert said.status == 0, said.err
    with Image.open(folder / "out" / "photo_label.png") as drawn:
        ours = np.asarray(drawn)
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        theirs = network((image - mean) / std)["out"][0].argmax(0).numpy()
    assert len(np.unique(theirs)) > 1
    assert (ours == theirs).mean() >= 0.999


WITHOUT_TORCH = """
import socket, sys
for name in ("torch", "torchvision"):
    sys.modules[name] = None
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = refuse
from jaxseg.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_import_then_predict_as_torchvision(published, tmp_path, jaxseg):
    folder, network = published
    words = ["import", folder / "fcn.pth", *MODEL, "--set", "num_classes=7", "--out", tmp_path / "model"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "aux_head: the file has no weights of this shape" in done.stdout
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"card.json", "weights.safetensors"}

    labels_agree(network, tmp_path, jaxseg)
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["origin"]["implementation"] == "torchvision"
    assert card["name"] == "fcn_resnet50"
    assert jaxseg("evaluate", tmp_path / "model").err[0].count("has no recipe") == 1


def test_a_mobile_network_too(tmp_path, jaxseg):
    torch = pytest.importorskip("torch", reason="the weights are torch's (extra 'parity')")
    models = torchvision_or_skip().models.segmentation
    from tests.oracles.torch_side import randomise

    torch.manual_seed(0)
    build = models.lraspp_mobilenet_v3_large
    network = randomise(build(weights=None, weights_backbone=None, num_classes=7))
    torch.save(network.state_dict(), tmp_path / "lraspp.pth")
    words = ("--model", "lraspp_mobilenet_v3_large", "--set", "num_classes=7", "--out", tmp_path / "model")
    said = jaxseg("import", tmp_path / "lraspp.pth", *words)
    assert said.status == 0, said.err
    labels_agree(network, tmp_path, jaxseg)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A narrow FCN of 7 classes under torchvision's names, as an npz."""
    model = fcn_resnet50(num_classes=7, width=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    path = tmp_path_factory.mktemp("narrow") / "fcn.npz"
    np.savez(path, **restore(variables, TORCHVISION_NAMES))
    return path


def test_other_classes(narrow, tmp_path, jaxseg):
    out, small = tmp_path / "model", (*MODEL, "--set", "width=4")
    said = jaxseg("import", narrow, *small, "--out", out)
    fault(said, "heads are of 7 classes, the model's of 21", "num_classes=7")
    assert not list(tmp_path.iterdir())
    said = jaxseg("import", narrow, *small, "--out", out, "--set", "num_classes=11", "--data", "camvid")
    assert said.status == 0, said.err
    assert "aux_head, head: the file" in said.out
    run = load(out)
    assert run.model.num_classes == 11
    assert run.facts.classes[0] == "sky"
    reinitialized = json.loads((out / "card.json").read_text())["origin"]["reinitialized"]
    assert sorted(reinitialized) == [
        f"{head}/classifier/{leaf}" for head in ("aux_head", "head") for leaf in ("bias", "kernel")
    ]


def test_prefix_and_names_of_classes(narrow, tmp_path, jaxseg):
    with np.load(narrow) as file:
        whole = {**{f"segmentor.{name}": value for name, value in file.items()}, "mean": np.zeros(3)}
        whole |= {f"ema.{name}": value + 1 for name, value in file.items() if value.dtype.kind == "f"}
    np.savez(tmp_path / "wrapped.npz", **whole)
    words = ("import", tmp_path / "wrapped.npz", *MODEL, "--set", "width=4", "--classes")
    names = ("road", "sky", "car", "tree", "sign", "pole", "person")
    said = jaxseg(*words, ", ".join(names), "--out", tmp_path / "model")
    assert said.status == 0, said.err
    assert "without their prefix 'segmentor.'" in said.out
    assert "left out, as not under it: mean, ema.*" in said.out
    plain, named = (load_of(jaxseg, path, tmp_path) for path in (narrow, tmp_path / "model"))
    assert named.facts.classes == names
    jax.tree.map(np.testing.assert_array_equal, named.variables, plain.variables)
    (tmp_path / "classes.txt").write_text("\ufeff" + "\r\n".join(names) + "\r\n")
    said = jaxseg(*words, tmp_path / "classes.txt", "--prefix", "ema", "--out", tmp_path / "ema")
    assert said.status == 0, said.err
    moved = load(tmp_path / "ema")
    assert moved.facts.classes == names
    kernel = moved.variables["params"]["head"]["classifier"]["kernel"]
    np.testing.assert_array_equal(kernel, plain.variables["params"]["head"]["classifier"]["kernel"] + 1)
    fault(jaxseg(*words, "a,b", "--out", tmp_path / "x"), "heads are of 7 classes, the model's of 2")
    fault(jaxseg(*words, "a,b,a", "--out", tmp_path / "x"), "'a' twice")
    fault(jaxseg(*words, "nowhere.txt", "--out", tmp_path / "x"), "'nowhere.txt'")


def load_of(jaxseg, path, tmp_path):
    """The model in a folder, or in a file after its import."""
    if path.is_dir():
        return load(path)
    words = ("--set", "width=4", "--set", "num_classes=7", "--out", tmp_path / "plain")
    assert jaxseg("import", path, *MODEL, *words).status == 0
    return load(tmp_path / "plain")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere.pth", *MODEL], ["'nowhere.pth'"]),
        (["text.pth", *MODEL], ["no known kind"]),
        (["harm.pkl", *MODEL], ["'posix.system'", "nothing was run"]),
        (["text.pth", "--model", "fcn_resnet5"], ["'fcn_resnet5'", "'fcn_resnet50'"]),
        (["text.pth", "--model", "segnet_basic"], ["no rules", "segnet_basic", "there are some for"]),
        (["text.pth", *MODEL, "--set", "num_clases=3"], ["'num_clases'", "'num_classes'"]),
        (["text.pth", *MODEL, "--set", "num_classes=many"], ["num_classes", "'many'"]),
        (["text.pth", *MODEL, "--set", "num_classes"], ["field=value"]),
        (["text.pth", *MODEL, "--from", "torchvison"], ["'torchvison'", "'torchvision'"]),
        (["text.pth", *MODEL, "--data", "camvd"], ["'camvd'", "'camvid'"]),
        (["other.npz", *MODEL], ["weights do not fit the model", "no rule knows this name"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_mistakes(jaxseg, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.pth").write_text("this is text")
    (tmp_path / "harm.pkl").write_bytes(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00exit\x85R.")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    fault(jaxseg("import", *words, "--out", "model"), *expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["harm.pkl", "other.npz", "text.pth"]


def test_a_folder_that_holds_something_else(narrow, tmp_path, jaxseg):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    fault(jaxseg("import", narrow, *MODEL, "--out", tmp_path / "mine"), "is no model of jaxseg's")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_evaluate_with_weights_of_others(narrow, trained, tmp_path, jaxseg):
    """A recipe gives the model and the data, a file the numbers."""
    text = (trained / "tiny.py").read_text()
    text = text.replace("unet(num_classes=7, depth=1, width=2)", "fcn_resnet50(num_classes=7, width=4)")
    (tmp_path / "fcn.py").write_text(text.replace("unet import unet", "fcn import fcn_resnet50"))
    words = ("--weights", narrow, "--data-dir", trained / "data", "--split", "val", "--json")
    said = jaxseg("evaluate", tmp_path / "fcn.py", *words)
    assert said.status == 0, said.err
    assert json.loads(said.out)["checkpoint"].endswith("fcn.npz")
