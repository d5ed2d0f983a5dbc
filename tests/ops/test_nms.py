"""Suppression against greedy loops in NumPy, both forms on the same boxes, and torchvision where it loads."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import boxes as box_ops
from jaxseg.ops import nms as ops
from jaxseg.ops.backend import using
from tests.torchvision_cpu import torchvision_or_skip

N = 300


@pytest.fixture(params=["cpu", "xla"])
def form(request):
    """Each form in turn; of the blocks the second is not full."""
    with using(request.param):
        yield


def clustered(rng):
    centre = rng.uniform(0, 300, (8, 2))[rng.integers(0, 8, N)]
    corner = centre + rng.normal(0, 6, (N, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 50, (N, 2))], axis=1)


def spread(rng):
    corner = rng.uniform(0, 500, (N, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 80, (N, 2))], axis=1)


def chain(rng):
    """Each box suppresses the next, which would suppress the next but one."""
    left = np.arange(N) * 3.0 + rng.uniform(0, 0.1)
    return np.stack([left, np.zeros(N), left + 10, np.full(N, 10.0)], axis=1)


def whole_pixels(rng):
    """Small ones: overlaps are simple fractions, many exactly 0.5 or 0.6; a fifth has no area, some are inside out."""
    corner = rng.integers(0, 10, (N, 2))
    return np.concatenate([corner, corner + rng.integers(-1, 7, (N, 2))], axis=1)


def broken(rng):
    boxes = clustered(rng)
    boxes[rng.integers(0, N, 40), rng.integers(0, 4, 40)] = np.nan
    boxes[3] = boxes[5] = boxes[3, 0]
    return boxes


KINDS = {kind.__name__: kind for kind in (clustered, spread, chain, whole_pixels, broken)}


def candidates(kind, seed=0):
    """Boxes, and scores of which some are equal, some zero with either sign; in a chain they fall along it."""
    rng = np.random.default_rng(seed)
    boxes = KINDS[kind](rng).astype(np.float32)
    scores = np.round(rng.random(N), 2).astype(np.float32)
    scores[:4] = [0.0, -0.0, -0.0, 0.0]
    return boxes, np.linspace(1, 0.1, N, dtype=np.float32) if kind == "chain" else scores


def greedy(boxes, scores, threshold, classes=None, valid=None):
    """torchvision's CPU operator, written out: floats, and a double for the threshold."""
    order = [i for i in np.argsort(-scores, kind="stable") if valid is None or valid[i]]
    classes = np.zeros(len(boxes), int) if classes is None else classes
    (x0, y0, x1, y1), area = boxes.T, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone, kept = np.zeros(len(boxes), bool), []
    for at, i in enumerate(order):
        if gone[i]:
            continue
        kept.append(i)
        j = np.asarray(order[at + 1 :], int)
        w = np.maximum(np.float32(0), np.minimum(x1[i], x1[j]) - np.maximum(x0[i], x0[j]))
        h = np.maximum(np.float32(0), np.minimum(y1[i], y1[j]) - np.maximum(y0[i], y0[j]))
        shared = w * h
        with np.errstate(all="ignore"):
            iou = shared / (area[i] + area[j] - shared)
        gone[j] |= (classes[j] == classes[i]) & (iou.astype(float) > threshold)
    return kept


def taken(kept):
    """Indices of the slots that are taken; those behind are free, and zero."""
    count = int(np.sum(kept.valid))
    assert not np.any(np.asarray(kept.valid)[count:])
    assert not np.any(np.asarray(kept.index)[count:])
    return np.asarray(kept.index)[:count].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_suppression_keeps_what_loops_keep(form, kind):
    for threshold in (0.3, 0.5, 0.6):
        call = jax.jit(partial(ops.nms, threshold=threshold, count=N))
        for seed in range(3):
            boxes, scores = candidates(kind, seed)
            want = greedy(boxes, scores, threshold)
            assert 10 < len(want) < (N if threshold == 0.3 else N + 1)
            assert taken(call(jnp.asarray(boxes), jnp.asarray(scores))) == want


@pytest.mark.parametrize("kind", KINDS)
def test_classes_suppress_only_their_own(form, kind):
    boxes, scores = candidates(kind)
    rng = np.random.default_rng(5)
    valid = rng.random(N) < 0.7
    for most in (11, 2, 0):  # few slots and many take different loops, and so do classes of a few and of many boxes
        classes = rng.integers(-1, most, N) * 7
        want = greedy(boxes, scores, 0.5, classes, valid)
        assert (want != greedy(boxes, scores, 0.5, None, valid)) == (most > 0)
        given = {"valid": jnp.asarray(valid), "classes": jnp.asarray(classes, jnp.int32)}
        for count in (20, ops.MANY):
            found = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), threshold=0.5, count=count, **given)
            assert taken(found) == want[:count]


@pytest.mark.parametrize("count", [1, 7, 40, 400])
def test_slots_hold_the_best(form, count):
    boxes, scores = candidates("spread")
    found = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), threshold=0.5, count=count)
    assert found.index.shape == found.valid.shape == (count,)
    assert taken(found) == greedy(boxes, scores, 0.5)[:count]
    none = ops.nms(jnp.zeros((0, 4)), jnp.zeros(0), threshold=0.5, count=count)
    assert (none.index.shape, taken(none)) == ((count,), [])
    nothing = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), threshold=0.5, count=count, valid=jnp.zeros(N, bool))
    assert taken(nothing) == []


def test_thresholds_are_compared_as_doubles(form):
    """Ten by six in ten by ten overlap by 0.6 exactly, which is not above 0.6; rounded up to float32 it would be."""
    boxes = jnp.array([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 3, 1], [0, 0, 1, 1], [0, 0, 10, 1]])
    scores = jnp.array([0.9, 0.8, 0.7, 0.6, 0.5])
    for threshold in (0.6, 0.3, 0.1):
        found = ops.nms(boxes, scores, threshold=threshold, count=5)
        assert taken(found) == greedy(np.asarray(boxes), np.asarray(scores), threshold)
        assert float(ops.at_most(threshold)) <= threshold < float(np.nextafter(ops.at_most(threshold), np.float32(1)))
    assert float(np.float32(0.6)) > 0.6


def test_transformations_of_greedy_suppression(form):
    call = partial(ops.nms, threshold=0.5, count=30)
    both = [candidates(kind) for kind in ("clustered", "spread", "chain")]
    boxes, scores = (jnp.asarray(np.stack(x)) for x in zip(*both, strict=True))
    want = [taken(call(b, s)) for b, s in zip(boxes, scores, strict=True)]
    batch = jax.jit(jax.vmap(call))(boxes, scores)
    assert [taken(jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(3)] == want
    nested = jax.vmap(jax.vmap(call))(boxes[None], scores[None])
    np.testing.assert_array_equal(nested.index[0], batch.index)
    classes = jnp.asarray(np.random.default_rng(5).integers(0, 3, N), jnp.int32)
    by_class = partial(ops.nms, threshold=0.5, count=ops.MANY, classes=classes)
    many = jax.vmap(by_class)(boxes, scores)
    for i in range(3):
        assert taken(jax.tree.map(lambda x, i=i: x[i], many)) == taken(by_class(boxes[i], scores[i]))
    shared = jax.vmap(call, in_axes=(None, 0))(boxes[0], scores)
    assert taken(jax.tree.map(lambda x: x[1], shared)) == taken(call(boxes[0], scores[1]))

    def total(b, s):  # what is kept is a choice: gradients pass by it
        kept = call(b, s)
        return jnp.sum(jnp.where(kept.valid[:, None], b[kept.index], 0))

    share = jax.jit(jax.grad(total))(boxes[0], scores[0])
    np.testing.assert_array_equal(share, np.isin(np.arange(N), want[0])[:, None] * np.ones((1, 4)))
    halves = jnp.round(boxes[0] / 2) * 2
    low = call(halves.astype(jnp.bfloat16), scores[0].astype(jnp.bfloat16))
    assert taken(low) == greedy(np.asarray(halves), np.asarray(scores[0].astype(jnp.bfloat16), np.float32), 0.5)[:30]


def test_greedy_suppression_equals_torchvision(form):
    torch = pytest.importorskip("torch")
    theirs = torchvision_or_skip().ops
    try:
        theirs.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (RuntimeError, NotImplementedError):
        pytest.skip("torchvision's compiled operators do not load here")
    for kind in KINDS:
        boxes, scores = candidates(kind)
        found = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), threshold=0.6, count=N)
        assert taken(found) == theirs.nms(torch.tensor(boxes), torch.tensor(scores), 0.6).tolist()


def test_the_largest_scores_come_first():
    scores = jnp.array([0.5, jnp.nan, 0.9, -0.0, 0.0, 0.5, -jnp.inf])  # the two zeros are equal
    best = ops.top_k(scores, 9)
    assert best.index.tolist() == [1, 2, 0, 5, 3, 4, 6, 0, 0]
    assert best.valid.tolist() == [True] * 7 + [False] * 2
    np.testing.assert_array_equal(best.value[1:], np.float32([0.9, 0.5, 0.5, 0, 0, -np.inf, -np.inf, -np.inf]))
    some = ops.top_k(scores, 4, valid=jnp.array([False, False, True, False, True, False, True]))
    assert (some.index.tolist(), some.valid.tolist()) == ([2, 4, 6, 0], [True, True, True, False])
    for dtype in (jnp.bfloat16, jnp.int32):
        x = jnp.asarray(np.random.default_rng(0).permutation(100), dtype)
        assert ops.top_k(x, 5).value.tolist() == [99, 98, 97, 96, 95]
        assert "sort(" not in jax.jit(partial(ops.top_k, k=5)).lower(x).compile().as_text()
    rows = jnp.stack([scores, scores[::-1]])
    batch = jax.vmap(partial(ops.top_k, k=3))(rows)
    np.testing.assert_array_equal(batch.index, [ops.top_k(row, 3).index for row in rows])


def soft(boxes, scores, falloff, count, min_score, classes):
    """Bodla's loop: take the best, lower the others, drop what is too low."""
    iou = np.asarray(box_ops.pairwise_iou(jnp.asarray(boxes), jnp.asarray(boxes)), np.float64)
    left, found = {i: float(s) for i, s in enumerate(scores) if s > min_score}, []
    while left and len(found) < count:
        i = max(left, key=left.get)
        found.append((i, left.pop(i)))
        for j in left:
            left[j] *= falloff(iou[i, j]) if classes[i] == classes[j] else 1
        left = {j: s for j, s in left.items() if s > min_score}
    return found


SOFT = {
    "linear": (partial(ops.soft_nms_linear, threshold=0.3), lambda iou: 1 - iou if iou > 0.3 else 1),
    "gaussian": (partial(ops.soft_nms_gaussian, sigma=0.5), lambda iou: np.exp(-(iou**2) / 0.5)),
}


@pytest.mark.parametrize("name", SOFT)
@pytest.mark.parametrize("kind", ["clustered", "whole_pixels"])
def test_soft_suppression_lowers_scores_as_bodlas_loop(name, kind):
    call, falloff = SOFT[name]
    boxes = candidates(kind)[0][:90]
    scores = np.random.default_rng(3).permutation(90).astype(np.float32) / 90
    classes = np.random.default_rng(4).integers(0, 2, 90)
    for count, min_score, groups in ((30, 1e-3, classes), (120, 0.3, np.zeros(90, int))):
        given = jnp.asarray(groups, jnp.int32) if groups.any() else None
        found = call(jnp.asarray(boxes), jnp.asarray(scores), count=count, min_score=min_score, classes=given)
        want = soft(boxes, scores, falloff, count, min_score, groups)
        assert found.valid.tolist() == [i < len(want) for i in range(count)]
        assert taken(found) == [i for i, _ in want]
        np.testing.assert_allclose(found.score[: len(want)], [s for _, s in want], rtol=1e-4)
        assert not np.any(found.score[len(want) :])


@pytest.mark.parametrize("name", SOFT)
def test_transformations_of_soft_suppression(name):
    call = partial(SOFT[name][0], count=12)
    boxes = jnp.asarray(candidates("clustered")[0])[:20]
    scores = jnp.asarray(np.random.default_rng(3).permutation(20) / 20 + 0.1, jnp.float32)
    one = call(boxes, scores)
    batch = jax.jit(jax.vmap(call))(jnp.stack([boxes, boxes[::-1]]), jnp.stack([scores, scores]))
    np.testing.assert_array_equal(batch.index[0], one.index)
    np.testing.assert_allclose(batch.score[0], one.score, rtol=1e-5)
    masked = call(boxes, scores, valid=jnp.arange(20) != one.index[0])
    assert int(one.index[0]) not in taken(masked)
    jax.test_util.check_grads(jax.jit(lambda s: call(boxes, s).score), (scores,), 1, modes=["rev"], eps=1e-3, rtol=2e-2)
    assert call(boxes.astype(jnp.bfloat16), scores.astype(jnp.bfloat16)).score.dtype == jnp.float32


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="count is 0"):
        ops.nms(jnp.zeros((3, 4)), jnp.zeros(3), threshold=0.5, count=0)
