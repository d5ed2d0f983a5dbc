"""Pictures in colour, and cut-outs."""

import numpy as np

from jaxseg import viz
from jaxseg.ops.lab import rgb_to_lab
from jaxseg.viz.cutout import cut_out

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def test_true_colours_give_the_image_and_none_its_lightness():
    lab = rgb_to_lab(IMAGE)
    true = viz.draw(IMAGE, {"ab": lab[..., 1:]}, None)["colorized"]
    np.testing.assert_array_equal(true, IMAGE)
    grey = viz.draw(IMAGE, {"ab": np.zeros((9, 12, 2), np.float32)}, None)["colorized"]
    assert np.ptp(grey.astype(int), axis=-1).max() <= 1
    np.testing.assert_allclose(rgb_to_lab(grey)[..., 0], lab[..., 0], atol=0.5)


def test_the_sheet_of_a_training_compares_with_the_image_itself():
    sheets = viz.compare({"image": IMAGE[None]}, {"ab": np.zeros((1, 9, 12, 2), np.float32)}, None)
    assert list(sheets) == ["colorized"]


def test_a_cutout_has_the_saliency_as_opacity():
    alpha = np.linspace(-0.5, 1.5, 9 * 12).reshape(9, 12)
    cut = cut_out(IMAGE, alpha)
    np.testing.assert_array_equal(cut[..., :3], IMAGE)
    np.testing.assert_array_equal(cut[..., 3], np.rint(255 * np.clip(alpha, 0, 1)))
