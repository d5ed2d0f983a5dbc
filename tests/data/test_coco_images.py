"""Real COCO images and annotations, where they are beside the checkout: what comes out is what pycocotools reads."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets
from jaxseg.data.coco_results import ResultFiles
from jaxseg.data.coco_tables import JOINTS
from jaxseg.data.sets import coco
from jaxseg.ops import rle
from jaxseg.types import VOID
from tests.shared_data import shared_data


def opened(name, where, keys=None, **options):
    chosen = tuple(options.items())
    sets.prepare("coco", source=shared_data(name), data_dir=where, options=chosen)
    return sets.open_split("coco", "train", keys=keys, data_dir=where, options=chosen)


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return opened("coco_mini", tmp_path_factory.mktemp("mini"))


def test_objects_and_masks_are_those_of_pycocotools(mini):
    from pycocotools.coco import COCO

    official = COCO(shared_data("coco_mini") / "annotations" / "instances_train2017.json")
    assert len(mini) == 80
    objects = crowds = 0
    for record, image in zip(mini, official.dataset["images"], strict=True):
        rows = official.imgToAnns[image["id"]]
        assert record["image"].shape == (image["height"], image["width"], 3)
        assert [coco.FACTS.thing_ids[k] for k in record["classes"]] == [row["category_id"] for row in rows]
        boxes = np.asarray([row["bbox"] for row in rows])
        np.testing.assert_allclose(
            record["boxes"], np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), rtol=1e-6
        )
        np.testing.assert_allclose(record["area"], [row["area"] for row in rows], rtol=1e-6)
        assert record["crowd"].tolist() == [bool(row["iscrowd"]) for row in rows]
        for line, row in zip(record["rle"].tobytes().decode().split("\n"), rows, strict=True):
            assert line == official.annToRLE(row)["counts"].decode(), row["id"]
        objects, crowds = objects + len(rows), crowds + record["crowd"].sum()
    assert (objects, crowds) == (739, 8)


def test_the_two_maps_hold_all_but_what_lies_behind_two_objects(mini):
    for record in mini:
        height, width = record["image"].shape[:2]
        masks = [
            rle.decode(rle.from_string(line, height, width)) for line in record["rle"].tobytes().decode().split("\n")
        ]
        deep = np.sum(masks, axis=0) > 2
        for slot, mask in enumerate(masks):
            kept = (record["instance_ids"] == slot + 1) | (record["hidden_ids"] == slot + 1)
            assert np.array_equal(kept | deep, mask | deep)
        assert np.array_equal(record["instance_ids"] > 0, np.any(masks, axis=0))


def test_keypoints_are_those_of_the_persons(mini):
    path = shared_data("coco_mini") / "annotations" / "person_keypoints_train2017.json"
    rows = json.loads(path.read_text())["annotations"]
    ours = np.concatenate([record["keypoints"] for record in mini])
    assert ours.shape[1:] == (len(JOINTS), 3)
    assert (ours[..., 2] > 0).sum() == sum(row["num_keypoints"] for row in rows)
    expected = {tuple(row["keypoints"]) for row in rows if row["num_keypoints"]}
    assert {tuple(int(value) for value in one.ravel()) for one in ours if one.any()} == expected


def panoptic_truth(folder, stem):
    content = json.loads((folder / f"{stem}.json").read_text())
    for row in content["annotations"]:
        colours = np.asarray(Image.open(folder / stem / row["file_name"]).convert("RGB"), np.int64)
        yield row, colours @ [1, 256, 65536]


def check_panoptic(records, truth):
    """Every segment is there with its pixels, class and crowd; objects are numbered by their slots."""
    order = {int(number): i for i, number in enumerate(records["image_id"])}
    for row, ids in truth:
        record = records["records"][order[row["image_id"]]]
        classes, numbers = record["panoptic"][..., 0], record["panoptic"][..., 1]
        assert np.array_equal(classes == VOID, ids == 0)
        assert np.array_equal(record["label"], classes)
        for segment in row["segments_info"]:
            mine = ids == segment["id"]
            number, kind = np.unique(numbers[mine]), np.unique(classes[mine])
            assert len(number) == len(kind) == 1
            assert coco.FACTS.class_ids[kind[0]] == segment["category_id"]
            assert np.array_equal((classes == kind[0]) & (numbers == number[0]), mine)
            assert (number[0] > 0) == (kind[0] < 80)
            if number[0]:
                assert record["crowd"][number[0] - 1] == bool(segment["iscrowd"])
                assert record["classes"][number[0] - 1] == kind[0]


def with_ids(name, where, **options):
    chosen = tuple(options.items())
    found = opened(name, where, **options)
    return {"records": found, "image_id": sets.image_ids("coco", "train", data_dir=where, options=chosen)}


def test_the_panoptic_sample_goes_in_unchanged(tmp_path):
    folder = shared_data("coco_panoptic_sample")
    records = with_ids(folder.name, tmp_path, panoptic="panoptic_examples.json", images="input_images", val=0)
    check_panoptic(records, panoptic_truth(folder, "panoptic_examples"))
    facts = sets.facts(
        "coco",
        data_dir=tmp_path,
        options=(("panoptic", "panoptic_examples.json"), ("images", "input_images"), ("val", 0)),
    )
    assert facts.classes == coco.FACTS.classes
    assert facts.palette == coco.FACTS.palette


@pytest.fixture(scope="module")
def hundred(tmp_path_factory):
    return with_ids("coco128_panoptic", tmp_path_factory.mktemp("hundred"))


@pytest.mark.slow
def test_the_panoptic_truth_of_a_hundred_images_goes_in_unchanged_and_boxes_find_their_segments(hundred):
    folder, records = shared_data("coco128_panoptic") / "annotations", hundred
    truth = list(panoptic_truth(folder, "panoptic_train2017"))
    assert len(truth) == len(records["records"]) == 100
    assert sum(len(row["segments_info"]) for row, _ in truth) == 1111
    check_panoptic(records, truth)
    boxes = json.loads((folder / "boxes_train2017.json").read_text())["annotations"]
    whole = list(records["records"])
    assert sum(int((~record["crowd"]).sum()) for record in whole) == len(boxes)
    assert sum(int(record["crowd"].sum()) for record in whole) == 6


@pytest.mark.slow
def test_the_panoptic_truth_comes_out_of_the_writer_as_it_went_in(hundred, tmp_path):
    """Through data set and writer: the same segments, categories, areas and boxes; numbers may differ."""
    folder, records = shared_data("coco128_panoptic") / "annotations", hundred
    results = ResultFiles(tmp_path / "out", coco.FACTS)
    for record, number in zip(records["records"], records["image_id"], strict=True):
        panoptic = record["panoptic"]
        results.add({"panoptic": panoptic}, panoptic.shape[:2], image_id=int(number))
    results.close()
    written = {row["image_id"]: (row, ids) for row, ids in panoptic_truth(tmp_path / "out", "panoptic")}
    for row, ids in panoptic_truth(folder, "panoptic_train2017"):
        ours, our_ids = written[row["image_id"]]
        assert np.array_equal(our_ids == 0, ids == 0)
        pairs = np.unique(np.stack([ids.ravel(), our_ids.ravel()]), axis=1).T
        number_of = {int(theirs): int(mine) for theirs, mine in pairs}
        assert len(pairs) == len(number_of) == len(set(number_of.values()))
        told = {segment["id"]: segment for segment in ours["segments_info"]}
        assert len(told) == len(row["segments_info"])
        for segment in row["segments_info"]:
            mine = told[number_of[segment["id"]]]
            for key in ("category_id", "area", "bbox"):
                assert mine[key] == segment[key], (row["image_id"], segment["id"], key)


def test_a_batch_holds_all_of_it(tmp_path):
    opened("coco_mini", tmp_path)
    keys = ("image", "boxes", "classes", "crowd", "area", "instance_ids", "hidden_ids", "rle", "keypoints", "size")
    source = Source("coco", "train")
    data = Data(train=source, val=source, keys=keys, slots=64)
    for number, batch in enumerate(data.eval_batches(batch_size=1, data_dir=tmp_path, limit=5)):
        assert batch["valid"].sum() > 0, number


def test_limbs_are_those_of_the_annotations():
    path = shared_data("coco_mini") / "annotations" / "person_keypoints_train2017.json"
    (person,) = json.loads(path.read_text())["categories"]
    names = person["keypoints"]
    assert tuple(names) == coco.FACTS.joints
    assert tuple((names[a - 1], names[b - 1]) for a, b in person["skeleton"]) == coco.FACTS.skeleton
