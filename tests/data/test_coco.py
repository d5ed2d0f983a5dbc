"""COCO's layouts and one's own JSON, from miniature folders."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets
from jaxseg.data.coco_tables import JOINTS
from jaxseg.data.masks import match_segments
from jaxseg.data.sets import coco
from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.types import VOID
from tests.data.coco_trees import (
    CATEGORIES,
    OBJECTS,
    SIZE,
    annotation,
    mask_of,
    notes,
    opened,
    panoptic_tree,
    person_keypoints,
    rewrite,
    write_images,
    write_json,
)


@pytest.fixture
def tree(tmp_path):
    write_images(tmp_path / "train2017")
    write_json(tmp_path / "annotations" / "instances_train2017.json", OBJECTS)
    return tmp_path


def test_objects_come_as_they_were_annotated(tree):
    first, second, third = opened(tree)
    assert first["boxes"].tolist() == [[1, 2, 7, 6], [2.5, 3, 4.5, 5], [1, 0, 2, 4]]
    assert first["classes"].tolist() == [0, coco.FACTS.things.index("dog"), 0]
    assert first["crowd"].tolist() == [False, False, True]
    assert first["area"].tolist() == [24, 4, 4]
    assert third["area"].tolist() == [77.5]
    assert third["classes"].tolist() == [79]
    assert second["boxes"].shape == (0, 4)
    assert not second["instance_ids"].any()
    assert "panoptic" not in first
    assert "keypoints" not in first


def test_masks_are_exact_as_text_and_the_smaller_object_is_in_front(tree):
    first = opened(tree)[0]
    expected = [rle.decode(rle.from_coco(row["segmentation"], *SIZE)) for row in OBJECTS[:3]]
    lines = first["rle"].tobytes().decode().split("\n")
    for slot, mask in enumerate(expected):
        assert np.array_equal(rle.decode(rle.from_string(lines[slot], *SIZE)), mask)
        assert np.array_equal(mask_of(first, slot), mask)
    assert (first["instance_ids"][expected[1]] == 2).all()
    assert (first["hidden_ids"][expected[1] & expected[0]] == 1).all()


def test_only_what_is_asked_for_is_read(tree):
    assert set(opened(tree, keys=("image", "boxes"))[0]) == {"image", "boxes"}
    assert set(opened(tree, keys=("rle",))[0]) == {"rle"}
    assert {"instance_ids", "hidden_ids"} <= set(opened(tree, keys=("instance_ids",))[0])


def test_an_image_without_objects_is_a_row_without_valid_slots(tree):
    opened(tree)
    source = Source("coco", "train")
    keys = ("image", "boxes", "classes", "crowd", "difficult", "area", "instance_ids", "hidden_ids", "rle")
    data = Data(train=source, val=source, keys=keys, slots=2, rle_bytes=40)
    with pytest.warns(UserWarning, match=r"coco/train\[0\] has 3 objects but slots=2"):
        (batch,) = data.eval_batches(batch_size=3, data_dir=tree / "prepared")
    assert batch["valid"].tolist() == [[True, True], [False, False], [True, False]]
    assert not batch["crowd"].any(), "the crowd is what is dropped"
    assert not batch["instance_ids"][1].any()
    assert not batch["rle"][1].any()
    assert batch["area"].tolist() == [[24, 4], [0, 0], [77.5, 0]]
    line = batch["rle"][0].tobytes().rstrip(b"\0").decode().split("\n")[1]
    assert np.array_equal(rle.decode(rle.from_string(line, *SIZE)), batch["instance_ids"][0] == 2)


def test_keypoints_of_another_file_belong_to_the_object_of_the_same_id(tree):
    points = [0] * 51
    points[:6] = [3, 4, 2, 5, 6, 1]
    rows = person_keypoints([annotation(1, 10, 1, (1, 2, 6, 4), keypoints=points, num_keypoints=2)])
    write_json(tree / "annotations" / "person_keypoints_train2017.json", **rows)
    first = opened(tree)[0]
    assert first["keypoints"].shape == (3, len(JOINTS), 3)
    assert first["keypoints"][0].ravel().tolist() == points
    assert not first["keypoints"][1:].any()


def test_persons_with_keypoints_alone_are_objects_too(tree):
    (tree / "annotations" / "instances_train2017.json").unlink()
    rows = person_keypoints([annotation(1, 10, 1, (1, 2, 6, 4), keypoints=[1, 1, 2] * 17)])
    write_json(tree / "annotations" / "person_keypoints_train2017.json", **rows)
    first, second, _ = opened(tree)
    assert first["keypoints"].shape == (1, 17, 3)
    assert second["keypoints"].shape == (0, 17, 3)


def test_the_layout_of_2014_is_an_option(tmp_path):
    write_images(tmp_path / "val2014")
    write_json(tmp_path / "annotations" / "instances_val2014.json", OBJECTS)
    assert len(opened(tmp_path, "val", year=2014)) == 3
    with pytest.raises(BadInput, match="nor any other of COCO's of 2017"):
        opened(tmp_path)


def test_panoptic_segments_make_labels_and_objects(tmp_path):
    ids = panoptic_tree(tmp_path)
    first, second, third = opened(tmp_path)
    grass = coco.FACTS.classes.index("grass-merged")
    assert first["label"][0, 0] == grass
    assert (first["label"][:, 11] == VOID).all()
    assert first["classes"].tolist() == [0, 16]
    assert first["boxes"].tolist() == [[1, 2, 7, 6], [2, 3, 5, 5]]
    assert np.array_equal(first["panoptic"][..., 1] == 1, ids == 300)
    assert np.array_equal(first["panoptic"][..., 1], first["instance_ids"])
    assert (second["panoptic"] == (VOID, 0)).all()
    assert "panoptic" not in third
    assert any(
        "images without panoptic annotation: panoptic_train2017.json image 12" in note for note in notes(tmp_path)
    )


def test_segments_find_their_objects(tmp_path):
    ids = panoptic_tree(tmp_path)
    objects = [
        annotation(1, 10, 18, (2, 3, 3, 2)),
        annotation(2, 10, 1, (8, 0, 2, 2)),
        annotation(3, 10, 1, (1, 2, 6, 4)),
    ]
    write_json(tmp_path / "annotations" / "instances_train2017.json", objects)
    first = opened(tmp_path)[0]
    assert np.array_equal(first["panoptic"][..., 1] == 1, ids == 9)
    assert np.array_equal(first["panoptic"][..., 1] == 3, ids == 300)
    assert not (first["panoptic"][..., 1] == 2).any()
    assert mask_of(first, 2).sum() == 24, "the whole person, not only what is seen of it"


def test_a_segment_is_of_the_object_in_which_it_lies_though_another_is_of_its_size():
    """Of a person behind others little is seen; a small one overlaps that part."""
    masks = np.zeros((2, *SIZE), bool)
    masks[0, :, :8] = True
    masks[1, 2:4, 3:6] = True
    seen = np.zeros(SIZE, np.int32)
    seen[2, :4] = 1
    found = match_segments(seen, [(1, False)], [rle.encode(m) for m in masks], np.zeros((2, 4)), [(1, False)] * 2)
    assert found == [0]
    apart = match_segments(
        seen, [(1, False)], [rle.encode(m) for m in masks], np.zeros((2, 4)), [(2, False), (1, True)]
    )
    assert apart == [None], "another class, a crowd"


def test_many_segments_keep_their_numbers(tmp_path):
    ids = np.arange(1, 20 * 20 + 1).reshape(20, 20)
    (tmp_path / "all").mkdir()
    Image.fromarray(np.stack([ids & 255, ids >> 8, 0 * ids], -1).astype(np.uint8)).save(tmp_path / "all" / "a.png")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg")
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 20, "width": 20}],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "a.png",
                "segments_info": [{"id": number, "category_id": 3} for number in ids.ravel().tolist()],
            }
        ],
        "categories": [{"id": 3, "name": "dot", "isthing": 1}],
    }
    (tmp_path / "all.json").write_text(json.dumps(content))
    (record,) = opened(tmp_path, panoptic="all.json", val=0)
    assert np.array_equal(record["panoptic"][..., 1], ids)
    assert np.array_equal(record["instance_ids"], ids)


def test_boxes_alone_take_masks_from_segments_and_crowds_are_added(tmp_path):
    ids = panoptic_tree(tmp_path)
    path = tmp_path / "annotations" / "panoptic_train2017.json"
    rewrite(path, lambda content: content["annotations"][0]["segments_info"][1].update(iscrowd=1))
    boxes = [
        {key: annotation(7, 10, 1, (1, 2, 6, 4))[key] for key in ("id", "image_id", "category_id", "bbox", "area")}
    ]
    write_json(tmp_path / "annotations" / "boxes_train2017.json", boxes)
    first = opened(tmp_path)[0]
    assert first["crowd"].tolist() == [False, True]
    assert np.array_equal(mask_of(first, 0), ids == 300)
    assert np.array_equal(mask_of(first, 1), ids == 9)


def test_boxes_alone_have_no_masks(tree):
    rewrite(
        tree / "annotations" / "instances_train2017.json",
        lambda content: [row.pop("segmentation") for row in content["annotations"]],
    )
    assert {"rle", "instance_ids", "hidden_ids"}.isdisjoint(opened(tree)[0])


def test_labels_may_come_from_maps_of_category_ids(tree):
    folder = tree / "annotations" / "panoptic_semseg_train2017"
    folder.mkdir()
    ids = np.zeros(SIZE, np.uint8)
    ids[0], ids[1], ids[2], ids[3] = 1, 200, 183, 90
    for image in range(3):
        Image.fromarray(ids).save(folder / f"{image:012}.png")
    for record in opened(tree):
        assert record["label"][:5, 0].tolist() == [0, 132, VOID, 79, VOID]
        assert "panoptic" not in record
    ids[7] = 94
    Image.fromarray(ids).save(folder / "000000000001.png")
    with pytest.raises(BadInput, match=r"000000000001\.png: category 94 is not in the table"):
        opened(tree, stuff="annotations/panoptic_semseg_train2017")
    with pytest.raises(BadInput, match="option 'stuff' of data set 'coco': there is no folder"):
        opened(tree, stuff="nowhere")


OWN = [{"id": 7, "name": "bolt"}, {"id": 3, "name": "nut", "keypoints": ["head", "foot"]}]


def own_tree(folder, count=30):
    write_images(folder / "images", count)
    rows = [annotation(i, 10 + i, 7 if i % 2 else 3, keypoints=[1, 1, 2, 0, 0, 0]) for i in range(count)]
    return write_json(folder / "parts.json", rows, count, OWN)


def test_ones_own_json_brings_its_own_classes_and_is_split_by_the_names_of_its_images(tmp_path):
    own_tree(tmp_path)
    train, val = (opened(tmp_path, split, json="parts.json") for split in ("train", "val"))
    assert len(train) + len(val) == 30
    assert 2 <= len(val) <= 12
    source = Source("coco", "train", options=(("json", "parts.json"),))
    facts = Data(train=source, val=source).facts(tmp_path / "prepared")
    assert facts.things == facts.classes == ("nut", "bolt")
    assert facts.thing_ids == (3, 7)
    assert facts.joints == ("head", "foot")
    assert train[0]["keypoints"].shape == (1, 2, 3)
    batch = next(
        iter(
            Data(train=source, val=source, keys=("image", "boxes", "classes")).eval_batches(
                batch_size=2, split="train", data_dir=tmp_path / "prepared"
            )
        )
    )
    assert set(batch["classes"][batch["valid"]].tolist()) <= {0, 1}


def test_ones_own_facts_are_known_before_preparation_where_they_can_be(tmp_path):
    path = own_tree(tmp_path)
    assert sets.facts("coco", data_dir=tmp_path, options=(("json", str(path)),)).things == ("nut", "bolt")
    named = (("json", "far.json"), ("classes", ("a", "b")))
    assert sets.facts("coco", data_dir=tmp_path, options=named).things == ("a", "b")
    with pytest.raises(BadInput, match=r"'coco' with far.json is not prepared, so its classes are not known"):
        sets.facts("coco", data_dir=tmp_path, options=(("json", "far.json"),))


def test_ones_own_files_of_train_and_val_stay_apart(tmp_path):
    write_images(tmp_path)
    write_json(tmp_path / "a.json", [annotation(1, 10, 7)], 2, OWN)
    write_json(tmp_path / "b.json", [annotation(1, 10, 3)], 3, OWN)
    assert len(opened(tmp_path, "train", json=("a.json", "b.json"))) == 2
    assert len(opened(tmp_path, "val", json=("a.json", "b.json"))) == 3


def test_a_choice_of_classes_leaves_out_the_others(tree):
    first = opened(tree, classes=("dog", "person"))[0]
    assert first["classes"].tolist() == [1, 0, 1]
    assert opened(tree, classes=("dog",))[0]["classes"].tolist() == [0]
    assert sets.facts("coco", data_dir=tree, options=(("classes", ("dog",)),)).thing_ids == (18,)
    with pytest.raises(BadInput, match="'coco' has no class 'dogg'; did you mean 'dog'"):
        opened(tree, classes=("dogg",))


def test_the_official_table_has_133_classes_of_which_the_first_80_are_things():
    assert coco.FACTS.classes[:80] == coco.FACTS.things
    assert len(CATEGORIES) == 80
    assert len(set(coco.FACTS.classes)) == len(set(coco.FACTS.class_ids)) == len(coco.FACTS.palette) == 133
