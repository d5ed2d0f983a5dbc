"""``jaxseg evaluate --save-predictions`` writes what the metrics judge, in the pixels of each image as it was read."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.cli.saved import NEEDED, SavedPredictions, Saving
from jaxseg.data.coco_results import ResultFiles
from jaxseg.data.facts import Facts
from jaxseg.inference.load import load
from jaxseg.inference.predict import predict
from jaxseg.train.evaluate import evaluate
from tests.metrics.joined_evaluation import COUNT, NAMES, Known, Nothing, batches

FACTS = Facts("pets", "", NAMES, ((0, 0, 0),) * 3, {}, things=NAMES)


def read(path):
    return json.loads(path.read_text())


def test_label_maps_of_a_split(jaxseg, trained, tmp_path):
    words = ("evaluate", trained / "run", "--data-dir", trained / "data", "--json")
    said = jaxseg(*words, "--save-predictions", tmp_path / "out")
    assert said.status == 0
    assert json.loads(said.out) == json.loads(jaxseg(*words).out)
    run = load(trained / "run")
    (batch,) = run.data.eval_batches(batch_size=3, data_dir=trained / "data")
    for row, label in enumerate(predict(run, batch["image"], keys=("label",))["label"]):
        with Image.open(tmp_path / "out" / "label" / f"{row:012d}.png") as picture:
            same = np.asarray(picture) == label
        assert same.mean() > 0.95, "the same but for ties, which another batch size may break the other way"
    assert len(list((tmp_path / "out").rglob("*"))) == 1 + 3


def placed(rows):
    """Batches whose images lie on canvases at half their size, 4 pixels from the left; a batch is filled up."""
    for batch in batches(0, 1, rows):
        count, (height, width) = len(batch["real"]), batch["image"].shape[1:3]
        move = np.asarray([0.5, 0.5]), np.asarray([4.0, 0.0])
        found = {key: value for key, value in batch.items() if key in ("found/scores", "found/classes", "found/valid")}
        found["found/boxes"] = batch["found/boxes"] * np.tile(move[0], 2) + np.tile(move[1], 2)
        found["found/keypoints"] = np.concatenate(
            [batch["found/keypoints"][..., :2] * move[0] + move[1], batch["found/keypoints"][..., 2:]], -1
        )
        frame = {
            "original_size": np.tile(np.int32([height, width]), (count, 1)),
            "size": np.tile(np.int32([height // 2, width // 2]), (count, 1)),
            "extent": np.tile(np.float32([4, 0, 4 + width // 2, height // 2]), (count, 1)),
            "image": np.zeros((count, height // 2 + 8, width // 2 + 8, 3), np.uint8),
            "found/panoptic": np.zeros((count, height // 2 + 8, width // 2 + 8, 2), np.int32),
        }
        frame["found/panoptic"][:, :4, 4:8] = (1, 7)
        yield {**{key: batch[key] for key in ("index", "real")}, **found, **frame}


class Plain(Known):
    """Without the metrics of the task."""

    def metrics(self):
        return {}


def test_objects_and_panoptic_maps_of_a_split(tmp_path):
    files = ResultFiles(tmp_path, FACTS)
    task = Saving(Plain(), SavedPredictions(files, lambda index: 1000 + index))
    assert evaluate(Nothing(), {}, task, placed(5)) == {}
    assert [path.name for path in files.close()] == ["boxes.json", "keypoints.json", "panoptic.json"]
    assert files.left_out == ()
    boxes, joints, panoptic = (read(tmp_path / f"{name}.json") for name in ("boxes", "keypoints", "panoptic"))
    (truth,) = batches(0, 1, COUNT)
    expected = [
        (1000 + b, *(truth[f"found/{key}"][b, d] for key in ("boxes", "classes", "scores", "keypoints")))
        for b in range(COUNT)
        for d in np.flatnonzero(truth["found/valid"][b])
    ]
    assert len(boxes) == len(joints) == len(expected) > COUNT
    for row, points, (image, box, label, score, keypoints) in zip(boxes, joints, expected, strict=True):
        assert (
            (row["image_id"], row["category_id"]) == (points["image_id"], points["category_id"]) == (image, label + 1)
        )
        assert row["score"] == points["score"] == score
        box = np.clip(box, 0, np.tile(truth["image"].shape[2:0:-1], 2))
        np.testing.assert_allclose(row["bbox"], [*box[:2], *(box[2:] - box[:2])], atol=1e-4)
        np.testing.assert_allclose(np.reshape(points["keypoints"], (-1, 3)), keypoints, atol=1e-4)
    height, width = truth["image"].shape[1:3]
    assert [row["image_id"] for row in panoptic["annotations"]] == [1000 + b for b in range(COUNT)]
    for row in panoptic["annotations"]:
        sky, cat = row["segments_info"]
        assert (cat["category_id"], cat["area"], cat["bbox"]) == (2, 64, [0, 0, 8, 8])
        assert sky["area"] == height * width - 64


def test_rows_that_only_fill_up_a_batch_are_not_saved(tmp_path):
    files = ResultFiles(tmp_path, FACTS)
    saved = SavedPredictions(files, int)
    batch = next(placed(4))
    batch["real"] = np.asarray([True, False, True, False])
    found = {key.removeprefix("found/"): value for key, value in batch.items() if key.startswith("found/")}
    saved.fold(None, saved.observe(found, batch))
    assert set(NEEDED) <= set(batch)
    assert len(list((tmp_path / "panoptic").iterdir())) == 2


RECIPE = """
from jaxseg.data import Data, Source
from jaxseg.recipe import Recipe, Stage
from jaxseg.registry import create_small
from jaxseg.tasks.instance import Instance
from jaxseg.train.optim import SGD


def recipe():
    options = (("size", 64), ("train", 2), ("val", 3))
    keys = ("image", "boxes", "classes", "valid", "crowd", "instance_ids", "index", "size", "original_size", "rle")
    data = Data(
        train=Source("scenes", "train", options=options), val=Source("scenes", "val", options=options), keys=keys
    )
    things = data.facts().things
    stage = Stage(
        model=create_small("mask_rcnn_resnet50_fpn", num_classes=len(things)),
        task=Instance(len(things), classes=things),
        data=data,
        optimizer=SGD(0.001),
        steps=1,
        batch_size=2,
    )
    return Recipe(stages=(stage,), name="masks")
"""


@pytest.mark.slow
def test_a_network_of_objects_leaves_files_of_objects(jaxseg, tmp_path):
    (tmp_path / "masks.py").write_text(RECIPE)
    words = ("--data-dir", tmp_path / "data")
    assert jaxseg("train", tmp_path / "masks.py", "--workdir", tmp_path / "run", *words).status == 0
    said = jaxseg("evaluate", tmp_path / "run", *words, "--json", "--save-predictions", tmp_path / "out")
    assert said.status == 0, said.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["boxes.json", "masks.json"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>box AP of each class</h2>" in page
    assert "<h2>mask AP of each class</h2>" in page
    assert page.count("data:image/jpeg") == 3
    boxes, masks = (read(tmp_path / "out" / f"{name}.json") for name in ("boxes", "masks"))
    assert boxes
    assert [row["score"] for row in boxes] == [row["score"] for row in masks]
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)).save(tmp_path / "photo.png")
    said = jaxseg("predict", tmp_path / "run", tmp_path / "photo.png", "--out", tmp_path / "seen")
    assert said.status == 0, said.err
    tables = read(tmp_path / "seen" / "photo_coco.json")
    assert tables["images"] == [{"id": 1, "file_name": "photo.png", "height": 64, "width": 80}]
    assert len(tables["annotations"]) == len(read(tmp_path / "seen" / "photo.json")["objects"])
    assert all(set(row["segmentation"]) == {"size", "counts"} for row in tables["annotations"])
