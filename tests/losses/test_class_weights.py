import numpy as np

from jaxseg.losses import inverse_log, median_frequency

# CamVid's 367 training annotations at 360x480: pixels of each class, void, and images that contain each class.
PIXELS = (10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967)
VOID_PIXELS = 2503995
IMAGES = (366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201)


def test_median_frequency_over_all_pixels_gives_the_camvid_table():
    table = (0.2663, 0.1929, 4.5642, 0.1417, 1.0, 0.4614, 3.8248, 3.9814, 0.7648, 7.0182, 15.3816)
    np.testing.assert_allclose(median_frequency(PIXELS), table, atol=6e-5)


def test_median_frequency_over_the_images_of_the_class_gives_the_camvid_table():
    table = (0.2793, 0.2017, 4.7865, 0.1490, 1.0, 0.4217, 3.8467, 1.9736, 0.7889, 6.3747, 8.8587)
    np.testing.assert_allclose(median_frequency(PIXELS, [n * 360 * 480 for n in IMAGES]), table, atol=6e-5)


def test_a_class_that_never_occurs_weighs_nothing_and_moves_no_median():
    assert median_frequency((10, 0, 30, 20)) == (2.0, 0.0, 2 / 3, 1.0)


def test_inverse_log_is_enets_formula_and_bounded():
    share = np.asarray(PIXELS) / (sum(PIXELS) + VOID_PIXELS)
    np.testing.assert_allclose(inverse_log(PIXELS, void=VOID_PIXELS), 1 / np.log(1.02 + share))
    assert max(inverse_log((1, 10**12))) < 50.5
    np.testing.assert_allclose(inverse_log((0, 5), k=1.2), (1 / np.log(1.2), 1 / np.log(2.2)))
