"""NYU Depth v2 from small files of the published layouts."""

import numpy as np
import pytest
from scipy.io import savemat

from jaxseg.data import sets
from jaxseg.errors import BadInput
from jaxseg.types import VOID

h5py = pytest.importorskip("h5py", reason="the published files are HDF5 (extra 'nyu')")


@pytest.fixture
def labelled(tmp_path):
    """Three images of 6 rows and 8 columns; MATLAB counts the columns first, and images from 1."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rng.integers(0, 256, (3, 3, 8, 6)).astype(np.uint8)
        file["depths"] = np.full((3, 8, 6), 2.0, np.float32)
        file["rawDepths"] = rng.integers(0, 2, (3, 8, 6)).astype(np.float32)
        file["labels"] = rng.integers(0, 4, (3, 8, 6)).astype(np.uint16)
        stored = {name: np.asarray(file[name]) for name in file}
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.asarray([[3], [1]]), "testNdxs": np.asarray([[2]])})
    savemat(tmp_path / "classMapping40.mat", {"mapClass": np.asarray([[40, 1, 2]])})
    return tmp_path, stored


def test_the_labelled_images_have_the_official_splits(labelled, tmp_path):
    source, stored = labelled
    options = (("normals", True),)
    sets.prepare("nyuv2", source=source, data_dir=tmp_path / "data", options=options)
    train = sets.open_split("nyuv2", "train", data_dir=tmp_path / "data", options=options)
    assert len(train) == 2
    record = train[0]
    np.testing.assert_array_equal(record["image"], stored["images"][2].transpose(2, 1, 0))
    np.testing.assert_array_equal(record["depth_valid"], stored["rawDepths"][2].T > 0)
    table = np.asarray([VOID, 39, 0, 1])
    np.testing.assert_array_equal(record["label"], table[stored["labels"][2].T])
    np.testing.assert_allclose(record["normal"], np.broadcast_to([0.0, 0.0, -1.0], (6, 8, 3)), atol=1e-4)
    assert record["normal_valid"].all()
    plain = sets.facts("nyuv2")
    assert "normal" not in plain.keys
    assert plain.splits == {"train": 795, "test": 654}


def test_labels_are_void_without_the_table_of_classes(labelled, tmp_path):
    source, _ = labelled
    (source / "classMapping40.mat").unlink()
    sets.prepare("nyuv2", source=source, data_dir=tmp_path / "data")
    record = sets.open_split("nyuv2", "test", data_dir=tmp_path / "data")[0]
    assert (record["label"] == VOID).all()
    assert "normal" not in record


def test_raw_frames_know_where_depth_is(tmp_path):
    for split, scene in (("train", "kitchen_0001"), ("val", "official")):
        (tmp_path / split / scene).mkdir(parents=True)
        with h5py.File(tmp_path / split / scene / "00001.h5", "w") as file:
            file["rgb"] = np.arange(3 * 4 * 6, dtype=np.uint8).reshape(3, 4, 6)
            file["depth"] = np.asarray([[0.0, 1.5, np.nan, 2.0, 3.0, 4.0]] * 4, np.float32)
    sets.prepare("nyu_depth_v2", source=tmp_path, data_dir=tmp_path / "data")
    record = sets.open_split("nyu_depth_v2", "val", data_dir=tmp_path / "data")[0]
    assert record["image"][0, 1].tolist() == [1, 25, 49]
    assert record["depth_valid"][0].tolist() == [False, True, False, True, True, True]
    assert record["depth"][0].tolist() == [0.0, 1.5, 0.0, 2.0, 3.0, 4.0]


def test_sources_that_are_not_whole_are_refused(labelled, tmp_path):
    source, _ = labelled
    (source / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(BadInput, match="cannot be read as HDF5"):
        sets.prepare("nyuv2", source=source, data_dir=tmp_path / "data")
    with pytest.raises(BadInput, match="no h5 file in"):
        sets.prepare("nyu_depth_v2", source=source, data_dir=tmp_path / "data")
