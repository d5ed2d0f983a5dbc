"""Padding to multiples against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.pad import pad_to_multiple


@pytest.mark.parametrize(
    ("size", "multiple", "least", "padded"),
    [
        ((37, 50), 32, 1, (64, 64)),
        ((64, 33), 32, 1, (64, 64)),
        ((37, 50), 16, 100, (112, 112)),
        ((130, 50), 16, 128, (144, 128)),
        ((40, 20), 1, 32, (40, 32)),
    ],
)
def test_repeats_the_edge_until_the_multiple_is_reached(size, multiple, least, padded):
    x = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    wanted = np.pad(x, ((0, 0), (0, padded[0] - size[0]), (0, padded[1] - size[1]), (0, 0)), mode="edge")
    out = pad_to_multiple(jnp.asarray(x), multiple, least=least)
    assert out.dtype == jnp.uint8
    np.testing.assert_array_equal(out, wanted)


def test_what_fits_stays():
    x = jnp.ones((1, 64, 32, 3))
    assert pad_to_multiple(x, 32) is x
