"""SegNet-Basic and FCN-Basic against the layer tables in torch functional calls, at sizes where pools round up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.semantic.segnet import fcn_basic, segnet_basic
from jaxseg.ops.lrn import local_response_norm
from jaxseg.types import BadInput
from tests.oracles.torch_side import F, Reader, assert_agree, initial_params, random_image, random_variables, to_torch


def encode(r, image):
    """Raw BGR, LRN over five channels, four 7x7 convolutions with BatchNorm and ReLU, pools that round up."""
    x = F.local_response_norm(to_torch(image).flip(1), size=5, alpha=1e-4, beta=0.75, k=1.0)
    levels = []
    for i in (1, 2, 3, 4):
        x = F.relu(r.norm(f"conv{i}_norm", r.conv(f"conv{i}", x, padding=3)))
        size = x.shape[2:]
        x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        levels.append((size, x, indices))
    return x, levels


@pytest.mark.parametrize("size", [(48, 64), (45, 30)])
def test_segnet_basic_equals_the_layer_table(size):
    model, image = segnet_basic(num_classes=5, width=8), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    x, levels = encode(r, image)
    for i in (4, 3, 2, 1):
        before, _, indices = levels[i - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before)
        x = r.norm(f"conv_decode{i}_norm", r.conv(f"conv_decode{i}", x, padding=3))
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], r.conv("conv_classifier", x))


@pytest.mark.parametrize("size", [(48, 64), (45, 30)])
def test_fcn_basic_equals_the_layer_table(size):
    model, image = fcn_basic(num_classes=5, width=8), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    x, levels = encode(r, image)
    score = r.conv("score4", x)
    for i in (4, 3, 2, 1):
        (rows, columns), _, _ = levels[i - 1]
        score = r.transposed(f"upscore{i}", score, stride=2, padding=3)[:, :, :rows, :columns]
        if i > 1:
            score = score + r.conv(f"score{i - 1}", levels[i - 2][1])
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], score)


def test_fcn_basic_starts_as_interpolation():
    """Its upsampling keeps a constant map constant away from the borders and mixes no classes."""
    params = initial_params(fcn_basic(num_classes=3, width=2), random_image(16, 16))
    kernel = np.asarray(params["upscore2"]["kernel"])
    phases = kernel.reshape(4, 2, 4, 2, 3, 3).sum((0, 2))
    np.testing.assert_allclose(phases, np.broadcast_to(np.eye(3), (2, 2, 3, 3)), atol=1e-6)


def test_published_sizes():
    """360x480 passes through 180, 90, 45 and 23 rows; the tables' counts are in thousands."""
    image = random_image(360, 480)
    model = segnet_basic()

    def call():
        return model.init_with_output(jax.random.key(0), image, capture_intermediates=True)[1]

    shapes = jax.eval_shape(call)
    outputs = shapes["intermediates"]
    assert [outputs[f"conv_decode{i}"]["__call__"][0].shape[1:3] for i in (4, 3, 2, 1)] == [
        (45, 60),
        (90, 120),
        (180, 240),
        (360, 480),
    ]
    small = jax.eval_shape(lambda: fcn_basic().init(jax.random.key(0), image))
    count = sum(leaf.size for leaf in jax.tree.leaves(small["params"]))
    assert round(count / 1e6, 2) == 0.65


@pytest.mark.parametrize("size", [3, 5])
def test_local_response_norm_equals_torch(size):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 7)).astype(np.float32) * 50
    theirs = F.local_response_norm(to_torch(x), size=size, alpha=1e-3, beta=0.6, k=2.0)
    assert_agree(local_response_norm(jnp.asarray(x), size=size, alpha=1e-3, beta=0.6, k=2.0), theirs, 1e-6)


def test_local_response_norm_needs_a_middle():
    with pytest.raises(BadInput, match="4 channels has no middle; take 3 or 5"):
        local_response_norm(jnp.zeros((1, 1, 1, 8)), size=4)
