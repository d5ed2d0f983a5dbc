"""Thinning, suppression and matching of edge maps against other programs and by hand."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from jaxseg.ops import edges


def blobs(seed, level=0.5):
    return ndimage.gaussian_filter(np.random.default_rng(seed).random((40, 50)), 2) > level


def test_thinning_is_that_of_scikit_image():
    morphology = pytest.importorskip("skimage.morphology")
    for seed in range(5):
        np.testing.assert_array_equal(edges.thin(blobs(seed)), morphology.thin(blobs(seed)))


def test_thin_lines_stay_and_parts_neither_split_nor_vanish():
    once = edges.thin(blobs(7))
    np.testing.assert_array_equal(edges.thin(once), once)
    eight = np.ones((3, 3))
    assert ndimage.label(once, eight)[1] == ndimage.label(blobs(7), eight)[1] > 1


@pytest.mark.parametrize("seed", range(4))
def test_as_many_pixels_are_matched_as_an_exact_assignment_can(seed):
    rng = np.random.default_rng(seed)
    found, true = rng.random((12, 15)) < 0.2, rng.random((12, 15)) < 0.15
    distance = np.linalg.norm(np.argwhere(found)[:, None] - np.argwhere(true)[None], axis=-1)
    rows, columns = linear_sum_assignment(np.where(distance <= 2, distance, 1e3))
    ours, theirs = edges.match(found, true, 2.0)
    assert ours.sum() == theirs.sum() == (distance[rows, columns] <= 2).sum() > 0
    assert not (ours & ~found).any()
    assert not (theirs & ~true).any()


def test_a_pixel_has_one_partner_at_most():
    found, true = np.zeros((5, 5), bool), np.zeros((5, 5), bool)
    found[1:4, 2], true[2, 2] = True, True
    assert edges.match(found, true, 2.0)[0].sum() == 1
    assert not edges.match(found, np.roll(true, 2, 1), 1.9)[0].any()


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, np.pi / 2, 2.0])
def test_only_the_crest_of_a_ridge_is_left_whatever_its_direction(angle):
    y, x = np.mgrid[-20:21, -20:21]
    off = np.abs(x * np.sin(angle) - y * np.cos(angle))
    kept = edges.suppress(np.exp(-(off**2) / 8).astype(np.float32), margin=0) > 0
    inner = (slice(5, -5),) * 2
    assert kept[inner].sum() >= 31
    assert off[inner][kept[inner]].max() < 1.5
