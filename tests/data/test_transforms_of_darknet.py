"""YOLO's augmentation: boxes stay on their objects, and colours stay within their factors."""

import colorsys

import numpy as np
import pytest

from jaxseg.data.transforms import RandomHSV, RandomJitter
from jaxseg.errors import BadInput


def test_jittered_boxes_stay_on_their_objects_and_sides_move_by_no_more_than_their_share():
    image = np.zeros((50, 100, 3), np.uint8)
    image[20:30, 40:70] = 255
    record = {"image": image, "boxes": np.asarray([[40, 20, 70, 30]], np.float32), "valid": np.ones(1, bool)}
    sizes = set()
    for seed in range(20):
        moved = RandomJitter(0.2)(record, np.random.default_rng(seed))
        rows, columns = np.nonzero(moved["image"][..., 0])
        assert moved["boxes"][0].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        height, width = moved["image"].shape[:2]
        assert 30 <= height <= 70
        assert 60 <= width <= 140
        sizes.add((height, width))
    assert len(sizes) > 10
    with pytest.raises(BadInput, match=r"from 0 to below 0.5, not 0.5"):
        RandomJitter(0.5)


def test_saturation_and_value_are_scaled_by_factors_and_the_hue_stays():
    colour = np.asarray([120, 80, 100], np.uint8)
    before = colorsys.rgb_to_hsv(*(colour / 255))
    seen = []
    for seed in range(30):
        moved = RandomHSV(1.5, 1.5)({"image": np.tile(colour, (2, 2, 1))}, np.random.default_rng(seed))["image"]
        hue, saturation, value = colorsys.rgb_to_hsv(*(moved[0, 0] / 255))
        assert hue == pytest.approx(before[0], abs=0.03)
        seen.append((saturation / before[1], value / before[2]))
    low, high = np.min(seen, 0), np.max(seen, 0)
    assert (low > 1 / 1.5 - 0.05).all()
    assert (high < 1.5 + 0.05).all()
    assert (low < 0.85).all()
    assert (high > 1.2).all()
