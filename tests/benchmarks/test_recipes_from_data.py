"""The baselines that written recipes are compared with."""

import runpy

import numpy as np
import pytest

from tests.laws.tree import ROOT

B = runpy.run_path(str(ROOT / "benchmarks" / "recipes_from_data.py"))


def images(count, noise, seed=0):
    """Two colours with noise, three quarters of them the first; a row of void."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        label = (rng.random((12, 16)) < 0.25).astype(np.uint8)
        image = np.asarray([(50, 60, 70, 10), (150, 40, 90, 200)])[label] + rng.normal(0, noise, (12, 16, 4))
        label[0] = 255
        found.append((image.astype(np.float32), label))
    return found


def test_the_constant_has_the_share_of_its_class_and_the_linear_classifier_learns_what_is_linear():
    train, val = images(4, 5.0), images(3, 5.0, seed=1)
    constant, linear = B["baselines"](train, val, 2)
    known = np.concatenate([label[label < 2] for _, label in val])
    assert constant == pytest.approx((known == 0).mean() / 2)
    assert linear > 0.99
    hopeless = B["baselines"](images(4, 5000.0), images(3, 5000.0, seed=1), 2)
    assert hopeless[1] < 0.6


def test_mean_iou_is_by_hand():
    truth, found = np.asarray([[0, 0, 1, 255]]), np.asarray([[0, 1, 1, 1]])
    assert B["mean_iou"]([(found, truth)], 2) == pytest.approx((1 / 2 + 1 / 2) / 2)
