"""Boxes against loops over pairs in NumPy, the authors' formulas, and torchvision."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxseg.ops import boxes as ops
from tests.torchvision_cpu import torchvision_or_skip

SECOND_STAGE = (10.0, 10.0, 5.0, 5.0)


def some(n, seed=0):
    """Boxes of which some touch, some lie within others and some coincide; the last two have no area."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (n, 2)) / 2
    boxes = np.concatenate([corner, corner + rng.integers(1, 9, (n, 2))], axis=1).astype(np.float32)
    boxes[-1, 2:] = boxes[-1, :2]
    boxes[-2, 3] = boxes[-2, 1]
    return jnp.asarray(boxes)


def overlap(a, b):
    """Intersection, union and the box around both, one pair at a time."""
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return w * h, union, hull


def quotient(a, b):
    return a / b if b > 0 else 0.0


def iou_of(a, b):
    shared, union, _ = overlap(a, b)
    return quotient(shared, union)


def giou_of(a, b):
    shared, union, hull = overlap(a, b)
    return quotient(shared, union) - quotient(hull - union, hull)


def ioa_of(a, b):
    return quotient(overlap(a, b)[0], (a[2] - a[0]) * (a[3] - a[1]))


PAIRWISE = {
    "iou": (ops.pairwise_iou, ops.iou, iou_of),
    "giou": (ops.pairwise_giou, ops.giou, giou_of),
    "ioa": (ops.pairwise_ioa, None, ioa_of),
}


@pytest.mark.parametrize("name", PAIRWISE)
def test_overlaps_equal_loops_over_pairs(name):
    pairwise, single, literal = PAIRWISE[name]
    a, b = some(9), some(7, seed=1)
    want = [[literal(x, y) for y in np.asarray(b, np.float64)] for x in np.asarray(a, np.float64)]
    np.testing.assert_allclose(pairwise(a, b), want, atol=1e-6)
    np.testing.assert_allclose(jax.jit(pairwise)(a, b), want, atol=1e-6)
    batch = jax.vmap(pairwise)(jnp.stack([a, a[::-1]]), jnp.stack([b, b]))
    np.testing.assert_allclose(batch[1], want[::-1], atol=1e-6)
    low = pairwise(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))  # halves of small numbers: nothing is lost
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, want, atol=1e-6)
    if single:
        np.testing.assert_allclose(single(a[:7], b), np.diagonal(want), atol=1e-6)
        np.testing.assert_allclose(single(a[None, :7], b[None]), np.diagonal(want)[None], atol=1e-6)
    assert pairwise(a[:0], b).shape == (0, 7)


@pytest.mark.parametrize("name", ["iou", "giou"])
def test_gradients_of_overlaps_are_right_and_finite(name):
    single = PAIRWISE[name][1]
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 3, (2, 6, 2))
    a, b = jnp.asarray(np.concatenate([corner, corner + rng.uniform(2, 5, (2, 6, 2))], axis=-1), jnp.float32)
    jax.test_util.check_grads(jax.jit(single), (a, b), 1, modes=["rev"], eps=1e-2, atol=2e-2, rtol=2e-2)
    for x in jax.grad(lambda a, b: jnp.sum(single(a, b)), (0, 1))(some(6), some(6, seed=1)[::-1]):
        assert jnp.all(jnp.isfinite(x))
    apart = jax.grad(single)(jnp.array([0.0, 0.0, 1.0, 1.0]), jnp.array([3.0, 0.0, 4.0, 1.0]))
    assert bool(jnp.any(apart != 0)) == (name == "giou")


def test_overlaps_equal_torchvision():
    torch = pytest.importorskip("torch")
    theirs = torchvision_or_skip().ops
    a, b = some(40)[:-2], some(30, seed=1)[:-2]
    ta, tb = torch.tensor(np.asarray(a)), torch.tensor(np.asarray(b))
    np.testing.assert_array_equal(ops.pairwise_iou(a, b), theirs.box_iou(ta, tb).numpy())
    np.testing.assert_allclose(ops.pairwise_giou(a, b), theirs.generalized_box_iou(ta, tb).numpy(), atol=1e-6)
    for name, ours in CONVERSIONS.items():
        source, target = name.split("_to_")
        np.testing.assert_allclose(ours[0](a), theirs.box_convert(ta, source, target).numpy(), atol=1e-6)


CONVERSIONS = {
    "xyxy_to_xywh": (ops.xyxy_to_xywh, lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]]),
    "xywh_to_xyxy": (ops.xywh_to_xyxy, lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
    "xyxy_to_cxcywh": (
        ops.xyxy_to_cxcywh,
        lambda b: [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]],
    ),
    "cxcywh_to_xyxy": (
        ops.cxcywh_to_xyxy,
        lambda b: [b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2],
    ),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_keep_the_box(name):
    ours, literal = CONVERSIONS[name]
    back = CONVERSIONS["_to_".join(reversed(name.split("_to_")))][0]
    b = some(9)
    np.testing.assert_array_equal(ours(b), [literal(x) for x in np.asarray(b)])
    np.testing.assert_allclose(back(ours(b)), b, atol=1e-6)


def test_clipping_and_least_sizes():
    b = jnp.array([[-3.0, 2, 5, 99], [30, 40, 31, 41], [1, 1, 2, 1.5], [jnp.nan, 0, 9, 9]])
    inside = ops.clip(b, 10, 20)
    np.testing.assert_array_equal(inside, [[0, 2, 5, 10], [20, 10, 20, 10], [1, 1, 2, 1.5], [np.nan, 0, 9, 9]])
    np.testing.assert_array_equal(jax.jit(ops.clip)(b, jnp.int32(10), jnp.int32(20)), inside)
    assert ops.large_enough(inside, 0.5).tolist() == [True, False, True, False]
    assert ops.large_enough(inside, 0.6).tolist() == [True, False, False, False]
    np.testing.assert_array_equal(ops.area(inside)[:3], [40, 0, 0.5])


def bbox_transform(ex, gt):
    """py-faster-rcnn's, one box at a time."""
    ex_w, ex_h = ex[2] - ex[0] + 1.0, ex[3] - ex[1] + 1.0
    gt_w, gt_h = gt[2] - gt[0] + 1.0, gt[3] - gt[1] + 1.0
    dx = (gt[0] + 0.5 * gt_w - (ex[0] + 0.5 * ex_w)) / ex_w
    dy = (gt[1] + 0.5 * gt_h - (ex[1] + 0.5 * ex_h)) / ex_h
    return [dx, dy, math.log(gt_w / ex_w), math.log(gt_h / ex_h)]


def bbox_transform_inv(box, delta):
    """The same code's inverse, which ends one pixel too far."""
    w, h = box[2] - box[0] + 1.0, box[3] - box[1] + 1.0
    x, y = delta[0] * w + box[0] + 0.5 * w, delta[1] * h + box[1] + 0.5 * h
    w, h = math.exp(delta[2]) * w, math.exp(delta[3]) * h
    return [x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h]


def test_inclusive_codes_are_those_of_py_faster_rcnn():
    gt, anchors = some(8), some(8, seed=3)  # widths + 1: boxes without area have one
    codes = ops.encode_inclusive(gt, anchors)
    pairs = list(zip(np.asarray(anchors, float), np.asarray(gt, float), strict=True))
    np.testing.assert_allclose(codes, [bbox_transform(a, g) for a, g in pairs], atol=1e-6)
    np.testing.assert_allclose(ops.decode_inclusive(codes, anchors), gt, atol=1e-5)
    theirs = [bbox_transform_inv(a, d) for (a, _), d in zip(pairs, np.asarray(codes, float), strict=True)]
    np.testing.assert_allclose(ops.decode_inclusive(codes, anchors, last_pixel=False), theirs, atol=1e-5)
    scaled = ops.encode_inclusive(gt, anchors, SECOND_STAGE)
    np.testing.assert_allclose(scaled, codes * jnp.asarray(SECOND_STAGE)[None], rtol=1e-6)
    np.testing.assert_allclose(ops.decode_inclusive(scaled, anchors, SECOND_STAGE), gt, atol=1e-5)


def test_codes_equal_torchvision_and_lead_back():
    gt, anchors = some(22)[:20], some(22, seed=3)[:20]
    codes = ops.encode(gt, anchors, SECOND_STAGE)
    np.testing.assert_allclose(ops.decode(codes, anchors, SECOND_STAGE), gt, atol=1e-5)
    wild = jnp.asarray(np.random.default_rng(0).normal(0, 20, (20, 12)), jnp.float32)
    ours = ops.decode(wild.reshape(20, 3, 4), anchors[:, None], SECOND_STAGE)
    sides = ours[..., 2] - ours[..., 0]
    bound = 1000 / 16 * (anchors[:, 2] - anchors[:, 0])[:, None]
    assert jnp.all(sides <= bound * 1.001)
    assert jnp.any(sides >= bound * 0.999)

    torch = pytest.importorskip("torch")
    torchvision_or_skip()
    from torchvision.models.detection._utils import BoxCoder

    coder, ta = BoxCoder(SECOND_STAGE), torch.tensor(np.asarray(anchors))
    np.testing.assert_allclose(codes, coder.encode_single(torch.tensor(np.asarray(gt)), ta).numpy(), atol=1e-5)
    theirs = coder.decode_single(torch.tensor(np.asarray(wild)), ta).numpy().reshape(20, 3, 4)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("call", [ops.encode, ops.decode, ops.encode_inclusive, ops.decode_inclusive])
def test_transformations_of_the_codes(call):
    call = partial(call, weights=SECOND_STAGE)
    a, b = some(8)[:6], some(8, seed=3)[:6]
    if "decode" in call.func.__name__:
        a = a / 8
    want = call(a, b)
    np.testing.assert_allclose(jax.jit(call)(a, b), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(call)(jnp.stack([a, b]), jnp.stack([b, b]))[0], want, rtol=1e-5, atol=1e-6)
    jax.test_util.check_grads(jax.jit(call), (a, b), 1, modes=["rev"], eps=1e-2, atol=3e-2, rtol=3e-2)
    low = call(a.astype(jnp.bfloat16), b)
    assert low.dtype == jnp.float32
    np.testing.assert_allclose(low, call(a.astype(jnp.bfloat16).astype(jnp.float32), b), rtol=1e-6)
