"""VOC's average precision and mAP^r against loops written from the definition, and by hand."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxseg.errors import BadInput
from jaxseg.metrics import MaskAPr, VocAP
from jaxseg.metrics.voc_ap import average_precision
from tests.metrics.coco_cases import CLASSES, HEIGHT, WIDTH, folded, images, pasted

NAMES = tuple(f"class {k}" for k in range(CLASSES))


def precision(recalls, precisions, rule):
    if rule == "11 points":
        best = [
            max([p for r, p in zip(recalls, precisions, strict=True) if r >= t], default=0)
            for t in np.arange(0, 1.1, 0.1)
        ]
        return sum(best) / 11
    recall, prec = [0.0, *recalls, 1.0], [0.0, *precisions, 0.0]
    for i in range(len(prec) - 1, 0, -1):
        prec[i - 1] = max(prec[i - 1], prec[i])
    return sum((recall[i] - recall[i - 1]) * prec[i] for i in range(1, len(recall)))


def literally(batch, found, k, overlap, right, rule):
    """One class: detections by falling score, each against the truth of its image that it overlaps most."""
    lines = [
        (float(found["scores"][b, d]), b, d)
        for b in range(len(batch["real"]))
        for d in np.flatnonzero(found["valid"][b] & (found["classes"][b] == k))
    ]
    lines.sort(key=lambda line: -line[0])
    skipped = batch["crowd"] | batch["difficult"]
    number = (batch["valid"] & (batch["classes"] == k) & ~skipped).sum()
    used, tp, fp, recalls, precisions = set(), 0, 0, [], []
    for _, b, d in lines:
        candidates = np.flatnonzero(batch["valid"][b] & (batch["classes"][b] == k))
        ious = [overlap(b, d, n) for n in candidates]
        best = int(np.argmax(ious)) if ious else -1
        if ious and right(ious[best]):
            n = candidates[best]
            if skipped[b, n]:
                continue
            tp, fp = (tp, fp + 1) if (b, n) in used else (tp + 1, fp)
            used.add((b, n))
        else:
            fp += 1
        recalls.append(tp / number)
        precisions.append(tp / (tp + fp))
    return precision(recalls, precisions, rule)


def case(count, seed=5):
    batch, found = images(count, seed)
    batch["difficult"] = np.random.default_rng(seed).random(batch["crowd"].shape) < 0.2
    return batch, found


@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("rule", ["area", "11 points"])
def test_boxes_are_judged_by_the_definition(rule, inclusive):
    batch, found = case(30)
    extra = float(inclusive)

    def overlap(b, d, n):
        (a0, b0, a1, b1), (c0, d0, c1, d1) = found["boxes"][b, d].astype(float), batch["boxes"][b, n].astype(float)
        wide, high = min(a1, c1) - max(a0, c0) + extra, min(b1, d1) - max(b0, d0) + extra
        both = max(wide, 0) * max(high, 0)
        whole = (a1 - a0 + extra) * (b1 - b0 + extra) + (c1 - c0 + extra) * (d1 - d0 + extra) - both
        return both / whole if both else 0.0

    result = folded(VocAP(NAMES, rule, inclusive=inclusive), batch, found)
    expected = [literally(batch, found, k, overlap, lambda iou: iou > 0.5, rule) for k in range(CLASSES)]
    assert 0.05 < min(expected) < max(expected) < 0.95
    np.testing.assert_allclose([result[f"voc_ap/{name}"] for name in NAMES], expected, atol=1e-12)
    assert result["voc_ap"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("rule", ["area", "11 points"])
def test_masks_are_judged_by_the_definition(rule):
    batch, found = case(8)
    batch["difficult"] &= False

    def overlap(b, d, n):
        ours = pasted(found["masks"][b, d], found["boxes"][b, d], HEIGHT, WIDTH)
        true = (batch["instance_ids"][b] == n + 1) | (batch["hidden_ids"][b] == n + 1)
        return (ours & true).sum() / max((ours | true).sum(), 1)

    result = folded(MaskAPr(NAMES, rule=rule), batch, found)
    for name, threshold in (("mask_apr50", 0.5), ("mask_apr70", 0.7)):
        expected = [literally(batch, found, k, overlap, lambda v, t=threshold: v >= t, rule) for k in range(CLASSES)]
        assert max(expected) > 0.05
        np.testing.assert_allclose([result[f"{name}/{label}"] for label in NAMES], expected, atol=1e-12)


def one_class(true, found, scores, **more):
    """An image of ten boxes side by side: which are true, and which are found in what order."""
    boxes = np.asarray([[[10 * i, 0, 10 * i + 10, 10] for i in range(10)]], np.float32)
    batch = {
        "boxes": boxes[:, true],
        "classes": np.zeros((1, len(true)), np.int32),
        "valid": np.ones((1, len(true)), bool),
    }
    batch |= {"real": np.ones(1, bool), **{key: np.asarray([value]) for key, value in more.items()}}
    return batch, {
        "boxes": boxes[:, found],
        "classes": np.zeros((1, len(found)), np.int32),
        "valid": np.ones((1, len(found)), bool),
        "scores": np.asarray([scores], np.float32),
    }


def test_what_it_is_by_hand():
    metric = VocAP(("cat",))
    batch, found = one_class([0, 1, 2], [0, 0, 1, 7], [0.9, 0.8, 0.7, 0.6])  # right, twice, right, wrong
    assert folded(metric, batch, found, 1)["voc_ap"] == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    batch, found = one_class([0, 1, 2], [0, 0, 1, 7], [0.9, 0.8, 0.7, 0.6], difficult=[True, False, False])
    assert folded(metric, batch, found, 1)["voc_ap"] == pytest.approx(1 / 2)
    batch, found = one_class([0], [0], [0.9], difficult=[True])
    assert folded(metric, batch, found, 1) == {}
    batch, found = one_class([0], [], [])
    assert folded(metric, batch, found, 1)["voc_ap"] == 0


def test_an_iou_of_the_threshold_itself_is_wrong_for_boxes():
    batch, found = one_class([0], [0], [0.9])
    found["boxes"] = np.asarray([[[0, 0, 10, 5]]], np.float32)
    assert folded(VocAP(("cat",)), batch, found, 1)["voc_ap"] == 0
    assert folded(VocAP(("cat",), threshold=0.49), batch, found, 1)["voc_ap"] == 1


def test_an_unknown_rule_is_told():
    with pytest.raises((BadInput, TypeCheckError), match="integral"):
        VocAP(("cat",), rule="integral")
    with pytest.raises((BadInput, TypeCheckError), match="integral"):
        MaskAPr(("cat",), rule="integral")


def test_no_detection_gives_nothing():
    assert average_precision(np.zeros(0, bool), 3, "area") == average_precision(np.zeros(0, bool), 3, "11 points") == 0
