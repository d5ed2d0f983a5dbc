"""One table says how each key behaves: what was listed apart before follows from its rows."""

import numpy as np
import pytest

from jaxseg import types
from jaxseg.errors import BadInput
from jaxseg.types import BATCH, OUTPUTS, PREDICTIONS, VOID, beside, closure, key_of, mesh_axes


def test_maps_and_what_fills_them_outside_the_image():
    fills = {name: row.fill for name, row in BATCH.items() if row.is_map}
    assert fills == {
        "image": 0,
        "label": VOID,
        "weight": 0.0,
        "instance_ids": 0,
        "hidden_ids": 0,
        "panoptic": (VOID, 0),
        "depth": 0.0,
        "depth_valid": False,
        "normal": 0.0,
        "normal_valid": False,
        "boundary": False,
        "boundary_marks": 0,
        "saliency": False,
        "hints": 0.0,
        "hint_valid": False,
    }


@pytest.mark.parametrize("table", [BATCH, PREDICTIONS], ids=["batch", "predictions"])
def test_every_map_has_a_fill_and_nothing_else_has(table):
    assert {name for name, row in table.items() if row.is_map} == {n for n, r in table.items() if r.fill is not None}


def test_masks_are_keys_of_their_table_and_bool():
    for table in (BATCH, OUTPUTS, PREDICTIONS):
        for row in table.values():
            if row.mask:
                assert table[row.mask].dtype == "bool"
                assert row.letters[: len(table[row.mask].letters)] == table[row.mask].letters
    owners = {name: row.mask for name, row in BATCH.items() if row.mask}
    assert owners == {
        **dict.fromkeys(("boxes", "classes", "crowd", "keypoints"), "valid"),
        "depth": "depth_valid",
        "normal": "normal_valid",
        "hints": "hint_valid",
        "proposals": "proposal_valid",
        "difficult": "valid",
        "area": "valid",
    }


def test_needs_are_read_with_a_key():
    assert {"label", "instance_ids", "boxes", "valid", "crowd"} <= set(closure(["panoptic"]))
    assert {"boxes", "valid", "crowd", "instance_ids"} <= set(closure(["keypoints"]))
    assert closure(["weight"]) == ("label", "weight")
    assert set(closure(["parts/weight"])) == {"parts/weight", "parts/label", "weight", "label"}
    assert all(name in BATCH for row in BATCH.values() for name in row.needs)


def test_rows_and_columns_are_spread_by_their_letters():
    assert mesh_axes("image") == ("data", "h", None, None)
    assert mesh_axes("keypoints") == ("data", None, None, None)  # four axes, and none of them is an image's
    assert mesh_axes("parts/label") == ("data", "h", None)
    assert mesh_axes("real") == ("data",)
    assert mesh_axes("of a task of one's own") == ("data",)


def test_a_prefixed_key_behaves_as_the_bare_one_and_a_wrong_one_is_named():
    assert key_of(PREDICTIONS, "parts/depth") is PREDICTIONS["depth"]
    assert beside("parts/boxes", "valid") == "parts/valid"
    with pytest.raises(BadInput, match="'parts/labels' is not a key; did you mean 'label'"):
        key_of(BATCH, "parts/labels")


def test_dtypes_are_numpys_and_bounds_are_known():
    for table in (BATCH, OUTPUTS, PREDICTIONS):
        for row in table.values():
            assert all(np.dtype(dtype).name == dtype for dtype in row.dtypes)
            assert row.bound is None or row.bound in types.Bound.__args__
    assert BATCH["image"].dtypes == ("uint8", "uint16", "float32")


def test_predictions_name_every_kind():
    assert list(PREDICTIONS) == [
        *("label", "probability", "variance", "boxes", "scores", "classes", "valid", "masks", "keypoints"),
        *("instance_ids", "panoptic", "depth", "inverse_depth", "normal", "boundary", "saliency", "ab"),
        "image",
    ]
