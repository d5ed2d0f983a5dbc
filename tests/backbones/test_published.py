"""The names of published backbones: Detectron's, detectron2's, timm's; and a stage that begins with one by name."""

import functools
import pickle

import jax
import numpy as np
import pytest

from jaxseg.backbones import mobilenet, mobilenet_timm, resnet, vgg
from jaxseg.backbones.resnet import CAFFE2_NAMES, DETECTRON2_NAMES, TORCHVISION_NAMES
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import MSRA
from jaxseg.weights import pretrained
from jaxseg.weights.names import convert, restore
from jaxseg.weights.pretrained import Pretrained
from jaxseg.weights.readers import read
from tests.oracles.torch_side import random_image, random_variables, torch
from tests.torchvision_cpu import torchvision_or_skip

IMAGE = random_image(32, 32)


def narrow(**options):
    return resnet.resnet(50, width=4, **options)


@functools.cache
def drawn():
    return random_variables(narrow(), IMAGE, train=False)


def shapes_of(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGE, train=False))


@pytest.mark.parametrize("rules", [TORCHVISION_NAMES, DETECTRON2_NAMES, CAFFE2_NAMES])
def test_there_and_back(rules):
    variables = drawn()
    theirs = restore(variables, rules)
    again = convert(theirs, shapes_of(narrow()), rules)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, variables))


def test_names_are_the_zoos():
    names = restore(drawn(), CAFFE2_NAMES)
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res5_2_branch2c_bn_b", "res4_5_branch2a_w"} <= set(names)
    names = restore(drawn(), DETECTRON2_NAMES)
    assert {"stem.conv1.weight", "stem.conv1.norm.bias", "res2.0.shortcut.norm.running_var"} <= set(names)


def msra(path):
    """A pickle as Detectron wrote it: norms folded into scale and bias, a classifier, the stem's bias of zeros."""
    variables = drawn()
    blobs = {k: v for k, v in restore(variables, CAFFE2_NAMES).items() if not k.endswith(("_rm", "_riv"))}
    blobs |= {"conv1_b": np.zeros(4, "f4"), "fc1000_w": np.zeros((10, 128), "f4"), "fc1000_b": np.zeros(10, "f4")}
    blobs["conv1_w_momentum"] = blobs["conv1_w"]
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    return blobs


def test_a_folded_norm_is_a_scale_and_a_shift(tmp_path):
    """``x * scale + bias``, whatever the running statistics of the network would do to it."""
    blobs = msra(tmp_path / "R-50.pkl")
    model = narrow(stride_on="1x1", standardize=MSRA)
    variables = convert(read(tmp_path / "R-50.pkl"), shapes_of(model), CAFFE2_NAMES)
    stem = model.standardize(IMAGE)
    conv = jax.lax.conv_general_dilated(
        stem,
        np.asarray(blobs["conv1_w"]).transpose(2, 3, 1, 0),
        (2, 2),
        ((3, 3), (3, 3)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = np.maximum(np.asarray(conv) * blobs["res_conv1_bn_s"] + blobs["res_conv1_bn_b"], 0)
    ours = jax.jit(lambda v: model.apply(v, IMAGE, train=False))(variables)["c1"]
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_stage_may_begin_with_a_name(tmp_path, monkeypatch):
    variables = drawn()
    np.savez(tmp_path / "r.npz", **restore(variables, TORCHVISION_NAMES))
    asked = []
    monkeypatch.setattr(pretrained.hub, "fetch", lambda *names: asked.append(names) or tmp_path / "r.npz")
    init = Pretrained("torchvision:IMAGENET1K_V1", TORCHVISION_NAMES, architecture="resnet50")
    found = init.load(shapes_of(narrow()))
    assert asked == [("torchvision:IMAGENET1K_V1", "resnet50")]
    assert str(init) == "torchvision:IMAGENET1K_V1 of resnet50"
    assert jax.tree.all(jax.tree.map(np.array_equal, found, dict(variables)))


def test_an_unknown_name_is_refused():
    with pytest.raises(BadInput, match="'torchvision:IMAGENET1K_V3' of 'resnet50' are known; did you mean"):
        Pretrained("torchvision:IMAGENET1K_V3", TORCHVISION_NAMES, architecture="resnet50").load(shapes_of(narrow()))


@pytest.mark.parametrize(
    ("name", "model", "rules"),
    [
        ("resnet50", resnet.resnet(50), TORCHVISION_NAMES),
        ("resnext50_32x4d", resnet.resnet(50, groups=32, width_per_group=4), TORCHVISION_NAMES),
        ("vgg16", vgg.VGG(), vgg.torchvision_names(vgg.VGG16, "none")),
        ("vgg11_bn", vgg.VGG(vgg.VGG11, norm="batch"), vgg.torchvision_names(vgg.VGG11, "batch")),
        ("mobilenetv1_100", mobilenet.mobilenet_v1(), mobilenet_timm.V1_NAMES),
        ("mobilenetv2_140", mobilenet.mobilenet_v2(width=1.4), mobilenet_timm.V2_NAMES),
        ("mobilenetv3_large_100", mobilenet.mobilenet_v3("large"), mobilenet_timm.v3_names("large")),
    ],
)
def test_timms_networks_fill_them(name, model, rules):
    """Every weight under timm's names; the numbers are compared by benchmarks/parity.py."""
    torchvision_or_skip()
    timm = pytest.importorskip("timm", reason="the names are timm's (extra 'parity')")
    with torch.device("meta"):
        theirs = timm.create_model(name, pretrained=False)
    state = {key: np.broadcast_to(np.float32(0), tuple(value.shape)) for key, value in theirs.state_dict().items()}
    convert(state, shapes_of(model), rules)
