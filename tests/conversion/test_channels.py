"""Kernels for RGB in networks of other numbers of channels, as timm inflates them."""

import jax
import numpy as np
import pytest

import jaxseg
from jaxseg.backbones import resnet
from jaxseg.errors import BadInput
from jaxseg.models.semantic.fcn import TORCHVISION_NAMES, fcn_resnet50
from jaxseg.weights.layouts import inflate
from jaxseg.weights.names import convert, restore
from jaxseg.weights.pretrained import Pretrained


def shapes_of(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, model.in_channels), np.uint8)
    return jax.eval_shape(model.init, jax.random.key(0), image)


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    """A file of a narrow FCN for RGB, and its arrays."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32),
        shapes_of(fcn_resnet50(num_classes=3, width=4)),
    )
    path = tmp_path_factory.mktemp("rgb") / "fcn.npz"
    state = restore(variables, TORCHVISION_NAMES)
    np.savez(path, **state)
    return path, state


def timm(weight, channels):
    """timm's ``adapt_input_conv`` of a kernel OIHW, written out."""
    if channels == 1:
        return weight.sum(1, keepdims=True)
    repeats = int(np.ceil(channels / 3))
    return np.tile(weight, (1, repeats, 1, 1))[:, :channels] * np.float32(3 / channels)


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_kernels_are_inflated_as_timm_does_it(rgb, channels):
    path, state = rgb
    run = jaxseg.load(path, "fcn_resnet50", width=4, num_classes=3, in_channels=channels)
    assert run.model.in_channels == channels
    kernel = run.variables["params"]["backbone"]["conv1"]["kernel"]
    wanted = timm(state["backbone.conv1.weight"], channels).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(kernel, wanted, rtol=1e-6)
    assert f"backbone/conv1/kernel: inflated from RGB to in_channels={channels}" in run.card.origin["report"]
    other = run.variables["params"]["backbone"]["layer1_0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(other, state["backbone.layer1.0.conv1.weight"].transpose(2, 3, 1, 0))


def test_grey_gives_what_the_same_picture_in_rgb_gives():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    patch = np.random.default_rng(1).normal(size=(3, 3, 1)).astype(np.float32)
    grey = np.einsum("hwc,hwco->o", patch, inflate(kernel, 1))
    np.testing.assert_allclose(grey, np.einsum("hwc,hwco->o", np.repeat(patch, 3, 2), kernel), rtol=1e-4, atol=1e-5)


def test_a_stage_s_first_weights_are_inflated_too(tmp_path, rgb):
    _, state = rgb
    inside = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    np.savez(tmp_path / "resnet.npz", **inside)
    start = Pretrained(str(tmp_path / "resnet.npz"), resnet.TORCHVISION_NAMES, part="backbone")
    found = start.load(shapes_of(fcn_resnet50(num_classes=3, width=4, in_channels=4)))
    wanted = timm(state["backbone.conv1.weight"], 4).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(found["params"]["backbone"]["conv1"]["kernel"], wanted, rtol=1e-6)


def test_no_other_kernel_is_bent():
    """Only a file's kernel over three channels is one for RGB."""
    target = {"params": {"conv": {"kernel": np.zeros((3, 3, 5, 2), np.float32)}}}
    rules = ((r"conv\.weight", "conv/kernel"),)
    with pytest.raises(BadInput, match="does not fit"):
        convert({"conv.weight": np.zeros((2, 4, 3, 3))}, target, rules)
    assert convert({"conv.weight": np.ones((2, 3, 3, 3))}, target, rules)["params"]["conv"]["kernel"].shape == (
        3,
        3,
        5,
        2,
    )
