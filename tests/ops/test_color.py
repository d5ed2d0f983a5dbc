"""Lab and the quantised ab plane against scikit-image, the paper's formulas and the release's own numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.color import ab_bins, all_bins, annealed_mean, nearest_bin, prior_of, rebalancing, soft_bins
from jaxseg.ops.lab import colored, lab_to_rgb, rgb_to_lab
from tests.shared_data import shared_data

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 31, 3), np.uint8)


def test_lab_is_that_of_scikit_image_there_and_back():
    color = pytest.importorskip("skimage.color")
    np.testing.assert_allclose(rgb_to_lab(IMAGE), color.rgb2lab(IMAGE), atol=2e-4)
    np.testing.assert_allclose(rgb_to_lab(jnp.asarray(IMAGE)), color.rgb2lab(IMAGE), atol=2e-4)
    lab = np.random.default_rng(1).uniform((20, -60, -40), (100, 60, 40), (9, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(lab_to_rgb(lab) / 255, np.clip(color.lab2rgb(lab), 0, 1), atol=2e-4)
    np.testing.assert_array_equal(np.rint(lab_to_rgb(rgb_to_lab(IMAGE))), IMAGE)


def test_a_picture_keeps_its_lightness_and_takes_the_colours():
    """Within the gamut, up to the rounding of 8 bits."""
    grey = np.full((4, 4, 3), 128, np.uint8)
    lab = rgb_to_lab(colored(grey, np.full((4, 4, 2), [20.0, -15.0], np.float32)))
    np.testing.assert_allclose(lab[..., 0], rgb_to_lab(grey)[..., 0], atol=0.5)
    np.testing.assert_allclose(lab[..., 1:], np.full((4, 4, 2), [20.0, -15.0]), atol=1.0)


def test_the_bins_and_their_weights_are_the_releases():
    folder = shared_data("colorization")
    np.testing.assert_array_equal(ab_bins(), np.load(folder / "pts_in_hull.npy"))
    np.testing.assert_array_equal(all_bins(), np.load(folder / "pts_grid.npy"))
    prior = np.load(folder / "prior_probs.npy")
    weights = rebalancing(prior)
    found = [weights.min(), weights.max(), weights.mean(), np.median(weights)]
    np.testing.assert_allclose(found, [0.0965, 6.175, 5.17, 6.0], rtol=1e-3)
    np.testing.assert_allclose((prior * weights).sum(), 1)


def test_every_colour_of_srgb_has_a_bin_near_it():
    ab = rgb_to_lab(np.random.default_rng(0).integers(0, 256, (2000, 3), np.uint8))[:, 1:]
    nearest = ab_bins()[np.asarray(nearest_bin(jnp.asarray(ab), ab_bins()))]
    assert np.abs(nearest - ab).max() <= 5 + 1e-3


def test_colours_are_encoded_by_their_nearest_bins():
    ab = rgb_to_lab(IMAGE[:3, :3])[..., 1:]
    found = np.asarray(soft_bins(jnp.asarray(ab), ab_bins()))
    for colour, weights in zip(ab.reshape(-1, 2), found.reshape(-1, 313), strict=True):
        squares = ((ab_bins() - colour) ** 2).sum(1)
        near = np.argsort(squares)[:5]
        expected = np.zeros(313)
        expected[near] = np.exp(-squares[near] / 50)
        np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-5)


def test_the_annealed_mean_goes_from_the_mean_to_the_mode():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=313), jnp.float32)
    share = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(annealed_mean(logits, ab_bins(), 1.0), share @ ab_bins(), rtol=1e-3, atol=1e-3)
    sharp = share ** (1 / 0.38)
    np.testing.assert_allclose(annealed_mean(logits, ab_bins()), sharp @ ab_bins() / sharp.sum(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(annealed_mean(logits, ab_bins(), 1e-3), ab_bins()[int(logits.argmax())], atol=1e-2)


def test_the_prior_is_the_share_of_each_colour():
    half = np.concatenate([np.full((4, 4, 3), 128, np.uint8), np.full((4, 4, 3), [200, 40, 40], np.uint8)])
    prior = prior_of([half, half[:4]], smooth=0.0)
    red = ab_bins()[int(nearest_bin(jnp.asarray(rgb_to_lab(half[-1, -1])[1:]), ab_bins()))]
    shares = {tuple(bin_): share for bin_, share in zip(ab_bins().tolist(), prior, strict=True) if share}
    assert shares == {(0, 0): pytest.approx(2 / 3), tuple(red.tolist()): pytest.approx(1 / 3)}
    assert (prior_of([half]) > 0).sum() > 10
