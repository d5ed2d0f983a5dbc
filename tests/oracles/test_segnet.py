"""SegNet and the decoders of its Table 1 against the layer tables in torch functional calls, where pools round up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import create_model
from jaxseg.errors import BadInput
from jaxseg.models.semantic.segnet import fcn_basic, segnet_basic, segnet_vgg16
from jaxseg.ops.lrn import local_response_norm
from tests.oracles.torch_side import F, Reader, assert_agree, initial_params, random_image, random_variables, to_torch


def encode(r, image):
    """Raw BGR, LRN over five channels, four 7x7 convolutions with BatchNorm and ReLU, pools that round up."""
    x = F.local_response_norm(to_torch(image).flip(1), size=5, alpha=1e-4, beta=0.75, k=1.0)
    levels = []
    for i in (1, 2, 3, 4):
        active = F.relu(r.norm(f"conv{i}_norm", r.conv(f"conv{i}", x, padding=3)))
        x, indices = F.max_pool2d(active, 2, ceil_mode=True, return_indices=True)
        levels.append((active, x, indices))
    return x, levels


@pytest.mark.parametrize("size", [(48, 64), (45, 30)])
def test_segnet_basic_equals_the_layer_table(size):
    model, image = segnet_basic(num_classes=5, width=8), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    x, levels = encode(r, image)
    for i in (4, 3, 2, 1):
        before, _, indices = levels[i - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before.shape[2:])
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
        rows, columns = levels[i - 1][0].shape[2:]
        score = r.transposed(f"upscore{i}", score, stride=2, padding=3)[:, :, :rows, :columns]
        if i > 1:
            score = score + r.conv(f"score{i - 1}", levels[i - 2][1])
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], score)


def upscore(r, i, x, level):
    rows, columns = level[0].shape[2:]
    return r.transposed(f"upscore{i}", x, stride=2, padding=3)[:, :, :rows, :columns]


def bilinear(r, x, levels):
    x = r.conv("score", x)
    for before, _, _ in reversed(levels):
        rows, columns = before.shape[2:]
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)[:, :, :rows, :columns]
    return x


def encoder_addition(r, x, levels):
    for i in (4, 3, 2, 1):
        before, _, indices = levels[i - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before.shape[2:])
        x = r.norm(f"conv_decode{i}_norm", r.conv(f"conv_decode{i}", x, padding=3)) + before
    return r.conv("conv_classifier", x)


def single_channel(r, x, levels):
    for i in (4, 3, 2, 1):
        before, _, indices = levels[i - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before.shape[2:])
        x = r.norm(f"conv_decode{i}_norm", r.conv(f"conv_decode{i}", x, padding=3, groups=x.shape[1]))
    return r.conv("conv_classifier", x)


def no_addition(r, x, levels):
    x = r.conv("score4", x)
    for i in (4, 3, 2, 1):
        x = upscore(r, i, x, levels[i - 1])
    return x


def no_reduction(r, x, levels):
    x = upscore(r, 4, x, levels[3]) + levels[2][1]
    x = upscore(r, 3, x, levels[2]) + levels[1][1]
    x = upscore(r, 2, x, levels[1]) + levels[0][1]
    return r.conv("conv_classifier", upscore(r, 1, x, levels[0]))


def neither(r, x, levels):
    for i in (4, 3, 2, 1):
        x = upscore(r, i, x, levels[i - 1])
    return r.conv("conv_classifier", x)


TABLE_1 = {
    "bilinear_interpolation": (bilinear, 0.625),
    "encoder_addition": (encoder_addition, 1.425),
    "single_channel_decoder": (single_channel, 0.625),
    "fcn_basic_noaddition": (no_addition, 0.65),
    "fcn_basic_nodimreduction": (no_reduction, 1.625),
    "fcn_basic_noaddition_nodimreduction": (neither, 1.625),
}
"""Network -> its decoder in torch, and the millions of parameters that the table prints."""


@pytest.mark.parametrize("size", [(32, 48), (45, 30)])
@pytest.mark.parametrize("name", TABLE_1)
def test_the_other_decoders_equal_their_description(name, size):
    model, image = create_model(name, num_classes=5, width=4), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], TABLE_1[name][0](r["decoder"], *encode(r, image)))


@pytest.mark.parametrize("name", TABLE_1)
def test_the_other_decoders_have_about_the_printed_parameters(name):
    shapes = jax.eval_shape(create_model(name).init, jax.random.key(0), random_image(32, 32))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count / 1e6 == pytest.approx(TABLE_1[name][1], rel=0.025)


@pytest.mark.parametrize("size", [(64, 96), (45, 35)])
def test_segnet_equals_the_layer_table(size):
    """13 convolutions, pools that round up, the mirror image behind unpooling; the last convolution stands alone."""
    model, image = segnet_vgg16(num_classes=5, width=4), random_image(*size)
    variables = random_variables(model, image)
    r = Reader(variables)

    def conv(name, x):
        return F.relu(r.norm(f"{name}_norm", r.conv(name, x, padding=1)))

    x, pools = to_torch(image).flip(1), []
    for block, names in enumerate(("1 2", "1 2", "1 2 3", "1 2 3", "1 2 3"), 1):
        for i in names.split():
            x = conv(f"conv{block}_{i}", x)
        pools.append((x.shape[2:], F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)[1]))
        x = F.max_pool2d(x, 2, ceil_mode=True)
    for names in ("5_3 5_2 5_1", "4_3 4_2 4_1", "3_3 3_2 3_1", "2_2 2_1", "1_2"):
        before, indices = pools[int(names[0]) - 1]
        x = F.max_unpool2d(x, indices, 2, output_size=before)
        for name in names.split():
            x = conv(f"conv{name}_D", x)
    assert_agree(jax.jit(model.apply)(variables, image)["logits"], r.conv("conv1_1_D", x, padding=1))


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
