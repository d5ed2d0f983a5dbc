"""Panoptic quality against a second implementation, written segment by segment from the definition."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.errors import BadInput
from jaxseg.metrics import PanopticQuality
from jaxseg.types import VOID
from tests.metrics.coco_cases import folded
from tests.metrics.panoptic_cases import CLASSES, SIDE, THINGS, images

METRIC = PanopticQuality(CLASSES, THINGS)


def segments(panoptic):
    pairs = sorted({tuple(pair) for pair in panoptic.reshape(-1, 2).tolist()})
    return [(label, (panoptic == (label, instance)).all(-1), instance) for label, instance in pairs if label != VOID]


def literally(batch, found):
    """For each class: the sum of IoUs, and the numbers of right, wrong and missed segments."""
    total = {k: [0.0, 0, 0, 0] for k in range(len(CLASSES))}
    for b in range(len(batch["panoptic"])):
        true, ours = segments(batch["panoptic"][b]), segments(found["panoptic"][b])
        void = batch["panoptic"][b, ..., 0] == VOID
        crowds = [label < len(THINGS) and bool(batch["crowd"][b, instance - 1]) for label, _, instance in true]
        matched_true, matched_ours = set(), set()
        for t, (label, mask, _) in enumerate(true):
            for o, (guess, other, _) in enumerate(ours):
                if crowds[t] or label != guess:
                    continue
                both = (mask & other).sum()
                iou = both / (mask.sum() + other.sum() - both - (other & void).sum())
                if iou > 0.5:
                    total[label][0] += iou
                    total[label][1] += 1
                    matched_true.add(t)
                    matched_ours.add(o)
        for t, (label, _, _) in enumerate(true):
            total[label][3] += t not in matched_true and not crowds[t]
        for o, (label, mask, _) in enumerate(ours):
            if o in matched_ours:
                continue
            excused = (mask & void).sum()
            for t, (other, there, _) in enumerate(true):
                if crowds[t] and other == label:
                    excused += (mask & there).sum()
            total[label][2] += not excused / mask.sum() > 0.5
    return total


def summary(total, chosen):
    rows = [row for k, row in total.items() if k in chosen and sum(row[1:])]
    quality = [
        (s / (tp + fp / 2 + fn / 2), s / tp if tp else 0.0, tp / (tp + fp / 2 + fn / 2)) for s, tp, fp, fn in rows
    ]
    return np.mean(quality, axis=0)


def test_it_is_the_definition():
    batch, found = images(40)
    result, total = folded(METRIC, batch, found), literally(batch, found)
    assert all(min(row[1:]) > 3 for row in list(total.values())[:3]), total
    for end, chosen in (("", range(5)), ("_things", range(2)), ("_stuff", range(2, 5))):
        np.testing.assert_allclose([result[q + end] for q in ("pq", "sq", "rq")], summary(total, chosen), atol=1e-12)
    for k, name in enumerate(CLASSES):
        assert result[f"pq/{name}"] == pytest.approx(summary(total, [k])[0], abs=1e-12)


def test_what_it_is_by_hand():
    """One cat of 8 pixels, found with 6 of them and 1 of void; one dog missed; sky found twice over grass."""
    true = np.full((1, 4, 8, 2), VOID, np.int32)
    true[..., 1] = 0
    true[0, 0] = (0, 1)
    true[0, 1] = (1, 2)
    true[0, 2] = (3, 0)
    found = np.full((1, 4, 8, 2), VOID, np.int32)
    found[0, 0, :6] = (0, 9)
    found[0, 3, 0] = (0, 9)
    found[0, 2, :4] = (2, 0)
    found[0, 3, 1:] = (1, 3)  # on void: not counted
    result = folded(METRIC, {"panoptic": true, "real": np.ones(1, bool)}, {"panoptic": found}, 1)
    assert result["pq/cat"] == 6 / 8
    assert result["sq_things"] == (6 / 8 + 0) / 2
    assert result["pq/dog"] == result["pq/sky"] == result["pq/grass"] == 0
    assert result["pq"] == 6 / 8 / 4
    assert "pq/sea" not in result


def test_a_crowd_is_neither_missed_nor_wrong():
    true = np.zeros((1, 4, 8, 2), np.int32)
    true[..., 1] = 1
    found = true.copy()
    found[0, :, 4:, 1] = 2
    batch = {"panoptic": true, "instance_ids": true[..., 1].astype(np.uint16), "real": np.ones(1, bool)}
    assert folded(METRIC, {**batch, "crowd": np.asarray([[True]])}, {"panoptic": found}, 1) == {}
    alone = folded(METRIC, {**batch, "crowd": np.asarray([[False]])}, {"panoptic": found}, 1)
    assert alone["pq"] == 0
    other = found.copy()
    other[..., 0] = 1  # dogs on a crowd of cats
    assert folded(METRIC, {**batch, "crowd": np.asarray([[True]])}, {"panoptic": other}, 1)["pq/dog"] == 0


def test_truth_against_itself_is_one_and_eroded_truth_less():
    batch, _ = images(5, seed=3)
    assert folded(METRIC, batch, {"panoptic": batch["panoptic"]})["pq"] == 1.0
    keys = batch["panoptic"][..., 0] * 1000 + batch["panoptic"][..., 1]
    inner = np.stack([(ndimage.maximum_filter(k, 3) == k) & (ndimage.minimum_filter(k, 3) == k) for k in keys])
    eroded = np.where(inner[..., None], batch["panoptic"], np.asarray([VOID, 0], np.int32))
    assert 0.3 < folded(METRIC, batch, {"panoptic": eroded})["pq"] < 1


def test_nothing_is_said_of_nothing():
    void = np.full((1, 4, 4, 2), VOID, np.int32)
    assert folded(METRIC, {"panoptic": void, "real": np.ones(1, bool)}, {"panoptic": void}, 1) == {}
    assert METRIC.result(METRIC.init()) == {}


def test_a_thing_that_is_no_class_is_told():
    with pytest.raises(BadInput, match="among the classes: cow"):
        PanopticQuality(CLASSES, ("cow",))


def test_it_compiles_with_static_shapes():
    batch, found = images(2)
    shapes = jax.eval_shape(METRIC.observe, found, batch)
    assert shapes["crowd"].shape == (2, SIDE, SIDE)
