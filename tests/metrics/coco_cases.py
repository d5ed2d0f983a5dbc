"""Random images with objects, as batches and predictions, and as the official tools read them."""

import contextlib
import io

import jax
import numpy as np
from pycocotools import mask as official_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

HEIGHT, WIDTH, SIDE = 56, 72, 14
TRUE, FOUND, JOINTS, CLASSES = 7, 12, 17, 3


def images(count, seed=0):
    """A batch of all images with ``index``, and its predictions: crowds, ties of scores, boxes without area, images
    without objects or detections, objects that overlap, small and large ones."""
    rng = np.random.default_rng(seed)
    batch = {
        "image": np.zeros((count, HEIGHT, WIDTH, 3), np.uint8),
        "boxes": _boxes(rng, (count, TRUE)),
        "classes": rng.integers(0, CLASSES, (count, TRUE)).astype(np.int32),
        "valid": np.arange(TRUE) < rng.integers(0, TRUE + 1, count)[:, None],
        "crowd": rng.random((count, TRUE)) < 0.2,
        "area": rng.uniform(1, 1e4, (count, TRUE)).astype(np.float32),
        "index": np.arange(count),
        "real": np.ones(count, bool),
    }
    batch["valid"][::9] = False
    points = rng.uniform(0, 1, (count, TRUE, JOINTS, 2)) * (
        batch["boxes"][..., None, 2:] - batch["boxes"][..., None, :2]
    )
    points += batch["boxes"][..., None, :2]
    seen = rng.integers(0, 3, (count, TRUE, JOINTS, 1)) * (rng.random((count, TRUE, 1, 1)) < 0.9)
    batch["keypoints"] = np.concatenate([points, seen], -1).astype(np.float32)
    batch["instance_ids"], batch["hidden_ids"] = _maps(batch["boxes"], batch["valid"])
    like = (np.arange(FOUND) + rng.integers(0, 3, (count, 1))) % np.maximum(batch["valid"].sum(1), 1)[:, None]
    near = np.take_along_axis(batch["boxes"], like[..., None], 1) + rng.normal(0, 1.2, (count, FOUND, 4))
    stray = rng.random((count, FOUND)) < 0.2
    boxes = np.where(stray[..., None], _boxes(rng, (count, FOUND)), _sorted(near)).astype(np.float32)
    boxes[rng.random((count, FOUND)) < 0.05, 2:] = 0
    boxes = _sorted(boxes)
    jitter = rng.normal(0, 1.5, (count, FOUND, JOINTS, 2))
    joints = np.take_along_axis(batch["keypoints"], like[..., None, None], 1)
    found = {
        "boxes": boxes,
        "classes": np.where(
            rng.random((count, FOUND)) < 0.2,
            rng.integers(0, CLASSES, (count, FOUND)),
            np.take_along_axis(batch["classes"], like, 1),
        ).astype(np.int32),
        "scores": (rng.integers(0, 6, (count, FOUND)) / 5).astype(np.float32),
        "valid": np.arange(FOUND) < rng.integers(0, FOUND + 1, count)[:, None],
        "masks": rng.uniform(0.45, 1, (count, FOUND, SIDE, SIDE)).astype(np.float32),
        "keypoints": np.concatenate([joints[..., :2] + jitter, rng.random((count, FOUND, JOINTS, 1))], -1),
    }
    found["valid"][::7] = False
    found["keypoints"] = found["keypoints"].astype(np.float32)
    return batch, found


def rows(tree, which):
    return {key: value[which] for key, value in tree.items()}


def folded(metric, batch, found, size=8, order=None):
    """The result over batches of some size; the last one is filled up with rows that are not real."""
    order = np.arange(len(batch["real"])) if order is None else order
    observe, state = jax.jit(metric.observe), metric.init()
    for start in range(0, len(order), size):
        which = order[start : start + size]
        which = np.concatenate([which, np.repeat(which[:1], size - len(which))])
        part = rows(batch, which)
        part["real"] = part["real"] & (np.arange(size) < len(order) - start)
        state = metric.fold(state, jax.device_get(observe(rows(found, which), part)))
    return metric.result(state)


def pasted(mask, box, height, width):
    """torchvision's ``paste_mask_in_image``, written out pixel by pixel."""
    side = len(mask)
    padded = np.zeros((side + 2, side + 2), np.float32)
    padded[1:-1, 1:-1] = mask
    grow = np.float32((side + 2) / side)
    box = np.asarray(box, np.float32)
    middle, half = (box[2:] + box[:2]) * np.float32(0.5), (box[2:] - box[:2]) * np.float32(0.5) * grow
    x0, y0 = (int(v) for v in middle - half)
    x1, y1 = (int(v) for v in middle + half)
    out = np.zeros((height, width), bool)
    at = lambda i, lo, hi: max((np.float32(i - lo) + 0.5) * np.float32((side + 2) / max(hi - lo + 1, 1)) - 0.5, 0.0)  # noqa: E731
    for y in range(max(y0, 0), min(y1 + 1, height)):
        for x in range(max(x0, 0), min(x1 + 1, width)):
            v, u = at(y, y0, y1), at(x, x0, x1)
            i, j = int(v), int(u)
            k, m = min(i + 1, side + 1), min(j + 1, side + 1)
            fv, fu = v - i, u - j
            top = padded[i, j] * (1 - fu) + padded[i, m] * fu
            low = padded[k, j] * (1 - fu) + padded[k, m] * fu
            out[y, x] = top * (1 - fv) + low * fv > 0.5
    return out


def official(kind, batch, found, *, masks=None):
    """What pycocotools makes of them: the evaluator after ``summarize``, by way of ``loadRes``."""
    count = len(batch["real"])
    true, results = [], []
    for b in range(count):
        for n in np.flatnonzero(batch["valid"][b]):
            x0, y0, x1, y1 = batch["boxes"][b, n].astype(float)
            both = (batch["instance_ids"][b] == n + 1) | (batch["hidden_ids"][b] == n + 1)
            true.append(
                {
                    "id": len(true) + 1,
                    "image_id": int(b),
                    "category_id": int(batch["classes"][b, n]) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(batch["area"][b, n]),
                    "iscrowd": int(batch["crowd"][b, n]),
                    "segmentation": official_masks.encode(np.asfortranarray(both.astype(np.uint8))),
                    "keypoints": batch["keypoints"][b, n].astype(float).ravel().tolist(),
                    "num_keypoints": int((batch["keypoints"][b, n, :, 2] > 0).sum()),
                }
            )
        for d in np.flatnonzero(found["valid"][b]):
            x0, y0, x1, y1 = found["boxes"][b, d].astype(float)
            row = {
                "image_id": int(b),
                "category_id": int(found["classes"][b, d]) + 1,
                "score": float(found["scores"][b, d]),
            }
            if kind == "bbox":
                row["bbox"] = [x0, y0, x1 - x0, y1 - y0]
            elif kind == "segm":
                whole = pasted(found["masks"][b, d], found["boxes"][b, d], HEIGHT, WIDTH)
                row["segmentation"] = official_masks.encode(np.asfortranarray(whole.astype(np.uint8)))
            else:
                row["keypoints"] = found["keypoints"][b, d].astype(float).ravel().tolist()
            results.append(row)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": b, "height": HEIGHT, "width": WIDTH} for b in range(count)],
        "categories": [{"id": k + 1, "name": f"class {k}"} for k in range(CLASSES)],
        "annotations": true,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _sorted(boxes):
    return np.concatenate([np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])], -1)


def _boxes(rng, shape):
    corners = rng.uniform(0, 1, (*shape, 4)) * [WIDTH, HEIGHT, WIDTH, HEIGHT]
    small = rng.random(shape) < 0.3
    corners[small, 2:] = corners[small, :2] + rng.uniform(0, 8, (small.sum(), 2))
    flat = rng.random(shape) < 0.05
    corners[flat, 2] = corners[flat, 0]
    return _sorted(np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])).astype(np.float32)


def _maps(boxes, valid):
    """The smaller object in front, the next behind it."""
    front, behind = (np.zeros((len(boxes), HEIGHT, WIDTH), np.uint16) for _ in range(2))
    for b in range(len(boxes)):
        area = (boxes[b, :, 2:] - boxes[b, :, :2]).prod(1)
        for n in np.argsort(-area):
            if valid[b, n]:
                x0, y0, x1, y1 = np.rint(boxes[b, n]).astype(int)
                behind[b, y0:y1, x0:x1] = front[b, y0:y1, x0:x1]
                front[b, y0:y1, x0:x1] = n + 1
    return front, behind
