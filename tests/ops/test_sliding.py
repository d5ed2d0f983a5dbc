"""Dense evaluation of a classifier of windows, and its dense layers as convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import sliding
from jaxseg.ops.pool import max_filter, max_pool


def maps(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_every_window_by_itself():
    x = maps(2, 7, 9, 3)
    found = sliding.patch_by_patch(lambda p: p.reshape(p.shape[0], -1).cumsum(1)[:, ::5], x, (4, 3), batch=7)
    assert found.shape == (2, 4, 7, 8)
    for b, i, j in np.ndindex(2, 4, 7):
        patch = np.asarray(x[b, i : i + 4, j : j + 3]).reshape(-1)
        np.testing.assert_allclose(found[b, i, j], patch.cumsum()[::5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 12), (10, 7)])
def test_shift_and_stitch_is_the_dense_map(size):
    x = maps(1, *size, 2)
    strided = sliding.shift_and_stitch(lambda x: max_pool(x, 5, stride=3), x, 5, 3)
    np.testing.assert_array_equal(strided, max_pool(x, 5, stride=1))


@pytest.mark.parametrize("order", ["hwc", "chw"])
def test_a_dense_layer_is_a_convolution(order):
    """At each place of a larger map it gives what the dense layer gives of the flattened window there."""
    x, weight = maps(1, 6, 7, 3), maps(4 * 2 * 3, 5, seed=1)
    kernel = sliding.dense_to_conv(weight, (4, 2), order=order)
    assert kernel.shape == (4, 2, 3, 5)
    dimensions = ("NHWC", "HWIO", "NHWC")
    dense = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=dimensions)
    for i, j in np.ndindex(3, 6):
        window = x[0, i : i + 4, j : j + 2]
        flat = (window if order == "hwc" else window.transpose(2, 0, 1)).reshape(-1)
        np.testing.assert_allclose(dense[0, i, j], flat @ weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(sliding.conv_to_dense(kernel, order=order), weight)


def test_max_filter_is_a_pool_of_stride_one():
    x = maps(2, 6, 7, 3)
    np.testing.assert_array_equal(max_filter(x, 2), max_pool(x, 2, stride=1))
    by_hand = jnp.maximum(x[:, :-3], x[:, 3:])
    by_hand = jnp.maximum(by_hand[:, :, :-3], by_hand[:, :, 3:])
    np.testing.assert_array_equal(max_filter(x, 2, dilation=3), by_hand)


def test_the_gradient_of_max_filter_goes_to_the_first_largest():
    gradient = jax.grad(lambda x: max_filter(x, 2).sum())(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: sliding.patch_by_patch(lambda p: p, maps(1, 3, 9, 1), 4), "4x4 does not fit a map of 3x9"),
        (lambda: sliding.dense_to_conv(maps(10, 2), 3), "10 inputs are no flattened map of 3x3"),
        (lambda: sliding.dense_to_conv(maps(18, 2), 3, order="cwh"), "there are 'hwc'"),
        (lambda: sliding.conv_to_dense(maps(3, 3, 2, 1), order="cwh"), "there are 'hwc'"),
        (lambda: max_filter(maps(1, 3, 9, 1), 2, dilation=3), "does not fit 3x9"),
    ],
)
def test_mistakes_are_named(fault, message):
    with pytest.raises(BadInput, match=message):
        fault()
