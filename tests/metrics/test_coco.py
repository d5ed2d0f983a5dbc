"""COCO's average precision against pycocotools, and where objects are judged."""

import pytest

from jaxseg.metrics import CocoBoxes, CocoKeypoints, CocoMasks
from tests.metrics.coco_cases import CLASSES, JOINTS, folded, images, official

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
