"""detectron2's geometry beside its definitions written out: stride in the first convolution, exact anchors, aligned and
adaptive RoIAlign, background last, masks from what the box head sees, the semantic branch.

Random weights under detectron2's names; predictors are scaled until scores spread.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.layers.rpn import Proposing
from jaxseg.models.panoptic.panoptic_fpn import DETECTRON2_NAMES, SemanticBranch
from jaxseg.weights.names import convert, restore
from tests.oracles.test_detectors import photograph

torch = pytest.importorskip("torch")
F = torch.nn.functional

CLASSES, BEFORE, AFTER = 5, 150, 60


GAINS = {"objectness": 8.0, "deltas": 0.3}


def weights_of(name, spread):
    """(model, variables, state dict): He's kernels, random norms, and predictors large enough."""
    model = registry.create_small(name, num_classes=CLASSES, test_proposing=Proposing(BEFORE, AFTER, min_size=1e-30))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng, gains = np.random.default_rng(3), {**GAINS, "box_predictor/logits": spread}

    def draw(path, leaf):
        kind, where = path[-1].key, "/".join(p.key for p in path)
        if kind == "kernel":
            gain = next((gain for part, gain in gains.items() if part in where), 1.0)
            return np.float32(rng.normal(size=leaf.shape) * gain * (2 / np.prod(leaf.shape[:-1])) ** 0.5)
        low, high = {"var": (0.5, 1.5), "scale": (0.5, 1.0)}.get(kind, (-0.1, 0.1))
        value = rng.uniform(low, high, leaf.shape).astype(np.float32)
        return value * np.float32(1e3) if where.endswith("backbone/norm1/var") else value

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    state = restore(variables, registry.find(name).names["detectron2"])
    return model, variables, {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def conv_norm(s, name, x, stride=1, padding=0):
    x = F.conv2d(x, s[f"{name}.weight"], stride=stride, padding=padding)
    mean, var, scale, bias = (s[f"{name}.norm.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    gain = scale / (var + 1e-5).sqrt()
    return x * gain[:, None, None] + (bias - mean * gain)[:, None, None]


def block(s, name, x, stride):
    y = F.relu(conv_norm(s, f"{name}.conv1", x, stride))
    y = F.relu(conv_norm(s, f"{name}.conv2", y, padding=1))
    y = conv_norm(s, f"{name}.conv3", y)
    return F.relu(y + (conv_norm(s, f"{name}.shortcut", x, stride) if f"{name}.shortcut.weight" in s else x))


def body(s, prefix, image, stages):
    x = image[..., ::-1].astype(np.float32) - np.float32([103.53, 116.28, 123.675])
    x = torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
    x = F.max_pool2d(F.relu(conv_norm(s, f"{prefix}stem.conv1", x, 2, 3)), 3, 2, 1)
    maps = []
    for stage in range(2, 2 + stages):
        x = block(s, f"{prefix}res{stage}.0", x, 1 if stage == 2 else 2)
        maps.append(x)
    return maps


def linear(s, name, x, stride=1, padding=0):
    return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], stride, padding)


def pyramid(s, image):
    """P2 to P6."""
    maps = body(s, "backbone.bottom_up.", image, 4)
    above, levels = None, []
    for number, x in zip((5, 4, 3, 2), maps[::-1], strict=True):
        lateral = linear(s, f"backbone.fpn_lateral{number}", x)
        above = lateral if above is None else lateral + F.interpolate(above, scale_factor=2, mode="nearest")
        levels.insert(0, linear(s, f"backbone.fpn_output{number}", above, padding=1))
    return [*levels, F.max_pool2d(levels[-1], 1, 2)]


def anchors_of(shape, stride, sizes):
    """Centres at whole strides; for each size each ratio; nothing is rounded."""
    cells = []
    for size in sizes:
        for ratio in (0.5, 1.0, 2.0):
            w = math.sqrt(size * size / ratio)
            cells.append([-w / 2, -ratio * w / 2, w / 2, ratio * w / 2])
    y, x = np.meshgrid(np.arange(shape[0]) * stride, np.arange(shape[1]) * stride, indexing="ij")
    return (np.stack([x, y, x, y], -1)[:, :, None] + np.float32(cells)).reshape(-1, 4).astype(np.float32)


def decoded(anchors, codes, weights):
    dx, dy, dw, dh = (codes[..., i] / weights[i] for i in range(4))
    dw, dh = (np.minimum(d, math.log(1000 / 16)) for d in (dw, dh))
    w, h = anchors[..., 2] - anchors[..., 0], anchors[..., 3] - anchors[..., 1]
    x, y = anchors[..., 0] + w / 2 + dx * w, anchors[..., 1] + h / 2 + dy * h
    w, h = np.exp(dw) * w, np.exp(dh) * h
    return np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)


def clipped(boxes, size):
    return np.stack([np.clip(boxes[..., i], 0, size[1 - i % 2]) for i in range(4)], -1)


def suppressed(boxes, scores, threshold):
    """Indices of greedy suppression, best first."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        a = boxes[i]
        for j in kept:
            b = boxes[j]
            w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            shared = max(w, 0) * max(h, 0)
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
            if shared > threshold * union:
                break
        else:
            kept.append(i)
    return np.asarray(kept, np.int64)


def proposed(s, levels, strides, sizes, size):
    boxes, scores = [], []
    for x, stride, level_sizes in zip(levels, strides, sizes, strict=True):
        hidden = F.relu(linear(s, "proposal_generator.rpn_head.conv", x, padding=1))
        logits = linear(s, "proposal_generator.rpn_head.objectness_logits", hidden)[0].permute(1, 2, 0).reshape(-1)
        codes = linear(s, "proposal_generator.rpn_head.anchor_deltas", hidden)[0].permute(1, 2, 0).reshape(-1, 4)
        best = np.argsort(-logits.numpy(), kind="stable")[:BEFORE]
        anchors = anchors_of(x.shape[2:], stride, level_sizes)[best]
        found = clipped(decoded(anchors, codes.numpy()[best], (1, 1, 1, 1)), size)
        some = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
        found, score = found[some], logits.numpy()[best][some]
        kept = suppressed(found, score, 0.7)
        boxes.append(found[kept])
        scores.append(score[kept])
    order = np.argsort(-np.concatenate(scores), kind="stable")[:AFTER]
    return np.concatenate(boxes)[order]


def cut(levels, strides, boxes, side):
    """RoIAlign as section 4.2 of the paper's later code: half a cell off, as many samples as a bin has cells."""
    regions = []
    for box in boxes.astype(np.float64):
        area = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        level = 0 if len(levels) == 1 else int(np.clip(math.floor(4 + math.log2(area / 224 + 1e-8)), 2, 5)) - 2
        x = levels[level][0].numpy()
        x0, y0, x1, y1 = box / strides[level] - 0.5
        bins = (y1 - y0) / side, (x1 - x0) / side
        gy, gx = (max(math.ceil(b), 1) for b in bins)
        ys = y0 + (np.arange(side * gy) + 0.5) * bins[0] / gy
        xs = x0 + (np.arange(side * gx) + 0.5) * bins[1] / gx
        rows, columns = (taps(v, n) for v, n in ((ys, x.shape[1]), (xs, x.shape[2])))
        sampled = np.einsum("ab,cbd,ed->cae", rows, x, columns)
        regions.append(sampled.reshape(len(x), side, gy, side, gx).mean((2, 4)))
    return torch.from_numpy(np.stack(regions).astype(np.float32))


def taps(places, count):
    """[samples count]: the two cells that each sample reads, none beyond one cell outside."""
    weights = np.zeros((len(places), count))
    for row, place in zip(weights, places, strict=True):
        if -1 <= place <= count:
            low = min(int(max(place, 0)), count - 1)
            part = 0.0 if low == count - 1 else max(place, 0) - low
            row[low] += 1 - part
            row[min(low + 1, count - 1)] += part
    return weights


def detected(s, vectors, rois, size):
    parts = (f"roi_heads.box_predictor.{part}" for part in ("cls_score", "bbox_pred"))
    logits, codes = (F.linear(vectors, s[f"{part}.weight"], s[f"{part}.bias"]) for part in parts)
    scores = F.softmax(logits, -1).numpy()[:, :-1]  # the last is background
    boxes = clipped(decoded(rois[:, None], codes.numpy().reshape(-1, CLASSES, 4), (10, 10, 5, 5)), size)
    found = []
    for k in range(CLASSES):
        rows = np.flatnonzero(scores[:, k] > 0.05)
        kept = rows[suppressed(boxes[rows, k], scores[rows, k], 0.5)]
        found += [(scores[i, k], k, boxes[i, k]) for i in kept]
    return sorted(found, key=lambda one: -one[0])[:20]


def masked(s, x):
    x = F.relu(F.conv_transpose2d(x, s["roi_heads.mask_head.deconv.weight"], s["roi_heads.mask_head.deconv.bias"], 2))
    return torch.sigmoid(linear(s, "roi_heads.mask_head.predictor", x)).numpy()


def agree(found, i, expected, masks):
    """The same detections in the same order up to ties, and the same masks."""
    assert found["valid"][i].sum() == len(expected)
    for n, ((score, kind, box), mask) in enumerate(zip(expected, masks, strict=True)):
        near = (np.abs(found["boxes"][i] - box).max(-1) <= 1e-2) & (np.abs(found["scores"][i] - score) <= 1e-4)
        (slot, *_) = np.flatnonzero(near & (found["classes"][i] == kind) & found["valid"][i])
        assert abs(found["scores"][i][n] - score) <= 1e-4
        np.testing.assert_allclose(found["masks"][i][slot], mask[kind], atol=1e-3)
    return len(expected)


def on_one_map(s, image):
    (x,) = body(s, "backbone.", image, 3)[-1:]
    rois = proposed(s, [x], [16], [(8, 16, 32, 64, 128)], image.shape[:2])
    res5 = functools.partial(block, s, "roi_heads.res5.0", stride=2)
    best = detected(s, res5(cut([x], [16], rois, 14)).mean((2, 3)), rois, image.shape[:2])
    masks = masked(s, res5(cut([x], [16], np.stack([box for *_, box in best]), 14)))
    return best, masks


def on_pyramid(s, image):
    levels = pyramid(s, image)
    strides = (4, 8, 16, 32, 64)
    rois = proposed(s, levels, strides, [(8 << i,) for i in range(5)], image.shape[:2])
    x = cut(levels[:4], strides, rois, 7).flatten(1)
    for i in (1, 2):
        x = F.relu(F.linear(x, s[f"roi_heads.box_head.fc{i}.weight"], s[f"roi_heads.box_head.fc{i}.bias"]))
    best = detected(s, x, rois, image.shape[:2])
    x = cut(levels[:4], strides, np.stack([box for *_, box in best]), 14)
    for i in range(4):
        x = F.relu(linear(s, f"roi_heads.mask_head.mask_fcn{i + 1}", x, padding=1))
    return best, masked(s, x)


@pytest.mark.parametrize(
    ("name", "spread", "theirs", "sizes"),
    [
        ("mask_rcnn_resnet50_c4", 8.0, on_one_map, [(96, 96), (75, 118)]),
        pytest.param("mask_rcnn_resnet101_fpn", 0.5, on_pyramid, [(128, 128), (96, 160)], marks=pytest.mark.slow),
    ],
)
def test_mask_rcnn_equals_detectron2s_definitions(name, spread, theirs, sizes):
    model, variables, state = weights_of(name, spread)
    total = 0
    for size in sizes:
        images = photograph(*size)
        found = jax.device_get(jax.jit(model.apply)(variables, images))
        with torch.no_grad():
            total += sum(agree(found, i, *theirs(state, image)) for i, image in enumerate(images))
    print(f"{total} detections")
    assert total >= 40


def test_the_semantic_branch_equals_detectron2s():
    """Convolution, GroupNorm, ReLU, and a bilinear step for each halving: on P5 three times, on P2 never."""
    rng = np.random.default_rng(0)
    levels = [jnp.asarray(rng.normal(size=(2, 32 >> i, 48 >> i, 8)), jnp.float32) for i in range(4)]
    branch = SemanticBranch(64)
    variables = branch.init(jax.random.key(0), levels, 4, train=False)
    drawn = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.3, jnp.float32), variables)
    rules = tuple((a, b.removeprefix("semantic_branch/")) for a, b in DETECTRON2_NAMES if b and "semantic_branch" in b)
    s = {key: torch.from_numpy(np.array(value)) for key, value in restore(drawn, rules).items()}
    total = 0
    for i, level in enumerate(levels):
        x = torch.from_numpy(np.array(level)).permute(0, 3, 1, 2)
        for k in range(max(1, i)):
            x = F.conv2d(x, s[f"sem_seg_head.p{i + 2}.{2 * k}.weight"], padding=1)
            norm = f"sem_seg_head.p{i + 2}.{2 * k}.norm"
            x = F.relu(F.group_norm(x, 32, s[f"{norm}.weight"], s[f"{norm}.bias"]))
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    x = F.conv2d(total, s["sem_seg_head.predictor.weight"], s["sem_seg_head.predictor.bias"])
    expected = F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False).permute(0, 2, 3, 1).numpy()
    variables = convert({key: value.numpy() for key, value in s.items()}, variables, rules)
    found = jax.jit(lambda v, x: branch.apply(v, x, 4, train=False))(variables, levels)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
