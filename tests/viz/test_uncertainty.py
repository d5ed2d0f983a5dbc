import numpy as np

from jaxseg.viz import shade_variance


def test_the_largest_deviation_is_black_and_none_is_white():
    shades = shade_variance(np.asarray([[0.0, 0.04], [0.01, 0.0]]))
    assert shades.dtype == np.uint8
    np.testing.assert_array_equal(shades, np.asarray([[[255], [0]], [[128], [255]]]).repeat(3, -1))
    assert (shade_variance(np.zeros((2, 3))) == 255).all()
