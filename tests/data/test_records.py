"""What a record must be, and what is said when it is not."""

import numpy as np
import pytest

from jaxseg.data import records
from jaxseg.errors import BadInput
from jaxseg.types import BATCH


def record() -> records.Record:
    return {
        "image": np.zeros((4, 6, 3), np.uint8),
        "label": np.ones((4, 6), np.int32),
        "boxes": np.asarray([[0, 1, 3, 4]], np.float32),
        "classes": np.asarray([2], np.int32),
        "valid": np.asarray([True]),
        "instance_ids": np.eye(4, 6, dtype=np.uint16),
        "keypoints": np.asarray([[[1, 2, 2], [0, 0, 0]]], np.float32),
        "normal": np.broadcast_to(np.asarray([0, 0, -1], np.float32), (4, 6, 3)),
        "depth": np.ones((4, 6), np.float32),
    }


def test_a_good_record_passes():
    records.validate(record(), where="x", limits={"classes": 3, "things": 3, "c": 3})


FAULTS = {
    "range": ("label", np.full((4, 6), 7, np.int32), "value 7 is neither a class (0..2) nor void (255)"),
    "dtype": ("label", np.zeros((4, 6), np.int64), "int32 belongs there"),
    "axes": ("image", np.zeros((4, 6), np.uint8), "its axes are [h w c]"),
    "channels": ("image", np.zeros((4, 6, 1), np.uint8), "axis 'c' should be 3"),
    "size": ("label", np.zeros((4, 5), np.int32), "axis 'w' should be 6"),
    "box": ("boxes", np.asarray([[3, 1, 3, 4]], np.float32), "x0 < x1"),
    "outside": ("boxes", np.asarray([[0, 1, 7, 4]], np.float32), "4 high and 6 wide"),
    "class": ("classes", np.asarray([3], np.int32), "classes are 0..2"),
    "visibility": ("keypoints", np.asarray([[[1, 2, 3], [0, 0, 0]]], np.float32), "visibility"),
    "unit": ("normal", np.ones((4, 6, 3), np.float32), "unit length"),
    "negative": ("depth", -np.ones((4, 6), np.float32), "negative"),
    "nan": ("depth", np.full((4, 6), np.nan, np.float32), "finite"),
    "id": ("instance_ids", np.full((4, 6), 2, np.uint16), "1 object slots"),
    "key": ("colour", np.zeros(3), "not a key of a batch"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_example_key_and_rule(fault):
    key, array, rule = FAULTS[fault]
    with pytest.raises(BadInput) as caught:
        records.validate({**record(), key: array}, where="camvid/train[17]", limits={"classes": 3, "things": 3, "c": 3})
    message = str(caught.value)
    assert message.startswith("camvid/train[17]: ")
    assert repr(key) in message
    assert rule in message
    assert "\n" not in message


def test_the_message_shows_dtype_shape_and_range():
    label = np.ones((4, 6), np.int32)
    label[0, 0] = 7
    with pytest.raises(BadInput, match=r"'label' is int32\[4 6\], 1\.\.7"):
        records.validate({"label": label}, where="x", limits={"classes": 3, "things": 3, "c": 3})


def test_void_is_a_label_and_normals_may_be_unknown():
    fine = record() | {"label": np.full((4, 6), 255, np.int32), "normal": np.zeros((4, 6, 3), np.float32)}
    records.validate(
        fine | {"normal_valid": np.zeros((4, 6), bool)}, where="x", limits={"classes": 3, "things": 3, "c": 3}
    )


def test_finish_selects_casts_and_pads_to_slots():
    raw = record() | {"label": np.ones((4, 6), np.uint8)}
    del raw["valid"]
    done = records.to_batch_row(raw, keys=("image", "label", "boxes", "valid", "crowd", "keypoints"), slots=3)
    assert list(done) == ["image", "label", "boxes", "valid", "crowd", "keypoints"]
    assert all(array.dtype == np.dtype(BATCH[key].dtypes[0]) for key, array in done.items())
    assert done["boxes"].tolist() == [[0, 1, 3, 4], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert done["valid"].tolist() == [True, False, False]
    assert done["crowd"].tolist() == [False, False, False]
    assert done["keypoints"].shape == (3, 2, 3)
    records.validate(done, where="x")


def test_finish_names_what_is_absent():
    with pytest.raises(BadInput, match="a record has no 'saliency'"):
        records.to_batch_row(record(), keys=("saliency",), slots=3)


def test_what_a_record_does_not_say_of_its_objects_has_defaults():
    done = records.to_batch_row(record(), keys=("difficult", "area", "hidden_ids", "crowd"), slots=2)
    assert done["difficult"].tolist() == done["crowd"].tolist() == [False, False]
    assert done["area"].tolist() == [4, 0], "of the mask"
    assert done["hidden_ids"].dtype == np.uint16
    assert not done["hidden_ids"].any()
    bare = {key: value for key, value in record().items() if key != "instance_ids"}
    assert records.to_batch_row(bare, keys=("area",), slots=2)["area"].tolist() == [9, 0], "of the box"


def test_masks_as_text_are_padded_and_too_long_ones_named():
    raw = record() | {"rle": np.frombuffer(b"0123", np.uint8)}
    assert records.to_batch_row(raw, keys=("rle",), slots=2, rle_bytes=6)["rle"].tobytes() == b"0123\0\0"
    with pytest.raises(BadInput, match=r"x\[1\] has 4 bytes of 'rle' but rle_bytes=3; set Data.rle_bytes to 4 or more"):
        records.to_batch_row(raw, keys=("rle",), slots=2, rle_bytes=3, where="x[1]")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_value(shape, dtype):
    if dtype == np.uint16 and len(shape) == 3:
        pytest.skip("no 16-bit RGB in this format")
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)
    back = records.decode_image(records.encode_png(array))
    assert back.dtype == dtype
    assert np.array_equal(back, array)


def test_a_labelled_record_without_weights_weighs_one_everywhere():
    labelled = {"image": np.zeros((2, 3, 3), np.uint8), "label": np.zeros((2, 3), np.int32)}
    done = records.to_batch_row(labelled, keys=("label", "weight"), slots=1)
    np.testing.assert_array_equal(done["weight"], np.ones((2, 3), np.float32))
    given = records.to_batch_row({**labelled, "weight": np.full((2, 3), 0.5, np.float32)}, keys=("weight",), slots=1)
    np.testing.assert_array_equal(given["weight"], np.full((2, 3), 0.5, np.float32))
