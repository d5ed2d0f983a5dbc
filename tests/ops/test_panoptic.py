"""Instances and stuff on one map, beside a literal transcription of the procedure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.masks import paste_masks, paste_masks_aligned
from jaxseg.ops.panoptic import merge_panoptic
from jaxseg.types import VOID

HEIGHT, WIDTH, CLASSES = 40, 48, 5


def case(seed, detections=12):
    """Numbers with few digits: then it does not matter how the compiler rounds."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-4, 30, (detections, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(3, 25, (detections, 2))], -1).astype(np.float32)
    boxes = np.round(4 * boxes) / 4
    masks = np.clip(rng.normal(0.7, 0.4, (detections, 8, 8)), 0, 1).astype(np.float32)
    masks[3] = 0
    scores = np.sort(rng.uniform(0.3, 1, detections).astype(np.float32))[::-1].copy()
    classes = rng.integers(3, 5, detections).astype(np.int32)
    valid = np.arange(detections) < detections - 2
    label = rng.integers(0, 3, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1).astype(np.int32)
    label[:8, :8] = VOID
    return masks, boxes, scores, classes, valid, label


def literal(masks, scores, classes, valid, label, *, score_threshold, overlap, stuff_area):
    """Kirillov et al. 2019, section 7, on pasted masks, as detectron2 does it."""
    segment = np.zeros((HEIGHT, WIDTH), np.int32)
    of_pixel = np.full((HEIGHT, WIDTH), VOID, np.int32)
    count = 0
    for i in np.argsort(-scores, kind="stable"):
        if not valid[i] or scores[i] < score_threshold or masks[i].sum() == 0:
            continue
        taken = (segment > 0) & masks[i]
        if taken.sum() / masks[i].sum() > overlap:
            continue
        count += 1
        free = masks[i] & (segment == 0)
        segment[free], of_pixel[free] = count, classes[i]
    for c in np.unique(label):
        free = (label == c) & (segment == 0)
        if c != VOID and free.sum() >= stuff_area:
            of_pixel[free] = c
    return np.stack([of_pixel, segment], -1), count


@pytest.mark.parametrize("paste", [paste_masks, paste_masks_aligned])
def test_the_map_is_that_of_the_literal_procedure(paste):
    how = {"score_threshold": 0.5, "overlap": 0.5, "stuff_area": 100}
    merge = jax.jit(lambda *a: merge_panoptic(*a, num_classes=CLASSES, paste=paste, **how))
    placed, voids = 0, 0
    for seed in range(8):
        masks, boxes, scores, classes, valid, label = case(seed)
        found = merge(masks, boxes, scores, classes, valid, label)
        pasted = np.asarray(paste(jnp.asarray(masks), jnp.asarray(boxes), height=HEIGHT, width=WIDTH))
        expected, count = literal(pasted, scores, classes, valid, label, **how)
        np.testing.assert_array_equal(found.panoptic, expected)
        assert int(found.placed.sum()) == count
        placed += count
        voids += int((expected[..., 0] == VOID).sum())
    assert placed > 20, f"{placed} instances show little"
    assert voids > 100, "small stuff becomes void"
