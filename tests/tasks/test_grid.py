"""YOLO's losses against loops over cells and objects that follow the papers and darknet line by line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.detection.yolo_v3 import around, grid
from jaxseg.tasks.detection import Detection, natural_loss
from jaxseg.tasks.grid import YOLOv1Loss, YOLOv3Loss

SIDE, PREDICTORS, CLASSES = 3, 2, 4
HEIGHT, WIDTH = 40, 60
BOXES = [
    [[3, 4, 20, 14], [2, 5, 16, 15], [30, 22, 58, 39], [0, 0, 0, 0]],
    [[40, 1, 60, 12], [10, 30, 10.1, 36], [41, 2, 59, 11], [0, 0, 60, 40]],
]
"""Two in one cell; one whose width is below 0.005 of the image's; in the last slot nothing, and a crowd."""

TARGETS = {
    "boxes": jnp.asarray(BOXES, jnp.float32),
    "valid": jnp.asarray([[True, True, True, False], [True] * 4]),
    "crowd": jnp.asarray([[False] * 4, [False, False, False, True]]),
    "classes": jnp.asarray([[1, 3, 0, 0], [2, 1, 0, 3]], jnp.int32),
}


def iou(a, b):
    """Of boxes cx cy w h."""
    low = [max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)]
    high = [min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) for i in (0, 1)]
    shared = max(high[0] - low[0], 0) * max(high[1] - low[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def objects_of(image):
    """(class, cx cy w h in fractions of the image) of each object that counts."""
    for box, valid, crowd, kind in zip(*(np.asarray(TARGETS[k][image]) for k in TARGETS), strict=True):
        if valid and not crowd:
            x0, y0, x1, y1 = box / np.asarray([WIDTH, HEIGHT] * 2)
            yield int(kind), np.asarray([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])


def v1_by_hand(flat, image):
    """Darknet's detection layer: [cells x classes][cells x predictors][cells x predictors x 4]."""
    cells = SIDE * SIDE
    probs = flat[: cells * CLASSES].reshape(cells, CLASSES)
    confs = flat[cells * CLASSES : cells * (CLASSES + PREDICTORS)].reshape(cells, PREDICTORS)
    coords = flat[cells * (CLASSES + PREDICTORS) :].reshape(cells, PREDICTORS, 4)
    told = dict.fromkeys(("boxes", "classes", "confidence", "no_object"), 0.0)
    taken = {}
    for kind, box in objects_of(image):
        if min(box[2:]) < 0.005:
            continue
        column, row = int(box[0] * SIDE), int(box[1] * SIDE)
        taken.setdefault(row * SIDE + column, (kind, box, column, row))
    for cell in range(cells):
        told["no_object"] += 0.5 * sum(confs[cell] ** 2)
        if cell not in taken:
            continue
        kind, box, column, row = taken[cell]
        told["classes"] += sum((probs[cell, k] - (k == kind)) ** 2 for k in range(CLASSES))
        found = [np.asarray([(x + column) / SIDE, (y + row) / SIDE, w * w, h * h]) for x, y, w, h in coords[cell]]
        fits = [iou(one, box) for one in found]
        apart = [np.sqrt(((one - box) ** 2).sum()) for one in found]
        best = int(np.argmax(fits)) if max(fits) > 0 else int(np.argmin(apart))
        told["no_object"] -= 0.5 * confs[cell, best] ** 2
        told["confidence"] += (confs[cell, best] - fits[best]) ** 2
        x, y, w, h = coords[cell, best]
        told["boxes"] += 5 * ((x - (box[0] * SIDE - column)) ** 2 + (y - (box[1] * SIDE - row)) ** 2)
        told["boxes"] += 5 * ((w - np.sqrt(box[2])) ** 2 + (h - np.sqrt(box[3])) ** 2)
    return told


def v1_outputs(flat):
    cells = SIDE * SIDE
    return {
        "cell_logits": jnp.asarray(flat[:, : cells * CLASSES].reshape(-1, SIDE, SIDE, CLASSES)),
        "objectness": jnp.asarray(flat[:, cells * CLASSES : cells * (CLASSES + PREDICTORS)]),
        "anchor_deltas": jnp.asarray(flat[:, cells * (CLASSES + PREDICTORS) :].reshape(len(flat), -1, 4)),
        "image_size": jnp.asarray([[HEIGHT, WIDTH]] * len(flat), jnp.float32),
    }


@pytest.mark.parametrize("scale", [0.4, 0.02], ids=["boxes that overlap", "boxes too small to overlap"])
def test_the_first_yolos_loss_is_darknets_detection_layer(scale):
    rng = np.random.default_rng(0)
    flat = rng.uniform(-0.2, 1.0, (2, SIDE * SIDE * (CLASSES + 5 * PREDICTORS))).astype(np.float32)
    flat[:, -SIDE * SIDE * PREDICTORS * 4 :] *= scale
    outputs = v1_outputs(flat)
    terms = jax.jit(lambda outputs, targets: YOLOv1Loss(weight=0.5).terms(outputs, targets))
    found = terms(outputs, {**TARGETS, "real": jnp.asarray([True, True])})
    by_hand = [v1_by_hand(row.astype(np.float64), i) for i, row in enumerate(flat)]
    for name in found:
        np.testing.assert_allclose(found[name].sum, sum(row[name] for row in by_hand), rtol=1e-4, err_msg=name)
        assert found[name].count == 2
    second = terms(outputs, {**TARGETS, "real": jnp.asarray([False, True])})
    for name in second:
        np.testing.assert_allclose(second[name].sum, by_hand[1][name], rtol=1e-4, err_msg=name)
        assert (second[name].count, second[name].weight) == (1, 0.5)


LEVELS = ((2, ((0.9, 0.7), (0.3, 0.8))), (4, ((0.1, 0.1), (0.3, 0.25))))
"""Cells a side, and width and height of the anchors, in fractions of the image."""


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cross_entropy(x, target):
    return -target * np.log(sigmoid(x)) - (1 - target) * np.log(1 - sigmoid(x))


def v3_by_hand(raw, image, ignore):
    """``raw``: tx ty tw th objectness classes of each anchor, level by level, cell by cell."""
    places = [(i, j, side, w, h) for side, sizes in LEVELS for j in range(side) for i in range(side) for w, h in sizes]
    objects = list(objects_of(image))
    owner, kinds = {}, {}
    for kind, box in objects:
        here = [
            (iou([0, 0, w, h], [0, 0, *box[2:]]), -a)
            for a, (i, j, side, w, h) in enumerate(places)
            if int(box[0] * side) == i and int(box[1] * side) == j
        ]
        a = -max(here)[1]
        owner[a] = box
        kinds.setdefault(a, set()).add(kind)
    told = dict.fromkeys(("boxes", "classes", "objectness"), 0.0)
    for a, (i, j, side, w, h) in enumerate(places):
        tx, ty, tw, th, to = raw[a, :5]
        found = [(i + sigmoid(tx)) / side, (j + sigmoid(ty)) / side, w * np.exp(tw), h * np.exp(th)]
        if a not in owner:
            if not any(iou(found, box) > ignore for _, box in objects):
                told["objectness"] += cross_entropy(to, 0)
            continue
        box = owner[a]
        told["objectness"] += cross_entropy(to, 1)
        scale = 2 - box[2] * box[3]
        told["boxes"] += scale * (cross_entropy(tx, box[0] * side - i) + cross_entropy(ty, box[1] * side - j))
        told["boxes"] += scale * 0.5 * ((tw - np.log(box[2] / w)) ** 2 + (th - np.log(box[3] / h)) ** 2)
        told["classes"] += sum(cross_entropy(raw[a, 5 + k], float(k in kinds[a])) for k in range(CLASSES))
    return told


def v3_outputs(raw):
    cells = np.concatenate([np.repeat(grid(side, side), len(sizes), 0) for side, sizes in LEVELS])
    sides = np.concatenate([np.tile(np.asarray(sizes, np.float32), (side * side, 1)) for side, sizes in LEVELS])
    return {
        "class_logits": jnp.asarray(raw[..., 5:]),
        "objectness": jnp.asarray(raw[..., 4]),
        "anchor_deltas": jnp.asarray(raw[..., :4]),
        "cells": jnp.asarray(cells),
        "anchors": around(jnp.asarray(cells), jnp.asarray(sides)),
        "image_size": jnp.asarray([[HEIGHT, WIDTH]] * len(raw), jnp.float32),
    }


def test_the_third_yolos_loss_is_darknets_yolo_layer():
    count = sum(side * side * len(sizes) for side, sizes in LEVELS)
    raw = np.random.default_rng(1).normal(0, 0.5, (2, count, 5 + CLASSES)).astype(np.float32)
    found = jax.jit(YOLOv3Loss(ignore=0.3).terms)(v3_outputs(raw), TARGETS)
    by_hand = [v3_by_hand(row.astype(np.float64), i, 0.3) for i, row in enumerate(raw)]
    for name in found:
        np.testing.assert_allclose(found[name].sum, sum(row[name] for row in by_hand), rtol=1e-4, err_msg=name)
    everywhere = [v3_by_hand(row.astype(np.float64), i, 1.0)["objectness"] for i, row in enumerate(raw)]
    assert sum(everywhere) > found["objectness"].sum, "some anchors were ignored"


def test_a_task_takes_the_loss_of_the_networks_paper_and_counts_its_classes():
    flat = np.zeros((2, SIDE * SIDE * (CLASSES + 5 * PREDICTORS)), np.float32)
    assert natural_loss(v1_outputs(flat)) == YOLOv1Loss()
    told = jax.eval_shape(Detection(CLASSES).loss, v1_outputs(flat), TARGETS)
    assert set(told) == {"boxes", "classes", "confidence", "no_object"}
    with pytest.raises(ValueError, match=f"outputs for {CLASSES} classes, but the task for 7"):
        Detection(7).loss(v1_outputs(flat), TARGETS)
