"""Region proposals: selective search finds what is drawn, files give what they hold, and both move with the image."""

import numpy as np
import pytest

from jaxseg.data.selective_search import selective_search
from jaxseg.data.sets.scenes import scene
from jaxseg.data.transforms import ProposalsFrom, RandomFlip, SelectiveSearch
from jaxseg.data.transforms.objects import overlaps
from jaxseg.errors import BadInput

RNG = np.random.default_rng(0)


def test_most_objects_of_rendered_scenes_are_proposed():
    """The recall that R-CNN lives on: at an overlap of a half."""
    hits = []
    for number in range(6):
        record = scene("train", number, 128, 128)
        found = selective_search(record["image"], scales=(20, 50), min_width=6)
        assert len(found) < 1500
        assert (found >= 0).all()
        assert (found <= 128).all()
        assert len(np.unique(found, axis=0)) == len(found)
        hits += (overlaps(found, record["boxes"]).max(0) >= 0.5).tolist()
    assert np.mean(hits) > 0.8


def test_a_search_is_kept_and_scaled(tmp_path, monkeypatch):
    """Searched at fewer columns, boxes are of the image as it is; the second time nothing is searched."""
    monkeypatch.setenv("JAXSEG_CACHE", str(tmp_path))
    image = np.zeros((80, 120, 3), np.uint8)
    image[20:60, 40:100] = (200, 30, 90)
    search = SelectiveSearch(width=60, min_width=4)
    boxes = search({"image": image}, RNG)["proposals"]
    assert overlaps(boxes, np.asarray([[40.0, 20, 100, 60]])).max() > 0.9
    monkeypatch.setattr(SelectiveSearch, "_search", lambda self, image: pytest.fail("searched again"))
    np.testing.assert_array_equal(search({"image": image.copy()}, RNG)["proposals"], boxes)
    with pytest.raises(pytest.fail.Exception):
        search({"image": image + np.uint8(1)}, RNG)


def test_proposals_move_with_the_image():
    record = {"image": np.zeros((10, 20, 3), np.uint8), "proposals": np.asarray([[1.0, 2, 5, 9]], np.float32)}
    assert RandomFlip(p=1.0)(record, RNG)["proposals"].tolist() == [[15.0, 2.0, 19.0, 9.0]]


def test_a_file_gives_an_image_its_boxes(tmp_path):
    path = tmp_path / "boxes.npz"
    np.savez(path, **{"3": np.asarray([[0, 0, 4, 4], [1, 1, 2, 2]]), "4": np.zeros((2, 5))})
    image = np.zeros((10, 20, 3), np.uint8)
    given = ProposalsFrom(str(path), most=1)({"image": image, "index": np.asarray(3)}, RNG)
    assert given["proposals"].tolist() == [[0.0, 0.0, 4.0, 4.0]]
    for number, told in ((4, r"image 4 are \[2, 5\]"), (5, "none for image 5")):
        with pytest.raises(BadInput, match=told):
            ProposalsFrom(str(path))({"image": image, "index": np.asarray(number)}, RNG)
    with pytest.raises(BadInput, match=r"give an \.npz file"):
        ProposalsFrom(str(tmp_path / "absent.npz"))({"image": image, "index": np.asarray(0)}, RNG)


def test_other_images_are_refused():
    with pytest.raises(BadInput, match="uint8 RGB"):
        selective_search(np.zeros((8, 8), np.uint8))
