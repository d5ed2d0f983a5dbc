"""Folders of images with depth: layouts, units, holes, and files that are no depth, each with one clear line."""

import numpy as np
import pytest

from jaxseg.data import Data, Source, sets
from jaxseg.data.check import check
from jaxseg.data.depth_files import read_depth, read_normal
from jaxseg.errors import BadInput
from tests.data.folder_trees import picture, write

METRES = np.asarray([[1.0, 2.0, 0.0, 4.0], [1.5, 2.5, 3.5, 0.0]], np.float32)
MILLIMETRES = (1000 * METRES).astype(np.uint16)
KITTI = (256 * METRES).astype(np.uint16)
DOWN = np.broadcast_to(np.asarray([0.6, 0.0, -0.8], np.float32), (2, 4, 3))
DRIVE = "2011_09_26_drive_0001_sync"

LAYOUTS = {
    "folders": (
        {"images/a.png": None, "depth/a.png": MILLIMETRES, "images/b.png": None, "depth/b.png": MILLIMETRES},
        {"train": 1, "val": 1},
    ),
    "splits above": (
        {f"{split}/rgb/a_{split}.jpg": None for split in ("train", "val")}
        | {f"{split}/depths/a_{split}.npy": METRES for split in ("train", "val")},
        {"train": 1, "val": 1},
    ),
    "7-Scenes": (
        {f"frame-{i:06d}.color.jpg": None for i in range(3)}
        | {f"frame-{i:06d}.depth.png": MILLIMETRES for i in range(3)},
        {"train": 2, "val": 1},
    ),
    "DIODE": (
        {
            f"{split}/indoors/scene_00000/scan_00000/00000_{end}": array
            for split in ("train", "val")
            for end, array in (
                ("1.png", None),
                ("1_depth.npy", np.where(METRES > 0, METRES, np.nan)[..., None]),
                ("1_depth_mask.npy", (METRES > 0).astype(np.float32)),
                ("1_normal.npy", DOWN),
            )
        },
        {"train": 1, "val": 1},
    ),
    "KITTI": (
        {f"2011_09_26/{DRIVE}/image_0{c}/data/{i:010d}.png": None for c in (2, 3) for i in range(2)}
        | {f"{s}/{DRIVE}/proj_depth/groundtruth/image_0{c}/{1:010d}.png": KITTI for s, c in (("train", 2), ("val", 3))},
        {"train": 1, "val": 1},
    ),
    "KITTI's selection": (
        {f"{part}/d_sync_{kind}_0000000005_image_0{c}.png": array for c in (2, 3) for part, kind, array in (
            ("image", "image", None), ("groundtruth_depth", "groundtruth_depth", KITTI))},
        {"train": 1, "val": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_give_metres_and_where_they_are_known(layout, tmp_path):
    files, splits = LAYOUTS[layout]
    for seed, (path, array) in enumerate(files.items()):
        write(tmp_path / path, picture(seed, (2, 4, 3)) if array is None else array)
    name = f"folder:{tmp_path}"
    facts = sets.facts(name)
    assert facts.splits == splits
    assert {"image", "depth", "depth_valid"} <= set(facts.keys)
    for split in splits:
        record = sets.open_split(name, split)[0]
        np.testing.assert_allclose(record["depth"], METRES, rtol=1e-6)
        np.testing.assert_array_equal(record["depth_valid"], METRES > 0)
        assert record["image"].shape == (2, 4, 3)
        if layout == "DIODE":
            np.testing.assert_allclose(record["normal"], DOWN, atol=1e-6)


def folder(root, depth, **extra):
    for name in ("a", "b"):
        write(root / f"images/{name}.png", picture(0, (2, 4, 3)))
        write(root / f"depth/{name}.npy", depth)
    for path, array in extra.items():
        write(root / path, array)
    return f"folder:{root}"


def test_batches_have_holes_and_a_prepared_copy_gives_the_same(tmp_path):
    name = folder(tmp_path / "rooms", METRES)
    data = Data(train=Source(name, "train"), val=Source(name, "val"), keys=("image", "depth"))
    (direct,) = data.eval_batches(batch_size=1, data_dir=tmp_path)
    sets.prepare(name, data_dir=tmp_path)
    (prepared,) = data.eval_batches(batch_size=1, data_dir=tmp_path)
    assert set(direct) == {"image", "depth", "depth_valid", "real"}
    for key, value in direct.items():
        np.testing.assert_array_equal(prepared[key], value)
    np.testing.assert_array_equal(direct["depth_valid"][0], METRES > 0)


def test_a_check_looks_at_depth_as_training_does(tmp_path):
    name = folder(tmp_path, METRES)
    checked = check(name)
    assert (checked.problems, checked.values) == ((), {})
    assert not any("mask" in line or "label" in line for line in checked.warnings)
    write(tmp_path / "depth/a.npy", 1000 * METRES)
    (problem,) = check(name).problems
    assert "unit=mm" in problem


@pytest.mark.parametrize(
    ("array", "unit", "message"),
    [
        (1000 * METRES, None, r"half of its depths are 2250 m or more.* say --option unit=mm"),
        (MILLIMETRES, "m", r"2250 m or more.* say --option unit=mm"),
        (METRES.astype(np.uint16), None, r"0.002 m or more.* say --option unit=m$"),
        (np.where(METRES > 0, METRES, np.nan), None, "2 values that are NaN or infinite; write 0"),
        (METRES - 0.5, None, "negative depth, down to -0.5"),
        (0 * METRES, None, "no pixel of known depth"),
        (METRES.astype(np.uint8), None, "8 bits: a picture of depth"),
        (np.stack([METRES] * 3, -1), None, "3 bands; a depth map has one number"),
        (METRES, "feet", "option unit is 'feet'; it is one of m, cm, mm, kitti"),
    ],
)
def test_files_that_are_no_depth_are_refused_with_one_line(array, unit, message, tmp_path):
    path = write(tmp_path / "a.npy", array)
    with pytest.raises(BadInput, match=message) as caught:
        read_depth(path, unit)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or unit == "feet"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (0.5 * DOWN, r"length 0.5 \(row 0, column 0\)"),
        (0 * DOWN, "no known normal"),
        (np.full_like(DOWN, np.nan), "NaN or infinite"),
        (METRES, "normals are floats x, y, z"),
    ],
)
def test_files_that_are_no_normals_are_refused_with_one_line(array, message, tmp_path):
    with pytest.raises(BadInput, match=message):
        read_normal(write(tmp_path / "a.npy", array))


def test_folders_that_do_not_fit_are_refused_by_name(tmp_path):
    write(tmp_path / "one/images/c.png", picture(0, (2, 4, 3)))
    with pytest.raises(BadInput, match=r"images/c.png has no depth; .*skip_missing=True"):
        sets.facts(folder(tmp_path / "one", METRES))
    write(tmp_path / "two/depth/c.npy", METRES)
    with pytest.raises(BadInput, match=r"c.npy is depth of no image"):
        sets.facts(folder(tmp_path / "two", METRES))
    name = folder(tmp_path / "three", METRES[:1])
    with pytest.raises(BadInput, match=r"is 4x2 but its label is 4x1 .*depth/.*npy"):
        sets.open_split(name, "train")[0]


def test_masks_of_classes_beside_depth_are_read_as_before(tmp_path):
    name = folder(tmp_path, METRES)
    for part in ("a", "b"):
        write(tmp_path / f"masks/{part}.png", np.asarray([[0, 1, 1, 0]] * 2, np.uint8))
    assert sets.facts(name).keys == ("image", "label")
