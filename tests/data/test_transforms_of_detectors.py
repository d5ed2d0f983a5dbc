"""Multi-scale resizing and large-scale jitter, against the formulas of torchvision, detectron2 and the paper."""

import dataclasses

import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.facts import Facts
from jaxseg.data.records import size, to_batch_row, validate
from jaxseg.data.sets import scenes
from jaxseg.data.sets.scenes import scene
from jaxseg.data.transforms import moves
from jaxseg.errors import BadInput
from jaxseg.inference.load import geometry_of

SHORTS = tuple(range(640, 801, 32))
SIZES = ((480, 640), (640, 427), (333, 500), (100, 1000), (1200, 1600), (800, 800))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def record():
    return scene("train", 4, 40, 56)


def detectron2(height: int, width: int, short: int, long: int) -> tuple[int, int]:
    """``ResizeShortestEdge.get_output_shape``, literally."""
    scale = short * 1.0 / min(height, width)
    new_height, new_width = (short, scale * width) if height < width else (scale * height, short)
    if max(new_height, new_width) > long:
        scale = long * 1.0 / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return int(new_height + 0.5), int(new_width + 0.5)


@pytest.mark.parametrize("short", [600, 800])
def test_the_short_side_is_scaled_as_in_detectron2_and_as_in_torchvision_within_a_pixel(short):
    for height, width in SIZES:
        found = T.ResizeShort(short, 1333).frame(height, width).size
        assert found == detectron2(height, width, short, 1333)
        scale = min(short / min(height, width), 1333 / max(height, width))  # GeneralizedRCNNTransform
        assert np.abs(np.asarray(found) - np.floor([height * scale + 1e-4, width * scale + 1e-4])).max() <= 1


def test_every_short_side_is_drawn_and_no_other():
    label = {"label": np.zeros((48, 64), np.uint8)}
    drawn = [size(T.ResizeShort((10, 20, 40), 48)(label, rng(seed))) for seed in range(200)]
    assert set(drawn) == {(10, 13), (20, 27), (36, 48)}
    assert all(drawn.count(each) > 40 for each in set(drawn))


def test_one_short_side_is_evaluation_geometry_and_several_are_not(record):
    one, several = T.ResizeShort((20,), 100), T.ResizeShort((20, 30), 100)
    assert one.frame(40, 56) == T.ResizeWithin(100, 20).frame(40, 56) == T.ResizeShort(20, 100).frame(40, 56)
    assert size(one(record, rng())) == (20, 28)
    assert geometry_of((one,)) == (one,)
    with pytest.raises(BadInput, match=r"ResizeShort\(short=\(20, 30\), long=100\) draws one of 2 sides"):
        T.frame_of((several,), 40, 56)


@pytest.mark.parametrize("bad", [{"short": ()}, {"short": (0, 3)}, {"long": 0}])
def test_sides_are_positive(bad):
    with pytest.raises(BadInput, match="it needs at least one short side"):
        T.ResizeShort(**bad)


def test_jitter_covers_the_canvas_by_the_square_of_its_scale():
    """Of an image with the canvas's aspect, what is seen is the factor's square of the canvas, up to the whole."""
    label = {"label": np.zeros((30, 40), np.uint8)}
    seen, stream = [], rng()
    for _ in range(1000):
        done = T.LargeScaleJitter((0.1, 2.0), size=(60, 80))(label, stream)["label"]
        assert done.shape == (60, 80)
        inside = done == 0
        height, width = inside.any(1).sum(), inside.any(0).sum()
        assert inside[:height, :width].all()  # the image is at the top left
        assert inside.sum() == height * width
        seen.append(height / 60)
    assert np.mean(np.asarray(seen) == 1) == pytest.approx(1 / 1.9, abs=0.05)  # factors 1 to 2 of 0.1 to 2
    smaller = np.asarray([each for each in seen if each < 1])
    assert smaller.min() < 0.15
    assert np.mean(smaller) == pytest.approx(0.55, abs=0.05)


def test_jitter_with_a_fixed_scale_is_scaling_cropping_and_padding(record):
    jitter = T.LargeScaleJitter((0.5, 0.5), size=(40, 56))
    small = T.Resize(20, 28)(record, rng())
    done = jitter(record, rng())
    expected = T.PadTo(40, 56)(small, rng())
    for key in expected:
        assert np.array_equal(done[key], expected[key]), key
    large = T.LargeScaleJitter((2.0, 2.0), size=(40, 56))(record, rng(1))
    whole = T.Resize(80, 112)(record, rng())["image"]
    places = [
        (y, x) for y in range(41) for x in range(57) if np.array_equal(whole[y : y + 40, x : x + 56], large["image"])
    ]
    assert len(places) == 1


def test_jitter_cuts_anywhere():
    label = {"label": np.arange(16, dtype=np.uint8).reshape(4, 4)}
    jitter = T.LargeScaleJitter((2.0, 2.0), size=(4, 4))
    assert {int(jitter(label, rng(seed))["label"][0, 0]) for seed in range(100)} == {0, 1, 2, 4, 5, 6, 8, 9, 10}


def test_objects_that_jitter_makes_vanish_are_dropped_and_cut_ones_refitted():
    ids = np.zeros((64, 64), np.uint16)
    ids[10:50, 10:50], ids[0, 63] = 1, 2
    boxes = np.asarray([[9.5, 9.5, 50.5, 50.5], [63, 0, 64, 1], [0, 0, 3, 3]], np.float32)
    record = {"image": np.zeros((64, 64, 3), np.uint8), "instance_ids": ids, "boxes": boxes}
    done = T.LargeScaleJitter((0.125, 0.125), size=(64, 64))(record, rng())
    assert done["valid"].tolist() == [True, False, True]  # the third has no mask, hence none to lose
    np.testing.assert_allclose(done["boxes"][0], boxes[0] / 8)
    for seed in range(20):
        cut = T.LargeScaleJitter((2.0, 2.0), size=(64, 64))(record, rng(seed))
        rows, columns = np.nonzero(cut["instance_ids"] == 1)
        tight = np.asarray([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(cut["boxes"][0] - tight).max() <= 1
        validate(to_batch_row(cut, keys=("image", "boxes", "instance_ids"), slots=3), where="cut")


def test_size_and_extent_are_of_what_is_image():
    """Through the pipeline: the part that is not padding, whatever was drawn."""
    tiny = (("size", 32), ("train", 4), ("val", 1))
    jitter = T.LargeScaleJitter((0.25, 1.0), size=(48, 48))
    keys = ("image", "boxes", "instance_ids", "area", "size", "extent", "original_size")
    train = Source("scenes", "train", (T.ResizeShort((24, 32), 64), jitter), tiny)
    data = Data(train=train, val=Source("scenes", "val", (), tiny), keys=keys)
    batches = data.train_batches(batch_size=4, seed=0)
    batch = next(batches)
    batches.close()
    assert len({tuple(row) for row in batch["size"].tolist()}) > 1
    for row in range(4):
        height, width = batch["size"][row]
        assert batch["extent"][row].tolist() == [0, 0, width, height]
        image = batch["image"][row]
        assert image[:height, :width].any(-1).mean() > 0.99
        assert not image[height:].any()
        assert not image[:, width:].any()
    assert (batch["original_size"] == 32).all()


def test_left_and_right_joints_are_paired_by_name():
    joints = ("nose", "left_eye", "right_eye", "right_wrist", "left_wrist", "left_tail")
    facts = Facts("people", "", (), (), {}, joints=joints)
    assert facts.joint_pairs == ((1, 2), (4, 3))
    points = np.arange(18, dtype=np.float32).reshape(1, 6, 3) * [1, 1, 0] + [0, 0, 2]
    record = {"image": np.zeros((20, 20, 3), np.uint8), "keypoints": points}
    flipped = T.RandomFlip(1.0, swap=facts.joint_pairs)(record, rng())["keypoints"]
    assert flipped[0, :, 0].tolist() == [20, 14, 17, 8, 11, 5]
    with pytest.raises(BadInput, match=r"swap=\(0, 6\) of a flip, but there are 6 joints"):
        T.RandomFlip(1.0, swap=((0, 6),))(record, rng())


@pytest.mark.parametrize("mirrors", [T.RandomFlip(), T.RandomRotate90()])
def test_a_flip_that_would_exchange_left_and_right_is_refused(mirrors, monkeypatch):
    tiny = (("size", 32), ("train", 4), ("val", 1))
    facts = dataclasses.replace(scenes.FACTS, joints=("left_end", "right_end", "middle"))
    monkeypatch.setattr(scenes.Builder, "FACTS", facts)

    def batches(transform, *keys):
        source = Source("scenes", "train", (transform,), tiny)
        return Data(train=source, val=source, keys=("image", *keys)).train_batches(batch_size=1, seed=0)

    with pytest.raises(BadInput, match=r"'scenes' has left and right joints.*RandomFlip\(swap=\(\(0, 1\),\)\) does"):
        batches(mirrors, "keypoints")
    batches(T.RandomFlip(swap=facts.joint_pairs), "keypoints").close()
    batches(mirrors, "boxes").close()


def test_an_object_that_had_no_pixels_is_not_lost():
    boxes = np.asarray([[0, 0, 2, 2]], np.float32)
    record = {"boxes": boxes, "instance_ids": np.zeros((2, 2), np.uint16)}
    assert moves.hide_lost(record, record)["valid"].tolist() == [True]
    assert "valid" not in moves.hide_lost({"boxes": boxes}, {"boxes": boxes})
