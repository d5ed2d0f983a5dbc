"""What is wrong with annotations in COCO's format is named with file and id: refused, or dropped and counted."""

import pytest

from jaxseg.data import sets
from jaxseg.errors import BadInput
from tests.data.coco_trees import (
    OBJECTS,
    SIZE,
    annotation,
    mask_of,
    notes,
    opened,
    panoptic_tree,
    person_keypoints,
    rewrite,
    square,
    write_images,
    write_json,
)


@pytest.fixture
def tree(tmp_path):
    write_images(tmp_path / "train2017")
    write_json(tmp_path / "annotations" / "instances_train2017.json", OBJECTS)
    return tmp_path


DROPPED = {
    "a box that is not a number": ({"bbox": [1, float("nan"), 2, 2]}, "their boxes are not finite"),
    "a box without area": ({"bbox": [1, 1, 0, 2]}, "their boxes have no area"),
    "a box outside": ({"bbox": [12, 1, 3, 2]}, "their boxes lie outside the image"),
    "half a box": ({"bbox": [1, 1, 3]}, "their boxes are not x, y, width, height"),
    "nothing": ({"bbox": None, "segmentation": []}, "they have neither a box nor a mask"),
    "a broken mask": ({"segmentation": {"size": list(SIZE), "counts": "_b"}}, "their masks are broken"),
    "a mask of another size": ({"segmentation": {"size": [9, 9], "counts": [81]}}, "their masks are broken"),
    "a polygon of two points": ({"segmentation": [[1, 1, 4, 4]]}, "their polygons have less than three points"),
}


@pytest.mark.parametrize("fault", DROPPED)
def test_an_object_that_cannot_be_used_is_dropped_counted_and_named(tree, fault):
    change, reason = DROPPED[fault]
    rows = [*OBJECTS[:1], annotation(99, 10, 18, **change), annotation(100, 11, 18, **change)]
    write_json(tree / "annotations" / "instances_train2017.json", rows)
    first = opened(tree)[0]
    assert first["classes"].tolist() == [0]
    (said,) = [note for note in notes(tree) if reason in note]
    assert said.startswith("objects dropped, ")
    assert "instances_train2017.json annotation 99" in said
    assert "annotation 100" in said


def test_a_short_polygon_beside_good_ones_is_left_out(tree):
    rows = [annotation(99, 10, 18, segmentation=[*square(1, 2, 4, 3), [1, 1, 2, 2]])]
    write_json(tree / "annotations" / "instances_train2017.json", rows)
    assert mask_of(opened(tree)[0], 0).sum() == 12
    assert any(
        "polygons of less than three points, left out: instances_train2017.json annotation 99" in n for n in notes(tree)
    )


def test_a_box_that_passes_the_edge_is_cut_there(tree):
    write_json(tree / "annotations" / "instances_train2017.json", [annotation(99, 10, 18, bbox=[9, 5, 8, 3.5])])
    assert opened(tree)[0]["boxes"].tolist() == [[9, 5, 12, 8]]
    assert any("boxes cut at the edge" in note and "annotation 99" in note for note in notes(tree))


def test_an_object_without_a_mask_among_others_is_named(tree):
    rows = [*OBJECTS, annotation(99, 12, 18, segmentation=[])]
    write_json(tree / "annotations" / "instances_train2017.json", rows)
    third = opened(tree)[2]
    assert not mask_of(third, 1).any()
    assert any("objects without a mask: instances_train2017.json annotation 99" in note for note in notes(tree))


def repeat_image(content):
    content["images"][2]["id"] = 10


def repeat_annotation(content):
    content["annotations"][1]["id"] = 1


REFUSED = {
    "image twice": (repeat_image, r"instances_train2017\.json: image id 10 occurs twice"),
    "annotation twice": (repeat_annotation, r"instances_train2017\.json: annotation id 1 occurs twice"),
    "category twice": (lambda c: c["categories"][1].update(id=1), r"json: category id 1 occurs twice"),
    "unknown image": (
        lambda c: c["annotations"][0].update(image_id=77),
        r"annotation 1 is of image 77, which the file",
    ),
    "unknown category": (
        lambda c: c["annotations"][3].update(category_id=12),
        r"instances_train2017\.json: annotation 5 has category 12, which the file does not list",
    ),
    "another table": (
        lambda c: c["categories"][0].update(name="cat", id=1) or c["categories"].pop(15),
        r"instances_train2017\.json: category 1 is 'cat', which is 'person' in COCO's table; for classes of your own",
    ),
    "missing image": (
        lambda c: c["images"][1].update(file_name="gone.jpg"),
        r"instances_train2017\.json: image 11 names gone\.jpg, which is not in .*train2017; .* skip_missing=True",
    ),
    "another size": (
        lambda c: c["images"][1].update(width=13),
        r"instances_train2017\.json: image 11: .*000000000001\.jpg is 12x8 but its label is 13x8",
    ),
    "no size": (lambda c: c["images"][1].pop("width"), r"json: image 11 has no height and width"),
    "no name": (lambda c: c["images"][1].pop("file_name"), r"json: image 11 has no file_name"),
    "no annotations": (lambda c: c.pop("annotations"), r"json is no COCO JSON with images, annotations and categories"),
    "no image id": (lambda c: c["annotations"][0].pop("image_id"), r"json: an entry lacks or misspells 'image_id'"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_file_that_contradicts_itself_is_refused_by_name(tree, fault):
    change, message = REFUSED[fault]
    rewrite(tree / "annotations" / "instances_train2017.json", change)
    with pytest.raises(BadInput, match=message) as caught:
        opened(tree)
    assert "\n" not in str(caught.value)
    assert not sets.is_prepared("coco", data_dir=tree / "prepared")


def test_missing_images_may_be_left_out(tree):
    (tree / "train2017" / "000000000000.jpg").unlink()
    assert len(opened(tree, skip_missing=True)) == 2
    said = notes(tree, skip_missing=True)
    assert any("images that are not there, left out: instances_train2017.json image 10" in note for note in said)


PANOPTIC = {
    "unlisted": (lambda rows: rows.pop(1), r"000000000000\.png: segment 9 is not listed in .*\.json \(image 10\)"),
    "unseen": (lambda rows: rows.append({"id": 4, "category_id": 1}), r"segment 4 of image 10 has no pixel in"),
    "twice": (lambda rows: rows.append(rows[0]), r"image 10 lists segment 300 twice"),
    "category": (
        lambda rows: rows[0].update(category_id=12),
        r"segment 300 of image 10 has category 12, which is unknown",
    ),
}


@pytest.mark.parametrize("fault", PANOPTIC)
def test_segments_and_their_picture_must_agree(tmp_path, fault):
    panoptic_tree(tmp_path)
    change, message = PANOPTIC[fault]
    path = tmp_path / "annotations" / "panoptic_train2017.json"
    rewrite(path, lambda content: change(content["annotations"][0]["segments_info"]))
    with pytest.raises(BadInput, match=message):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"), [("year", 2015), ("val", 1.0), ("json", 3), ("classes", (1,)), ("images", "nowhere")]
)
def test_an_option_that_cannot_be_is_named(tree, option, value):
    with pytest.raises(BadInput, match=f"option '{option}' of data set 'coco'"):
        opened(tree, **{option: value})


def test_keypoints_of_another_number_or_visibility_are_refused(tree):
    for points, message in [
        ([1, 1, 2] * 3, "9 numbers for 17 keypoints"),
        ([1, 1, 3] * 17, "visibility is not 0, 1 or 2"),
    ]:
        rows = person_keypoints([annotation(1, 10, 1, keypoints=points)])
        write_json(tree / "annotations" / "person_keypoints_train2017.json", **rows)
        with pytest.raises(BadInput, match=f"person_keypoints_train2017.json annotation 1: .*{message}"):
            opened(tree)
