"""What is handed on gives the same numbers elsewhere: in a process that has only JAX, and in torchvision."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

from jaxseg.backbones.resnet import ResNet
from jaxseg.conversion.rules import rules_of
from jaxseg.errors import BadInput
from jaxseg.export import folder, onnx, stablehlo
from jaxseg.export import torch as torch_format
from jaxseg.export.formats import FORMATS, Export, export
from jaxseg.inference.load import channels_of
from jaxseg.models.semantic.deeplabv3 import DeepLabV3
from jaxseg.models.semantic.fcn import TORCHVISION_NAMES, ResNetFCN, upsample_bilinear
from jaxseg.ops.pad import pad_to_multiple, zeros_to_multiple
from jaxseg.ops.pool import adaptive_avg_pool, avg_pool, max_pool
from jaxseg.ops.resize import resize_anchored, resize_bilinear, resize_nearest
from jaxseg.registry import create_small
from jaxseg.tasks.semantic import Semantic
from jaxseg.weights.names import convert
from jaxseg.weights.readers import read
from tests.inference.test_predict import picture
from tests.torchvision_cpu import torchvision_or_skip


def random_numbers(model):
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, channels_of(model)), np.uint8)
    )
    rng = np.random.default_rng(0)

    def draw(leaf):
        spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5
        drawn = rng.normal(size=leaf.shape) * spread if leaf.ndim > 1 else rng.uniform(0.5, 1, leaf.shape)
        return drawn.astype(np.float32)

    return jax.tree.map(draw, shapes)


def small_deeplabv3():
    backbone = ResNet(depths=(1, 1, 1, 1), width=4, output_stride=8)
    return DeepLabV3(backbone=backbone, num_classes=3, rates=(2, 4), features=8)


def card_of(model, classes=3):
    names, palette = tuple(f"c{k}" for k in range(classes)), tuple((k, k, k) for k in range(classes))
    return folder.Card(model, Semantic(classes), "small", names, palette, licence="CC0")


ELSEWHERE = """
import json, sys, zipfile
import jax, jax.export
import numpy as np
with zipfile.ZipFile(sys.argv[1]) as file:
    program = jax.export.deserialize(bytearray(file.read("program.bin")))
    card = json.loads(file.read("card.json"))
images = np.load(sys.argv[2])
np.savez(sys.argv[3], **{key: np.asarray(program.call(images[key])["probability"]) for key in images})
assert not [name for name in sys.modules if name.split(".")[0] in ("jaxseg", "flax", "torch")]
print(json.dumps([card["classes"], card["palette"], list(program.platforms)]))
"""


@pytest.mark.parametrize("name", ["unet", "fcn_resnet50", "segnet_basic"])
def test_stablehlo_in_a_process_that_has_only_jax(name, tmp_path):
    model = create_small(name)
    variables, card = random_numbers(model), card_of(model)
    path = tmp_path / "model.stablehlo"
    assert stablehlo.write(path, card, variables, size=None) == "b h w 3"
    images = {"one": picture(1, 64, 48, 3), "five": picture(5, 64, 48, 3), "odd": picture(2, 37, 51, 3)}
    np.savez(tmp_path / "in.npz", **images)
    words = [sys.executable, "-c", ELSEWHERE, path, tmp_path / "in.npz", tmp_path / "out.npz"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["c0", "c1", "c2"], [[0] * 3, [1] * 3, [2] * 3], ["cpu", "cuda", "tpu"]]
    forward, found = jax.jit(stablehlo.forward_of(card, variables)), np.load(tmp_path / "out.npz")
    for key, image in images.items():
        np.testing.assert_allclose(found[key], forward(jax.numpy.asarray(image))["probability"], rtol=0, atol=1e-5)


ANY_SIZE = ("deeplabv2_vgg16", "fcn8s_atonce_vgg16", "fpn_resnet50", "lraspp_mobilenet_v3_large")
"""Beside those above, one for each way to the image's size: anchored, crops, pyramid, image pooling."""


@pytest.mark.parametrize("name", ANY_SIZE)
def test_the_shape_of_the_image_may_be_left_open(name):
    model = create_small(name)
    image = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w, 3"), np.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    logits = jax.eval_shape(model.apply, variables, image)["logits"]
    assert logits.shape == (*image.shape[:3], 3)


@pytest.mark.parametrize("size", [(40, 56), (61, 37), (13, 5), (1, 1)])
def test_operations_on_open_sizes_are_those_on_known_ones(size):
    """Lowered for any size, then run at this one."""

    def each(x):
        h, w = x.shape[1:3]
        small = max_pool(x, 3, stride=2, padding=1)
        return [
            pad_to_multiple(x, 8),
            zeros_to_multiple(x, 8),
            small,
            avg_pool(x, 3, stride=2, padding=1),
            adaptive_avg_pool(x, (2, 3)),
            resize_bilinear(small, (h, w)),
            resize_bilinear(small, (h, w), align_corners=True),
            resize_bilinear(x, (24, 31)),
            resize_nearest(small, (h, w)),
            resize_nearest(small, (h, w), half_pixel=False),
            resize_anchored(small, 2, (h, w)),
            upsample_bilinear(x, 4, offset=2, size=(4 * h, 4 * w)),
        ]

    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape("b, h, w, 3"), np.float32)
    found = jax.export.export(jax.jit(each))(shape).call(x)
    for a, b in zip(found, jax.jit(each)(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_torch_state_dict_loads_strictly_and_gives_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="the file is torch's (extra 'parity')")
    models = torchvision_or_skip().models
    depths = (1, 1, 1, 1)
    trunk = models.resnet.ResNet(models.resnet.Bottleneck, depths, replace_stride_with_dilation=(False, True, True))
    network = models.segmentation.fcn._fcn_resnet(trunk, 3, True).eval()
    model = ResNetFCN(create_small("fcn_resnet50").backbone.clone(width=64), num_classes=3)
    variables = random_numbers(model)
    torch_format.write(tmp_path / "model.pth", variables, TORCHVISION_NAMES)
    assert torch_format.verify(tmp_path / "model.pth", variables, TORCHVISION_NAMES) == 0
    network.load_state_dict(torch.load(tmp_path / "model.pth", weights_only=True), strict=True)
    image = picture(1, 33, 40, 3)
    ours = jax.jit(model.apply)(variables, jax.numpy.asarray(image))["logits"]
    standard = np.array(model.backbone.standardize(jax.numpy.asarray(image))).transpose(0, 3, 1, 2)
    with torch.no_grad():
        theirs = network(torch.from_numpy(standard))["out"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())

    state = {name: value.numpy() for name, value in network.state_dict().items()}
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    back = read(tmp_path / "theirs.pth")
    again = convert(back, variables, TORCHVISION_NAMES)
    torch_format.write(tmp_path / "back.pth", again, TORCHVISION_NAMES)
    for name, value in read(tmp_path / "back.pth").items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)


def test_the_command_line_prints_the_error(trained, tmp_path, jaxseg):
    for form, name in (("safetensors", "model"), ("safetensors", "a.safetensors"), ("stablehlo", "a.stablehlo")):
        said = jaxseg("export", trained / "run", "--format", form, "--out", tmp_path / name, "--licence", "CC0")
        assert said.status == 0, said.err
        error = float(said.out.split("largest error ")[1])
        assert error <= 1e-5
    with zipfile.ZipFile(tmp_path / "a.stablehlo") as file:
        assert json.loads(file.read("card.json"))["licence"] == "CC0"
    said = jaxseg("export", tmp_path / "model", "--format", "safetensors", "--out", tmp_path / "again")
    assert said.status == 0, said.err
    assert folder.verify(tmp_path / "again", folder.read(tmp_path / "model")[1]) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--format", "torch", "--out", "a.pth"], "no rules"),
        (["--format", "onnx", "--out", "a.onnx"], "--size"),
        (["--format", "onnx", "--out", "a.onnx", "--size", "32", "32"], "make onnx-env"),
        (["--format", "stablehlo", "--out", "."], "is a folder"),
        (["--format", "tflite", "--out", "a"], "tflite"),
        (
            ["--format", "torch", "--out", "a.pth", "--size", "32", "32"],
            "takes no --size; it belongs to stablehlo and onnx",
        ),
        (["--format", "stablehlo", "--out", "a", "--to", "torchvision"], "takes no --to; it belongs to torch"),
    ],
)
def test_mistakes(trained, tmp_path, monkeypatch, jaxseg, words, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXSEG_ONNX_PYTHON", "nowhere")
    said = jaxseg("export", trained / "run", *words)
    assert (said.status, len(said.err)) == (2, 1)
    assert expected in said.err[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(FORMATS))
def test_each_format_is_written_and_verified_by_the_table(name, tmp_path):
    """A number that is changed afterwards is seen."""
    if name == "onnx":
        try:
            onnx.interpreter()
        except BadInput as error:
            pytest.skip(str(error))
    model = create_small("fcn_resnet50")
    variables, card = random_numbers(model), card_of(model)
    size = (64, 48) if "size" in FORMATS[name].options else None
    job = Export(tmp_path / "a", card, variables, (1, 64, 64, 3), rules=lambda: rules_of(model), size=size)
    assert export(name, job)[1] <= 1e-4
    other = jax.tree.map(lambda leaf: leaf * np.float32(1.5), variables)
    assert FORMATS[name].verify(dataclasses.replace(job, variables=other)) > 1e-4


def test_channels_other_than_three_are_exported(tmp_path):
    model = create_small("fcn_resnet50", in_channels=4)
    variables = random_numbers(model)
    job = Export(tmp_path / "a", card_of(model), variables, (1, 64, 64, 4), rules=lambda: rules_of(model))
    line, error = export("stablehlo", job)
    assert line.startswith("takes u8[b h w 4], on ")
    assert error <= 1e-5


RUN_ONNX = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
given, card = session.get_inputs()[0], session.get_modelmeta().custom_metadata_map["jaxseg"]
images = np.load(sys.argv[2])
np.savez(sys.argv[3], **{key: session.run(None, {given.name: images[key]})[0] for key in images})
print(json.dumps([given.type, json.loads(card)["classes"], json.loads(card)["palette"]]))
"""


@pytest.mark.parametrize("name", ["unet", "fcn_resnet50", "fcn8s_atonce_vgg16", "deeplabv3_resnet50", "enet"])
def test_onnx_in_its_runtime(name, tmp_path):
    try:
        python = onnx.interpreter()
    except BadInput as error:
        pytest.skip(str(error))
    model = small_deeplabv3() if name == "deeplabv3_resnet50" else create_small(name)
    # Small enough that no probability is 0 or 1, where nothing could differ.
    variables, card = jax.tree.map(lambda leaf: np.float32(0.7) * leaf, random_numbers(model)), card_of(model)
    onnx.write(tmp_path / "model.onnx", card, variables, size=(64, 48))
    error = onnx.verify(tmp_path / "model.onnx", card, variables)
    assert 0 < error <= 1e-4
    images = {"one": picture(1, 64, 48, 3), "five": picture(5, 64, 48, 3)}
    np.savez(tmp_path / "in.npz", **images)
    words = [python, "-c", RUN_ONNX, tmp_path / "model.onnx", tmp_path / "in.npz", tmp_path / "out.npz"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["tensor(uint8)", ["c0", "c1", "c2"], [[0] * 3, [1] * 3, [2] * 3]]
    forward, found = jax.jit(stablehlo.forward_of(card, variables)), np.load(tmp_path / "out.npz")
    for key, image in images.items():
        wanted = np.asarray(forward(jax.numpy.asarray(image))["probability"])
        assert np.median(wanted.max(-1)) < 0.999
        np.testing.assert_allclose(found[key], wanted, rtol=0, atol=1e-4)
