"""Objects in a fixed number of slots: valid ones first, the largest kept, everything of theirs along."""

import warnings

import numpy as np
import pytest

from jaxseg.data import records, slots
from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.types import VOID


def masks() -> np.ndarray:
    """Four objects of 8x8: large, one inside it, one across both, and one that no longer is there."""
    found = np.zeros((4, 8, 8), bool)
    found[0, :6, :6] = True
    found[1, 1:3, 1:3] = True
    found[2, 3:8, 3:7] = True
    return found


def record() -> records.Record:
    """The smaller object is in front."""
    front, behind = np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint16)
    for slot in (0, 2, 1):
        behind[masks()[slot]] = front[masks()[slot]]
        front[masks()[slot]] = slot + 1
    label = np.where(front > 0, 1, 0)
    return {
        "boxes": np.asarray([[0, 0, 6, 6], [1, 1, 3, 3], [3, 3, 7, 8], [0, 0, 0, 0]], np.float32),
        "valid": np.asarray([True, True, True, False]),
        "classes": np.asarray([10, 11, 12, 13], np.int32),
        "area": np.asarray([36, 4, 20, 0], np.float32),
        "keypoints": np.arange(4, dtype=np.float32)[:, None, None] * np.ones((4, 2, 3), np.float32),
        "instance_ids": front,
        "hidden_ids": behind,
        "panoptic": np.stack([label, front], -1).astype(np.int32),
        "rle": slots.text_of([rle.to_string(rle.encode(mask)) for mask in masks()]),
    }


def mask_of(fitted: records.Record, slot: int) -> np.ndarray:
    return (fitted["instance_ids"] == slot + 1) | (fitted["hidden_ids"] == slot + 1)


def quiet(record: records.Record, count: int, where: str = "x[0]") -> records.Record:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return slots.fit_slots(record, count, where=where)


@pytest.mark.parametrize("gone", range(4))
def test_valid_objects_come_first_and_everything_follows(gone):
    given = record()
    given["valid"] = np.arange(4) != gone
    left = [slot for slot in range(4) if slot != gone]
    fitted = slots.fit_slots(given, 4)
    assert fitted["classes"].tolist() == [10 + slot for slot in left]
    assert fitted["area"].tolist() == record()["area"][left].tolist()
    assert fitted["keypoints"][:, 0, 0].tolist() == left
    assert fitted["valid"].all()
    for new, old in enumerate(left):
        line = slots.lines_of_text(fitted["rle"], 3)[new]
        assert np.array_equal(rle.decode(rle.from_string(line, 8, 8)), masks()[old])
        pixels = mask_of(fitted, new)
        assert (pixels <= masks()[old]).all()
        assert (mask_of(given, old) <= pixels).all(), "what lay behind a lost object is seen now"


def test_of_too_many_the_smallest_are_dropped_and_what_is_behind_them_is_seen():
    fitted = quiet(record(), 2)
    assert fitted["classes"].tolist() == [10, 12]
    assert np.array_equal(mask_of(fitted, 0), masks()[0])
    assert np.array_equal(mask_of(fitted, 1), masks()[2])
    assert np.array_equal(fitted["instance_ids"] > 0, masks()[[0, 2]].any(0)), "nothing is behind nothing"
    ids = fitted["panoptic"][..., 1]
    assert np.array_equal(ids == 1, record()["panoptic"][..., 1] == 1)
    assert np.array_equal(ids == 2, record()["panoptic"][..., 1] == 3)
    assert np.array_equal(ids > 2, record()["panoptic"][..., 1] == 2), "the segment is still there"


@pytest.mark.parametrize("lesser", ["crowd", "difficult"])
def test_crowds_and_difficult_objects_go_before_others(lesser):
    given = record() | {lesser: np.asarray([True, False, False, False])}
    fitted = quiet(given, 2)
    assert fitted["classes"].tolist() == [11, 12]
    assert not fitted[lesser].any()
    if lesser == "crowd":
        assert np.array_equal(fitted["panoptic"][..., 0] == VOID, record()["panoptic"][..., 1] == 1)


def test_equal_objects_are_kept_in_order():
    given = {"boxes": np.tile(np.asarray([0, 0, 2, 2], np.float32), (5, 1)), "classes": np.arange(5)}
    assert quiet(given, 3)["classes"].tolist() == [0, 1, 2]


def test_drops_are_counted_and_warned_of_once_for_each_split():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        slots.fit_slots(record(), 1, where="pets/train[7]")
        slots.fit_slots(record(), 2, where="pets/train[8]")
    assert len(said) == 1
    assert "pets/train[7] has 3 objects but slots=1" in str(said[0].message)
    assert "set Data.slots to 3 or more" in str(said[0].message)
    assert slots.dropped()["pets/train"] == 3
    with pytest.warns(UserWarning, match=r"pets/val"):
        slots.fit_slots(record(), 1, where="pets/val[7]")


def test_enough_slots_change_nothing():
    given = record()
    given["valid"] = np.ones(4, bool)
    fitted = slots.fit_slots(given, 4)
    assert all(fitted[key] is given[key] for key in given)


def test_keys_that_do_not_fit_the_boxes_are_named():
    with pytest.raises(BadInput, match=r"y\[3\]: 'classes' has 2 rows for 4 boxes"):
        records.to_batch_row(record() | {"classes": np.zeros(2)}, keys=("classes",), slots=3, where="y[3]")
    with pytest.raises(BadInput, match="'rle' has 5 lines for 4 objects"):
        slots.fit_slots(record() | {"rle": slots.text_of(["1"] * 5)}, 3)


def test_an_id_that_no_object_has_is_still_found():
    given = record()
    given["instance_ids"] = np.where(given["instance_ids"] == 3, 9, given["instance_ids"]).astype(np.uint16)
    done = records.to_batch_row(given, keys=("boxes", "instance_ids"), slots=4)
    with pytest.raises(BadInput, match="but there are 4 object slots"):
        records.validate(done, where="x")


def test_masks_become_text_and_their_areas_count_hidden_pixels():
    made = slots.lines_of_text(slots.masks_as_text(record()), 4)
    for slot in (1, 2):
        assert np.array_equal(rle.decode(rle.from_string(made[slot], 8, 8)), mask_of(record(), slot))
    assert made[3] == ""
    assert slots.areas(record()).tolist() == [float(mask_of(record(), slot).sum()) for slot in range(3)] + [0]
