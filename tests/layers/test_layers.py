"""Convolution modules, dropout, PReLU and standardisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.layers.activation import PReLU
from jaxseg.layers.conv import Conv, ConvTranspose, WeightStandardizedConv
from jaxseg.layers.dropout import Dropout, DropPath
from jaxseg.layers.standardize import CAFFE, CENTRED, GREY, IMAGENET, RAW_BGR, UNIT, UNIT_RANGE, Standardize, statistics
from jaxseg.types import DATA_AXIS


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), (3, 5, 2, 6)),
        (ConvTranspose(6, 3, stride=2, padding=1, output_padding=1, groups=2), (3, 3, 4, 3)),
    ],
)
def test_conv_modules_equal_torch(layer, shape):
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    x = np.random.default_rng(0).normal(size=(2, 9, 11, 4)).astype(np.float32)
    params = layer.init(jax.random.key(0), jnp.asarray(x))["params"]
    params["bias"] = jnp.linspace(-1, 1, 6, dtype=jnp.float32)
    assert params["kernel"].shape == shape
    kernel, bias = torch.from_numpy(np.array(params["kernel"])), torch.from_numpy(np.array(params["bias"]))
    source = torch.from_numpy(x).permute(0, 3, 1, 2)
    if isinstance(layer, Conv):
        reference = torch.nn.functional.conv2d(
            source, kernel.permute(3, 2, 0, 1), bias, stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2
        )
    else:
        reference = torch.nn.functional.conv_transpose2d(
            source, kernel.permute(2, 3, 0, 1), bias, stride=2, padding=1, output_padding=1, groups=2
        )
    out = layer.apply({"params": params}, jnp.asarray(x))
    np.testing.assert_allclose(out, reference.permute(0, 2, 3, 1), atol=1e-5)


def test_standardised_kernels_equal_torchs_normalisation_of_each_output_channel():
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    layer, x = WeightStandardizedConv(5, 3, epsilon=0.1, use_bias=False), jnp.zeros((1, 3, 3, 2)).at[0, 1, 1].set(1.0)
    kernel = np.random.default_rng(0).normal(1.0, 0.5, (3, 3, 2, 5)).astype(np.float32)
    rows = torch.from_numpy(kernel).permute(3, 2, 0, 1).reshape(1, 5, -1)
    standardised = torch.nn.functional.batch_norm(rows, None, None, training=True, eps=0.1).reshape(5, 2, 3, 3)
    out = layer.clone(padding=1).apply(
        {"params": {"kernel": jnp.asarray(kernel)}}, x
    )  # of an impulse: the kernel, mirrored
    np.testing.assert_allclose(out[0, ::-1, ::-1], standardised.sum(1).permute(1, 2, 0), atol=1e-5)


def test_compute_dtype_leaves_parameters_in_float32():
    layer = Conv(4, 1, dtype=jnp.bfloat16)
    x = jnp.ones((1, 2, 2, 3))
    variables = layer.init(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert layer.apply(variables, x).dtype == jnp.bfloat16


def test_he_initialisation_has_the_papers_deviation():
    kernel = Conv(64, 3).init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))["params"]["kernel"]
    assert float(jnp.std(kernel)) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)  # He et al. 2015, eq. 10


@pytest.mark.parametrize("spatial", [False, True])
def test_dropout_keeps_the_mean_and_drops_the_stated_share(spatial):
    x = jnp.ones((64, 4, 4, 32))
    out = np.asarray(Dropout(0.25, spatial=spatial).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (out == 0).mean() == pytest.approx(0.25, abs=0.03)
    whole_channels = (out == out[:, :1, :1]).all()
    assert whole_channels == spatial
    assert (Dropout(0.25).apply({}, x, train=False) == x).all()


def test_dropout_draws_the_same_mask_when_rows_are_spread_over_devices():
    x = jnp.ones((8, 3, 3, 5))
    layer = Dropout(0.5)

    def run(x):
        return layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(3)})

    spread = jax.pmap(run, DATA_AXIS)(x.reshape(4, 2, 3, 3, 5)).reshape(x.shape)
    whole = run(x)
    np.testing.assert_array_equal(spread, whole)
    assert not (whole[0] == whole[1]).all()


def test_prelu_equals_torch():
    torch = pytest.importorskip("torch", reason="the oracle is PyTorch (extra 'parity')")
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    alpha = np.linspace(-0.5, 1, 5, dtype=np.float32)
    out = PReLU().apply({"params": {"alpha": alpha}}, jnp.asarray(x))
    reference = torch.nn.functional.prelu(torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(alpha))
    np.testing.assert_allclose(out, reference.permute(0, 2, 3, 1), atol=1e-6)
    assert float(PReLU().init(jax.random.key(0), jnp.asarray(x))["params"]["alpha"][0]) == 0.25


@pytest.mark.parametrize("values", [IMAGENET, CAFFE, UNIT, CENTRED, RAW_BGR])
def test_standardize_follows_its_formula(values):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    ordered = image[..., ::-1] if values.order == "bgr" else image
    expected = (ordered.astype(np.float64) * values.scale - np.array(values.mean)) / np.array(values.std)
    np.testing.assert_allclose(values(jnp.asarray(image)), expected, atol=1e-4)


def test_grey_is_luma_and_a_wrong_order_is_refused():
    image = jnp.asarray([[[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]]], jnp.uint8)
    expected = (np.array([0.299, 0.587, 0.114, 1.0]) - 0.5) / 0.25
    np.testing.assert_allclose(GREY(image)[0, 0, :, 0], expected, atol=1e-5)
    with pytest.raises(ValueError, match="there are: 'rgb', 'bgr', 'grey'"):
        Standardize(order="gbr")(image)


@pytest.mark.parametrize("values", [IMAGENET, CAFFE, GREY])
def test_colors_of_sixteen_bits_are_those_of_eight(values):
    image = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), np.uint8)
    sixteen = values(jnp.asarray(image.astype(np.uint16) * 257))
    np.testing.assert_allclose(sixteen, values(jnp.asarray(image)), rtol=1e-6, atol=1e-4)


def test_bands_are_standardised_in_their_own_units():
    image = np.random.default_rng(0).integers(0, 10_000, (2, 3, 4, 4), np.uint16)
    mean, std = (1000.0, 1100.0, 1200.0, 2500.0), (200.0, 250.0, 300.0, 500.0)
    np.testing.assert_allclose(Standardize(mean, std)(jnp.asarray(image)), (image - mean) / std, rtol=1e-5, atol=1e-5)
    three = Standardize(mean[:3], std[:3], order="bands")(jnp.asarray(image[..., :3]))
    np.testing.assert_allclose(three, (image[..., :3] - mean[:3]) / std[:3], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("channels", [1, 3, 13])
def test_without_statistics_the_range_of_the_dtype_becomes_one(dtype, largest, channels):
    image = np.full((1, 2, 3, channels), largest, dtype)
    np.testing.assert_array_equal(UNIT_RANGE(jnp.asarray(image)), np.ones(image.shape, np.float32))


def test_an_image_of_one_channel_is_luma_already():
    grey = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 1), np.uint8)
    colors = jnp.asarray(np.repeat(grey, 3, axis=-1))
    np.testing.assert_allclose(GREY(jnp.asarray(grey)), GREY(colors), atol=1e-5)


def test_wrong_channels_are_refused_by_their_numbers():
    with pytest.raises(BadInput, match="image has 4 channels and the network takes 3"):
        IMAGENET(jnp.zeros((1, 2, 2, 4), jnp.uint8), 3)
    with pytest.raises(BadInput, match=r"in_channels is 4, and the statistics are of 3 channels in the order 'bgr'"):
        CAFFE(jnp.zeros((1, 2, 2, 4), jnp.uint8), 4)


def test_statistics_are_those_given_or_the_networks_own_where_they_fit():
    assert statistics(None, IMAGENET, 3) == IMAGENET
    assert statistics(None, IMAGENET, 4) == UNIT_RANGE
    assert statistics(None, GREY, 1) == GREY
    assert statistics(CAFFE, IMAGENET, 4) == CAFFE


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    x = jnp.ones((256, 2, 2, 3))
    layer = DropPath(0.25)
    out = np.asarray(layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})).reshape(256, -1)
    assert (out == out[:, :1]).all()
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (out[:, 0] == 0).mean() == pytest.approx(0.25, abs=0.1)
    assert layer.apply({}, x, train=False) is x
