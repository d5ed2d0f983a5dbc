"""SSD's augmentation against the words of its scripts: what is drawn how often, where objects go, what is dropped."""

import numpy as np
import pytest

from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.records import size, validate
from jaxseg.data.sets.scenes import scene
from jaxseg.errors import BadInput


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def record():
    found = scene("train", 4, 40, 56)
    return {key: found[key] for key in ("image", "label", "boxes", "classes")}


def test_all_of_it_in_order_makes_a_valid_record_of_the_size(record):
    steps = (T.PhotometricDistort(), T.ZoomOut(), T.IouCrop(), T.ResizeByAny(30, 20), T.RandomFlip())
    for seed in range(30):
        draw, done = rng(seed), record
        for step in steps:
            done = step(done, draw)
        validate({key: value for key, value in done.items() if key != "label"}, where="a scene")
        assert done["image"].shape == (30, 20, 3)
        boxes = done["boxes"][done.get("valid", slice(None))]
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_distortion_of_nothing_but_contrast_scales_values_and_half_of_all_images_stay():
    image = {"image": np.tile(np.arange(1, 201, 8, dtype=np.uint8).reshape(5, 5, 1), 3)}
    only = T.PhotometricDistort(brightness=0, contrast=(0.5, 1.5), saturation=(1, 1), hue=0)
    same, factors = 0, []
    for seed in range(200):
        found = only(image, rng(seed))["image"]
        same += np.array_equal(found, image["image"])
        factors.append(float(found[4, 4, 0]) / 193)
    assert 70 < same < 130
    assert 0.49 < min(factors) < 0.6
    assert max(factors) > 1.2


def test_hue_turns_red_to_yellow_and_grey_stays_grey():
    colours = {"image": np.asarray([[[200, 0, 0], [90, 90, 90]]], np.uint8)}
    turned = T.PhotometricDistort(0, (1, 1), (1, 1), hue=36, p=1.0)
    found = np.stack([turned(colours, rng(seed))["image"][0] for seed in range(50)])
    assert (found[:, 1] == 90).all()
    assert found[:, 0, 0].min() >= 198
    assert found[:, 0, 1:].max() == pytest.approx(120, abs=6), "36 of 60 degrees on the way to yellow or magenta"


def test_zooming_out_places_the_image_and_its_boxes_on_the_mean(record):
    for seed in range(10):
        found = T.ZoomOut(p=1.0)(record, rng(seed))
        shift = (found["boxes"] - record["boxes"])[0]
        x, y = shift[:2].astype(int)
        np.testing.assert_array_equal(shift, [x, y, x, y])
        height, width = size(record)
        np.testing.assert_array_equal(found["image"][y : y + height, x : x + width], record["image"])
        outside = found["image"].astype(int).sum() - record["image"].astype(int).sum()
        assert outside == (np.prod(size(found)) - height * width) * (123 + 117 + 104)
        assert size(found)[0] <= 4 * height
        assert (found["label"] == 255).sum() >= np.prod(size(found)) - height * width
    assert sum(T.ZoomOut()(record, rng(seed)) is record for seed in range(200)) in range(70, 130)


def test_a_patch_overlaps_an_object_by_the_least_and_keeps_those_with_their_centre_inside():
    boxes = np.asarray([[10, 10, 50, 50], [60, 60, 90, 95]], np.float32)
    ramp = np.add.outer(np.arange(100) * 2, np.zeros(100)).astype(np.uint8)
    columns = np.broadcast_to(np.arange(100, dtype=np.uint8), (100, 100))
    record = {"image": np.stack([ramp // 2, columns, columns], -1), "boxes": boxes, "valid": np.ones(2, bool)}
    cropped = 0
    for seed in range(120):
        found = T.IouCrop(overlaps=(0.5,))(record, rng(seed))
        top, left = (int(n) for n in found["image"][0, 0, :2])
        height, width = size(found)
        if (height, width) == (100, 100):
            continue
        cropped += 1
        patch = np.asarray([left, top, left + width, top + height], np.float32)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > patch[:2]) & (centres < patch[2:])).all(1)
        np.testing.assert_array_equal(found["valid"], inside)
        limits = np.tile([width, height], 2)
        np.testing.assert_array_equal(
            found["boxes"][inside], np.clip(boxes - np.tile(patch[:2], 2), 0, limits)[inside].astype(np.float32)
        )
        assert 0.5 <= (width / height) <= 2.0 * 1.1
        assert min(width, height) >= 0.3 * 100 * 0.5**0.5 - 1
    assert 50 < cropped < 110, "a third of the images stays whole"


def test_crowds_count_for_no_overlap_and_what_cannot_be_is_refused():
    record = {"image": np.zeros((9, 9, 3), np.uint8), "boxes": np.asarray([[0, 0, 9, 9]], np.float32)}
    crowd = {**record, "crowd": np.ones(1, bool)}
    assert all(T.IouCrop()(crowd, rng(seed)) is crowd for seed in range(10))
    with pytest.raises(BadInput, match="ratio at least 1"):
        T.ZoomOut(ratio=0.5)
    with pytest.raises(BadInput, match="scale goes"):
        T.IouCrop(scale=(0.0, 1.0))
    with pytest.raises(BadInput, match="give fill as many"):
        T.ZoomOut(p=1.0)({"image": np.zeros((9, 9, 4), np.uint8)}, rng())


def test_a_patch_of_the_whole_image_keeps_the_record_and_says_which_objects_are_in_it():
    boxes = np.asarray([[1, 1, 4, 4]], np.float32)
    record = {"image": np.zeros((9, 9, 3), np.uint8), "boxes": boxes}
    whole = T.IouCrop(overlaps=(), scale=(1.0, 1.0), aspect=(1.0, 1.0))
    found = [whole(record, rng(seed)) for seed in range(20)]
    assert "valid" not in record
    cut = [one for one in found if one is not record]
    assert cut
    assert all(one["valid"].tolist() == [True] for one in cut)
