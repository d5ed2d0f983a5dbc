"""Real panoptic truth goes in through ``coco`` and out through the writer: the same segments of the same pixels."""

import json

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from PIL import Image
from scipy import ndimage

from jaxseg.data import sets
from jaxseg.data.coco_results import ResultFiles, encode_panoptic
from jaxseg.data.records import decode_image, encode_png
from jaxseg.data.sets.coco import FACTS
from jaxseg.metrics import PanopticQuality
from jaxseg.types import VOID
from tests.shared_data import shared_data

SAMPLES = {
    "coco_panoptic_sample": (
        ("panoptic_examples.json", "panoptic_examples"),
        (("panoptic", "panoptic_examples.json"), ("images", "input_images"), ("val", 0)),
    ),
    "coco128_panoptic": (("annotations/panoptic_train2017.json", "annotations/panoptic_train2017"), ()),
}
"""Folder -> the truth's JSON and PNGs, and how it is prepared."""


@pytest.fixture(scope="module", params=SAMPLES)
def truth(request, tmp_path_factory):
    """The records by image id, the JSON and the folder of PNGs."""
    folder, (files, options) = shared_data(request.param), SAMPLES[request.param]
    where = tmp_path_factory.mktemp("prepared")
    sets.prepare("coco", source=folder, data_dir=where, options=options)
    records = sets.open_split("coco", "train", keys=("panoptic", "classes", "crowd"), data_dir=where, options=options)
    ids = sets.image_ids("coco", "train", data_dir=where, options=options).tolist()
    return dict(zip(ids, records, strict=True)), folder / files[0], folder / files[1]


def numbers(picture):
    return picture[..., :3].astype(np.int64) @ [1, 256, 65536]


def crowds(record):
    return [(int(record["classes"][n]), n + 1) for n in np.flatnonzero(record["crowd"]).tolist()]


def test_it_comes_out_as_it_went_in(truth):
    """Segments are numbered anew, and that is all: pixels, categories, areas, boxes and crowds are the same."""
    records, json_file, pngs = truth
    rows = json.loads(json_file.read_text())["annotations"]
    assert {row["image_id"] for row in rows} == set(records)
    for row in rows:
        record = records[row["image_id"]]
        picture, segments = encode_panoptic(record["panoptic"], FACTS.class_ids, crowd=crowds(record))
        ours = numbers(decode_image(encode_png(picture)))
        theirs = numbers(np.asarray(Image.open(pngs / row["file_name"])))
        pairs = [divmod(both, 1 << 24) for both in np.unique(ours * (1 << 24) + theirs).tolist()]
        renamed = dict(pairs)
        assert len(renamed) == len(pairs) == len(set(renamed.values()))
        assert renamed.get(0, 0) == 0
        assert len(segments) == len(row["segments_info"])
        expected = {segment["id"]: segment for segment in row["segments_info"]}
        for segment in segments:
            assert {**segment, "id": renamed[segment["id"]]} == expected[renamed[segment["id"]]]


def eroded(panoptic):
    """Without the outermost pixel of every segment."""
    keys = panoptic[..., 0].astype(np.int64) * 100_000 + panoptic[..., 1]
    inner = (ndimage.maximum_filter(keys, 3) == keys) & (ndimage.minimum_filter(keys, 3) == keys)
    return np.where(inner[..., None], panoptic, np.asarray([VOID, 0], panoptic.dtype))


@pytest.mark.parametrize(
    "truth", ["coco_panoptic_sample", pytest.param("coco128_panoptic", marks=pytest.mark.slow)], indirect=True
)
def test_its_quality_is_one_and_that_of_eroded_truth_less(truth, tmp_path):
    """By the metric, and by the official evaluation of the files written; crowds are in the truth alone."""
    records, json_file, pngs = truth
    metric = PanopticQuality(FACTS.classes, FACTS.things)
    for name, change in (("same", lambda panoptic: panoptic), ("eroded", eroded)):
        state, files = metric.init(), ResultFiles(tmp_path / name, FACTS)
        for image_id, record in records.items():
            found = np.asarray(change(record["panoptic"]))
            shown = np.isin(record["panoptic"][..., 1], [n for _, n in crowds(record)])
            row = {"found": found, "true": record["panoptic"], "crowd": shown, "real": np.asarray(True)}
            state = metric.fold(state, {key: np.asarray(value)[None] for key, value in row.items()})
            files.add({"panoptic": found}, found.shape[:2], image_id=image_id)
        (path,) = files.close()
        official = pq_compute(str(json_file), str(path), str(pngs), str(tmp_path / name / "panoptic"))
        result = metric.result(state)
        for group, end in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
            assert result[f"pq{end}"] == pytest.approx(official[group]["pq"], abs=1e-12)
            assert result[f"pq{end}"] == 1.0 if name == "same" else 0.5 < result[f"pq{end}"] < 1
