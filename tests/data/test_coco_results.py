"""Results in COCO's formats: pycocotools and the panoptic evaluation read them and give the figures of the metrics."""

import contextlib
import io
import json

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from PIL import Image
from pycocotools import mask as official_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxseg.data.coco_results import ResultFiles, encode_panoptic, labelled_image
from jaxseg.data.facts import Facts
from jaxseg.data.records import encode_png
from jaxseg.errors import BadInput
from jaxseg.metrics import CocoBoxes, CocoKeypoints, CocoMasks
from jaxseg.ops import rle
from jaxseg.types import VOID
from tests.metrics import coco_cases, panoptic_cases
from tests.metrics.test_panoptic import METRIC

NAMES = tuple(f"class {k}" for k in range(coco_cases.CLASSES))
IDS = (3, 18, 90)
FACTS = Facts("pets", "", NAMES, ((0, 0, 0),) * 3, {}, things=NAMES, thing_ids=IDS)
PANOPTIC = Facts(
    "scene",
    "",
    panoptic_cases.CLASSES,
    ((0, 0, 0),) * 5,
    {},
    things=panoptic_cases.THINGS,
    class_ids=(1, 2, 92, 93, 118),
)


def written(found, folder, *, keys, facts=FACTS, image_id=lambda b: 100 + b):
    files = ResultFiles(folder, facts)
    for b in range(len(found[keys[0]])):
        size = (coco_cases.HEIGHT, coco_cases.WIDTH)
        files.add({key: found[key][b] for key in keys}, size, image_id=image_id(b))
    return files.close()


@pytest.mark.parametrize(
    ("key", "kind", "metric"),
    [
        ("boxes", "bbox", CocoBoxes(NAMES)),
        ("masks", "segm", CocoMasks(NAMES)),
        ("keypoints", "keypoints", CocoKeypoints(NAMES, ("joint",) * coco_cases.JOINTS)),
    ],
)
def test_pycocotools_reads_detections_and_gives_the_metrics_figures(tmp_path, key, kind, metric):
    batch, found = coco_cases.images(15, seed=6)
    paths = written(found, tmp_path / "out", keys=("boxes", "scores", "classes", "valid", "masks", "keypoints"))
    assert [path.name for path in paths] == ["boxes.json", "masks.json", "keypoints.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    truth = coco_cases.official(kind, batch, found).cocoGt
    for row in (*truth.dataset["images"], *truth.dataset["annotations"]):
        name = "id" if "height" in row else "image_id"
        row[name] += 100
    for row in truth.dataset["annotations"]:
        row["category_id"] = IDS[row["category_id"] - 1]
    truth.dataset["categories"] = [{"id": i, "name": name} for i, name in zip(IDS, NAMES, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(str(tmp_path / "out" / f"{key}.json")), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    name = key.removesuffix("es" if key == "boxes" else "s")
    result = coco_cases.folded(metric, batch, found)
    assert result[f"{name}_ap"] == pytest.approx(judge.stats[0], abs=1e-9)
    assert result[f"{name}_ap50"] == pytest.approx(judge.stats[1], abs=1e-9)


def test_no_detection_is_an_empty_list(tmp_path):
    _, found = coco_cases.images(2)
    found["valid"] &= False
    (path,) = written(found, tmp_path, keys=("boxes", "scores", "classes", "valid"))
    assert json.loads(path.read_text()) == []


def test_categories_without_ids_count_from_one(tmp_path):
    _, found = coco_cases.images(3)
    (path,) = written(
        found, tmp_path, keys=("boxes", "scores", "classes", "valid"), facts=Facts("pets", "", (), (), {}, things=NAMES)
    )
    assert {row["category_id"] for row in json.loads(path.read_text())} == {1, 2, 3}


def truth_files(batch, folder):
    """The panoptic truth as COCO publishes it, crowds included."""
    (folder / "png").mkdir(parents=True)
    annotations = []
    for b, panoptic in enumerate(batch["panoptic"]):
        slots = np.flatnonzero(batch["crowd"][b])
        labels = [panoptic[..., 0][batch["instance_ids"][b] == n + 1] for n in slots]
        crowd = [(int(label[0]), int(n) + 1) for n, label in zip(slots, labels, strict=True) if label.size]
        picture, rows = encode_panoptic(panoptic, PANOPTIC.class_ids, crowd=crowd)
        assert sum(row["iscrowd"] for row in rows) == len(crowd)
        (folder / "png" / f"{b}.png").write_bytes(encode_png(picture))
        annotations.append({"image_id": 100 + b, "file_name": f"{b}.png", "segments_info": rows})
    named = zip(PANOPTIC.class_ids, PANOPTIC.classes, strict=True)
    tables = {
        "images": [{"id": 100 + b, "height": 40, "width": 40} for b in range(len(annotations))],
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "isthing": int(name in PANOPTIC.things)} for i, name in named],
    }
    (folder / "truth.json").write_text(json.dumps(tables))
    return folder / "truth.json", folder / "png"


def test_the_panoptic_evaluation_reads_maps_and_gives_the_metrics_figures(tmp_path):
    batch, found = panoptic_cases.images(25, seed=8)
    (path,) = written(found, tmp_path / "out", keys=("panoptic",), facts=PANOPTIC)
    assert path.name == "panoptic.json"
    assert (tmp_path / "out" / "panoptic" / "000000000107.png").is_file()
    json_file, pngs = truth_files(batch, tmp_path / "truth")
    official = pq_compute(str(json_file), str(path), str(pngs), str(tmp_path / "out" / "panoptic"))
    result = coco_cases.folded(METRIC, batch, found)
    assert batch["crowd"].any()
    for group, end in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for quality in ("pq", "sq", "rq"):
            assert result[quality + end] == pytest.approx(official[group][quality], abs=1e-12)


def test_segments_are_what_their_picture_shows(tmp_path):
    _, found = panoptic_cases.images(4, seed=9)
    (path,) = written(found, tmp_path, keys=("panoptic",), facts=PANOPTIC)
    tables = json.loads(path.read_text())
    assert len(tables["annotations"]) == 4
    for b, row in enumerate(tables["annotations"]):
        picture = np.asarray(Image.open(tmp_path / "panoptic" / row["file_name"]), np.int64)
        ids = picture @ [1, 256, 65536]
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in row["segments_info"]}
        np.testing.assert_array_equal(ids == 0, found["panoptic"][b, ..., 0] == VOID)
        for segment in row["segments_info"]:
            ys, xs = np.nonzero(ids == segment["id"])
            assert segment["area"] == len(ys)
            assert segment["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            (label,) = set(found["panoptic"][b, ys, xs, 0].tolist())
            assert PANOPTIC.class_ids[label] == segment["category_id"]
            assert len(set(found["panoptic"][b, ys, xs, 1].tolist())) == 1


def test_many_segments_need_all_three_colours():
    instance = np.arange(70_000, dtype=np.int32).reshape(200, 350)
    picture, rows = encode_panoptic(np.stack([np.zeros_like(instance), instance], -1), (1,))
    np.testing.assert_array_equal(picture.astype(np.int64) @ [1, 256, 65536], instance + 1)
    assert len(rows) == 70_000


def test_label_maps_are_pictures_and_the_rest_is_named(tmp_path):
    files = ResultFiles(tmp_path, FACTS)
    label = np.asarray([[0, 2], [1, VOID]], np.int32)
    files.add({"label": label, "depth": np.zeros((2, 2), np.float32)}, (2, 2), image_id=7, name="street")
    assert files.close() == []
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "label" / "street.png")), label)
    assert files.left_out == ("depth",)
    with pytest.raises(BadInput, match="two images have the id 7"):
        files.add({}, (2, 2), image_id=7)


def test_an_image_with_its_detections_is_a_data_set_of_its_own(tmp_path):
    _, found = coco_cases.images(8)
    one = {key: value[found["valid"].sum(1).argmax()] for key, value in found.items()}
    tables = labelled_image(one, (coco_cases.HEIGHT, coco_cases.WIDTH), file_name="photo.jpg", facts=FACTS)
    (tmp_path / "photo_coco.json").write_text(json.dumps(tables))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(str(tmp_path / "photo_coco.json"))
    assert known.loadImgs(1)[0]["file_name"] == "photo.jpg"
    assert [known.cats[i]["name"] for i in IDS] == list(NAMES)
    rows = known.loadAnns(known.getAnnIds(1))
    assert len(rows) == one["valid"].sum() > 3
    for row, d in zip(rows, np.flatnonzero(one["valid"]), strict=True):
        mask = coco_cases.pasted(one["masks"][d], one["boxes"][d], coco_cases.HEIGHT, coco_cases.WIDTH)
        assert official_masks.area(known.annToRLE(row)) == mask.sum()
        assert rle.from_coco(row["segmentation"], *mask.shape) == rle.encode(mask)
        assert row["area"] == mask.sum()
        assert row["score"] == one["scores"][d]
        np.testing.assert_array_equal(row["keypoints"], one["keypoints"][d].ravel())
