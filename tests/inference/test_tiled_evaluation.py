"""What is evaluated tile by tile: the same figures as of the whole image, and objects across tiles once."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxseg import registry
from jaxseg.errors import BadInput
from jaxseg.inference import tiled_evaluation
from jaxseg.inference.load import TrainedModel
from jaxseg.inference.tiled_evaluation import evaluate_tiled
from jaxseg.models.semantic.unet import unet
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.evaluate import evaluate

SIDE = 28


def test_labels_of_tiles_with_margins_give_the_figures_of_whole_images():
    rng = np.random.default_rng(0)
    model, image = unet(num_classes=3, depth=1, width=2), rng.integers(0, 256, (3, 160, 64, 3)).astype(np.uint8)
    run = TrainedModel(model, jax.jit(model.init)(jax.random.key(0), image), Semantic(3), None, 0, Path(), 0, False)
    label = rng.integers(0, 3, (3, 160, 64)).astype(np.int32)
    batches = [{"image": image, "label": label, "real": np.asarray([True, True, False])}]
    counted = []
    assert evaluate_tiled(run, batches, tile=96, margin=32, on_batch=counted.append) == evaluate(
        run.model, run.variables, run.task, batches
    )
    assert counted == [1]


def discs(rng, size, count):
    """An image with discs, no two near each other, and the batch that says where they are."""
    ids, boxes = np.zeros(size, np.uint16), []
    y, x = np.mgrid[: size[0], : size[1]]
    while len(boxes) < count:
        r = rng.integers(6, 12)
        cy, cx = rng.integers(r + 2, size[0] - r - 2), rng.integers(r + 2, size[1] - r - 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 <= r * r
        if not ids[ndimage.binary_dilation(disc, iterations=4)].any():
            boxes.append([cx - r, cy - r, cx + r + 1, cy + r + 1])
            ids[disc] = len(boxes)
    boxes = np.asarray(boxes, np.float32)
    return {
        "image": np.repeat((ids > 0)[..., None], 3, 2).astype(np.uint8) * 255,
        "boxes": boxes,
        "classes": np.zeros(count, np.int32),
        "valid": np.ones(count, bool),
        "instance_ids": ids,
        "real": np.asarray(True),
    }


def finds_what_is_bright(batch):
    """Every connected bright part of a tile, in slots as a detector gives them."""
    found = {
        "boxes": np.zeros((1, 30, 4), np.float32),
        "scores": np.zeros((1, 30), np.float32),
        "classes": np.zeros((1, 30), np.int32),
        "valid": np.zeros((1, 30), bool),
        "masks": np.zeros((1, 30, SIDE, SIDE), np.float32),
    }
    labels, _ = ndimage.label(batch["image"][0, ..., 0] > 0)
    for slot, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        box = np.asarray([columns.start, rows.start, columns.stop, rows.stop], np.float32)
        found["boxes"][0, slot] = box
        found["masks"][0, slot] = tiled_mask(labels == slot + 1, box)
        found["scores"][0, slot], found["valid"][0, slot] = 0.9 - 0.01 * slot, True
    return found


def tiled_mask(mask, box):
    from jaxseg.inference.stitching import resampled

    return resampled(mask, box, SIDE)


def test_objects_across_tiles_count_once(monkeypatch):
    """A detector that misses nothing is perfect in tiles too; without stitching each cut disc would be found twice."""
    rng = np.random.default_rng(1)
    rows = [discs(rng, (150, 190), 12) for _ in range(2)]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    run = TrainedModel(
        registry.create_small("mask_rcnn_resnet50_fpn"), {}, Instance(1, ("disc",)), None, 0, Path(), 0, False
    )
    monkeypatch.setattr(tiled_evaluation, "base", lambda _: finds_what_is_bright)
    figures = evaluate_tiled(run, [batch], tile=96)
    assert figures["box_ap50"] == figures["mask_ap50"] == pytest.approx(1)
    assert figures["mask_ap"] > 0.8
    whole = evaluate_tiled(run, [batch], tile=256)
    assert whole["box_ap"] == pytest.approx(1)


def test_what_tiles_cannot_give_is_named(monkeypatch):
    run = TrainedModel(unet(num_classes=2, depth=1, width=2), {}, Semantic(2), None, 0, Path(), 0, False)
    monkeypatch.setattr(tiled_evaluation, "base", lambda _: lambda batch: {"other": batch["image"][..., 0]})
    batch = {"image": np.zeros((1, 64, 64, 3), np.uint8), "label": np.zeros((1, 64, 64), np.int32)}
    with pytest.raises(BadInput, match="not assembled from tiles"):
        evaluate_tiled(replace(run, task=Semantic(2)), [batch], tile=64)
