"""Crops that are placed by class show rare classes more often, and stay within the image."""

import numpy as np
import pytest

from jaxseg.data.transforms import BalancedCrop, RandomCrop
from jaxseg.errors import BadInput


def label_with(rare):
    """Class 1 in a few pixels of an image of class 0, void beside it."""
    label = np.zeros((48, 64), np.uint8)
    label[:, 60:] = 255
    label[rare] = 1
    return {"label": label, "image": np.repeat(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64, 1), 3, 2)}


def test_a_class_of_one_pixel_is_in_as_many_crops_as_its_share_says():
    """Half of the crops by class, of two classes: a quarter, and the few that chance adds."""
    record, rng = label_with((5, 50)), np.random.default_rng(0)
    hits = [(BalancedCrop(8, 8, share=0.5)(record, rng)["label"] == 1).any() for _ in range(800)]
    by_chance = [(RandomCrop(8, 8)(record, rng)["label"] == 1).any() for _ in range(800)]
    expected = 0.25 + 0.75 * np.mean(by_chance)
    assert abs(np.mean(hits) - expected) < 0.06 < 0.15 < np.mean(hits) - np.mean(by_chance)


def test_every_place_of_the_crop_is_as_likely_for_the_pixel_and_image_and_label_stay_together():
    record, rng = label_with((20, 30)), np.random.default_rng(1)
    places = []
    for _ in range(600):
        cut = BalancedCrop(4, 6, share=1.0, classes=(1,))(record, rng)
        assert cut["label"].shape == (4, 6)
        (y,), (x,) = np.nonzero(cut["label"] == 1)
        assert cut["image"][y, x, 0] == 20 * 64 + 30
        places.append(y * 6 + x)
    counts = np.bincount(places, minlength=24)
    assert counts.min() > 8
    assert counts.max() < 50


@pytest.mark.parametrize("rare", [(0, 0), (47, 59), (0, 59)])
def test_at_the_border_it_stays_within_the_image(rare):
    cut = BalancedCrop(8, 8, share=1.0, classes=(1,))(label_with(rare), np.random.default_rng(0))
    assert (cut["label"] == 1).sum() == 1
    assert cut["image"].min() >= 0
    assert not (cut["image"][..., 0] == 0).all()


def test_images_that_are_too_small_or_have_no_such_class_are_cropped_as_ever():
    small = {"label": np.ones((3, 4), np.uint8)}
    cut = BalancedCrop(8, 8, share=1.0)(small, np.random.default_rng(0))["label"]
    assert cut.shape == (8, 8)
    assert (cut == 1).sum() == 12
    assert (cut == 255).sum() == 52
    without = BalancedCrop(8, 8, share=1.0, classes=(7,))(label_with((1, 1)), np.random.default_rng(0))
    assert without["label"].shape == (8, 8)
    with pytest.raises(BadInput, match=r"share of BalancedCrop is 2, but must lie between 0 and 1"):
        BalancedCrop(8, 8, share=2)
