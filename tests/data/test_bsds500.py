"""BSDS500 from a miniature folder in Berkeley's layout, packed and not, and from the real one."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxseg.data import sets
from jaxseg.data.sets import bsds500
from jaxseg.errors import BadInput
from tests.shared_data import shared_data

DRAWN = np.random.default_rng(0).random((4, 5, 9)) < 0.5


def photograph(folder, split, name):
    path = folder / "images" / split / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((5, 9, 3), 100, np.uint8)).save(path)


def matlab(folder, split, name):
    path = folder / "groundTruth" / split / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    people = np.empty((1, len(DRAWN)), object)
    for i, mask in enumerate(DRAWN):
        people[0, i] = {"Segmentation": np.ones((5, 9), np.uint16), "Boundaries": mask.astype(np.uint8)}
    savemat(path, {"groundTruth": people})


def packed(folder, split, name):
    path = folder / "gt" / split / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, boundaries=np.packbits(DRAWN, axis=-1), shape=np.asarray(DRAWN.shape, np.int32))


@pytest.mark.parametrize("write", [matlab, packed])
def test_each_annotator_has_a_bit_and_three_make_a_boundary(tmp_path, write):
    source = tmp_path / "BSDS500" / "data"
    photograph(source, "val", "3096")
    write(source, "val", "3096")
    sets.prepare("bsds500", source=tmp_path, data_dir=tmp_path / "out")
    (record,) = sets.open_split("bsds500", "val", data_dir=tmp_path / "out")
    assert record["image"].shape == (5, 9, 3)
    for bit, mask in enumerate(DRAWN):
        np.testing.assert_array_equal(record["boundary_marks"] >> bit & 1, mask)
    np.testing.assert_array_equal(record["boundary"], DRAWN.sum(0) >= 3)


def test_what_is_absent_or_damaged_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"there is no folder .*images; BSDS500/data of Berkeley"):
        sets.prepare("bsds500", source=tmp_path, data_dir=tmp_path / "out")
    photograph(tmp_path, "val", "1")
    with pytest.raises(BadInput, match=r"neither .*groundTruth/val/1.mat nor .*gt/val/1.npz"):
        sets.prepare("bsds500", source=tmp_path, data_dir=tmp_path / "out")
    (tmp_path / "gt" / "val").mkdir(parents=True)
    np.savez(tmp_path / "gt" / "val" / "1.npz", boundaries=np.zeros((1, 5, 1), np.uint8), shape=np.asarray([2, 5, 9]))
    with pytest.raises(BadInput, match=r"1\.npz is damaged or holds no boundaries"):
        bsds500.read_boundaries(tmp_path, "val", "1")


def test_the_real_ones_are_drawn_by_several_people():
    root = shared_data("bsds500")
    names = sorted(path.stem for path in (root / "images" / "val").glob("*.jpg"))
    assert len(names) == 100
    drawn = bsds500.read_boundaries(root, "val", names[0])
    assert 4 <= len(drawn) <= 9
    assert sorted(drawn.shape[1:]) == [321, 481]
    assert 0.005 < drawn.mean() < 0.05
