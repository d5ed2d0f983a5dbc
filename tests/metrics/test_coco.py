"""COCO's average precision against pycocotools, and where objects are judged."""

import pickle
import sys

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.metrics import CocoBoxes, CocoKeypoints, CocoMasks
from jaxseg.ops import rle
from tests.metrics.coco_cases import CLASSES, HEIGHT, JOINTS, WIDTH, folded, images, official

NAMES = tuple(f"class {k}" for k in range(CLASSES))
KINDS = {
    "bbox": CocoBoxes(NAMES),
    "segm": CocoMasks(NAMES),
    "keypoints": CocoKeypoints(NAMES, tuple(f"joint {j}" for j in range(JOINTS))),
}
SUMMARY = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
SUMMARY += ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]
JOINED = ["ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large"]


def check(kind, count, seed=0):
    batch, found = images(count, seed)
    result, judge = folded(KINDS[kind], batch, found), official(kind, batch, found)
    prefix = {"bbox": "box_", "segm": "mask_", "keypoints": "keypoint_"}[kind]
    names = JOINED if kind == "keypoints" else SUMMARY
    assert len(judge.stats) == len(names)
    for name, value in zip(names, judge.stats, strict=True):
        assert result[prefix + name] == pytest.approx(value, abs=1e-9), name
        assert 0 < value < 1, name
    for k, name in enumerate(NAMES):
        precision = judge.eval["precision"][:, :, k, 0, -1]
        assert result[f"{prefix}ap/{name}"] == pytest.approx(precision[precision > -1].mean(), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_are_those_of_pycocotools(kind):
    check(kind, 60)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_of_a_thousand_images_are_those_of_pycocotools(kind):
    check(kind, 1000, seed=1)


def strings(batch):
    """The masks of ``instance_ids`` and ``hidden_ids`` as the key ``rle``."""
    rows = []
    for front, behind in zip(batch["instance_ids"], batch["hidden_ids"], strict=True):
        masks = [(front == n + 1) | (behind == n + 1) for n in range(batch["boxes"].shape[1])]
        rows.append("\n".join(rle.to_string(rle.encode(mask)) for mask in masks).encode())
    length = max(map(len, rows)) + 3
    return np.stack([np.frombuffer(row.ljust(length, b"\0"), np.uint8) for row in rows])


def placed(batch, found, factor, corner=(0, 0)):
    """As they are on a canvas on which the image was scaled and moved; sizes in x and y are the same power of two."""
    move = lambda xy: xy * factor + np.asarray(corner, np.float32)  # noqa: E731

    def moved(objects):
        boxes = move(objects["boxes"].reshape(*objects["boxes"].shape[:2], 2, 2)).reshape(objects["boxes"].shape)
        points = np.concatenate([move(objects["keypoints"][..., :2]), objects["keypoints"][..., 2:]], -1)
        return {**objects, "boxes": boxes.astype(np.float32), "keypoints": points.astype(np.float32)}

    count = len(batch["real"])
    size = np.asarray([HEIGHT * factor, WIDTH * factor])
    frame = {"original_size": np.tile(np.int32([HEIGHT, WIDTH]), (count, 1)), "rle": strings(batch)}
    frame["size"] = np.tile(size.astype(np.int32), (count, 1))
    frame["image"] = np.zeros((count, 2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    if any(corner):
        frame["extent"] = np.tile(np.float32([*corner, *(size[::-1] + corner)]), (count, 1))
    kept = {key: value for key, value in moved(batch).items() if key not in ("instance_ids", "hidden_ids")}
    return {**kept, **frame}, moved(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("factor", "corner"), [(0.5, (0, 0)), (2, (0, 0)), (0.25, (16, 8))])
def test_objects_are_judged_in_the_image_as_it_was_read(kind, factor, corner):
    batch, found = images(20, seed=2)
    batch["boxes"], found["boxes"] = (np.rint(x["boxes"] * 16) / 16 for x in (batch, found))  # so that moves are exact
    for objects in (batch, found):
        objects["keypoints"] = np.rint(objects["keypoints"] * 16) / 16
        objects["boxes"] = objects["boxes"].astype(np.float32)
    assert folded(KINDS[kind], *placed(batch, found, factor, corner)) == folded(KINDS[kind], batch, found)


def test_without_exact_masks_they_are_judged_on_the_canvas():
    """The annotated area is that of the image as it was read: on a canvas of half the size it is a quarter."""
    batch, found = images(20, seed=2)
    batch["boxes"] /= 2
    found["boxes"] /= 2
    for key in ("instance_ids", "hidden_ids"):
        batch[key] = batch[key][:, ::2, ::2]
    canvas = {**batch, "image": np.zeros((20, HEIGHT // 2, WIDTH // 2, 3), np.uint8)}
    known = {
        "size": np.tile(np.int32([HEIGHT // 2, WIDTH // 2]), (20, 1)),
        "original_size": np.tile(np.int32([HEIGHT, WIDTH]), (20, 1)),
    }
    expected = folded(KINDS["segm"], {**canvas, "area": batch["area"] / 4}, found)
    assert folded(KINDS["segm"], {**canvas, **known}, found) == expected
    assert folded(KINDS["segm"], canvas, found) != expected


def test_the_size_of_an_object_is_its_annotated_area_its_masks_or_its_boxs():
    boxes = np.asarray([[[0, 0, 40, 40]]], np.float32)
    batch = {"boxes": boxes, "classes": np.zeros((1, 1), np.int32), "valid": np.ones((1, 1), bool)}
    found = {**batch, "scores": np.ones((1, 1), np.float32)}
    batch["real"] = np.ones(1, bool)
    ids = np.zeros((1, 56, 72), np.uint16)
    ids[0, :20, :20] = 1
    front, behind = np.where(ids > 0, 2, 0).astype(np.uint16), ids
    frame = {"size": np.int32([[56, 72]]), "original_size": np.int32([[112, 144]])}
    text = rle.to_string(rle.encode(np.pad(ids[0], ((0, 56), (0, 72)))))
    string = np.frombuffer(text.encode(), np.uint8)[None]
    metric = CocoBoxes(("cat",))

    def size(**more):
        result = folded(metric, {**batch, **more}, found, 1)
        return [name for name in ("small", "medium", "large") if f"box_ap_{name}" in result]

    assert size() == ["medium"]
    assert size(**frame) == ["medium"]  # 80x80
    assert size(area=np.float32([[96**2 + 1]])) == ["large"]
    assert size(instance_ids=ids) == ["small"]
    assert size(instance_ids=front, hidden_ids=behind) == ["small"]
    assert size(instance_ids=ids, **frame) == ["medium"]  # 40x40
    assert size(rle=string, **frame) == ["small"]
    assert size(rle=string, area=np.float32([[96**2 + 1]]), **frame) == ["large"]


def test_more_detections_count_where_they_are_asked_for():
    count = 150
    boxes = np.asarray([[[4 * i, 0, 4 * i + 4, 4] for i in range(count)]], np.float32)
    batch = {"boxes": boxes, "classes": np.zeros((1, count), np.int32), "valid": np.ones((1, count), bool)}
    found = {**batch, "scores": np.linspace(1, 0, count, dtype=np.float32)[None]}
    batch["real"] = np.ones(1, bool)
    assert folded(CocoBoxes(("cell",)), batch, found, 1)["box_ar100"] == pytest.approx(100 / 150)
    more = CocoBoxes(("cell",), max_detections=375)
    result = folded(more, batch, found, 1)
    assert result["box_ap"] == pytest.approx(1)
    assert "box_ar375" in {figure.name for figure in more.figures()}
    few = folded(CocoBoxes(("cell",), max_detections=5), batch, found, 1)
    assert [name for name in few if name.startswith("box_ar") and name[6:].isdigit()] == ["box_ar1", "box_ar5"]


def test_joints_other_than_cocos_are_as_far_apart_as_it_is_said():
    point = np.asarray([[[[30.0, 30.0, 2.0]]]], np.float32)
    batch = {
        "boxes": np.asarray([[[0, 0, 100, 100]]], np.float32),
        "classes": np.zeros((1, 1), np.int32),
        "valid": np.ones((1, 1), bool),
        "area": np.float32([[10_000]]),
        "keypoints": point,
    }
    found = {**batch, "scores": np.ones((1, 1), np.float32), "keypoints": point + np.float32([10, 0, 0])}
    batch["real"] = np.ones(1, bool)
    for sigmas, sigma in (((), 0.05), ((0.08,), 0.08)):
        similarity = np.exp(-100 / (8 * sigma**2 * 10_000))
        expected = (similarity >= np.arange(0.5, 1, 0.05)).mean()
        metric = CocoKeypoints(("cat",), ("nose",), sigmas)
        assert folded(metric, batch, found, 1)["keypoint_ap"] == pytest.approx(expected)
    with pytest.raises(BadInput, match="2 sigmas for 1 joints"):
        CocoKeypoints(("cat",), ("nose",), (0.1, 0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_pycocotools_takes_the_place_of_hotcoco(kind, monkeypatch):
    batch, found = images(12)
    expected = folded(KINDS[kind], batch, found)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    assert folded(KINDS[kind], batch, found) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(BadInput, match="pip install hotcoco"):
        folded(KINDS[kind], batch, found)


def test_nothing_is_said_of_nothing():
    batch, found = images(3)
    for metric in KINDS.values():
        assert folded(metric, {**batch, "valid": batch["valid"] & False}, found) == {}
        assert metric.result(metric.init()) == {}
    nothing = folded(KINDS["bbox"], batch, {**found, "valid": found["valid"] & False})
    assert nothing["box_ap"] == nothing["box_ar100"] == 0


def test_broken_masks_are_told_with_example_and_object():
    batch, found = placed(*images(2), 0.5)
    few = {**batch, "valid": batch["valid"] | True, "rle": batch["rle"][:, :20]}
    with pytest.raises(BadInput, match=r"^example 0, object \d+: a run-length|^example 0 has \d masks in 'rle' for 7"):
        folded(KINDS["segm"], few, found)
    del batch["rle"]
    with pytest.raises(BadInput, match=r"no masks among .*: read 'instance_ids'"):
        folded(KINDS["segm"], batch, found)


def test_what_is_gathered_can_be_pickled():
    batch, found = images(3)
    for metric in KINDS.values():
        state = metric.fold(metric.init(), metric.observe(found, batch))
        assert metric.result(pickle.loads(pickle.dumps(state))) == metric.result(state)
