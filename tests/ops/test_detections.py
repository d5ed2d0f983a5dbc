"""Post-processing against torchvision's steps written out in NumPy, and the flag that tells whether slots sufficed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import detections as ops
from tests.ops.test_nms import greedy

P, K = 40, 6


def head(seed=0, agnostic=False):
    """Decoded boxes, some without area, and scores of which no two are equal."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 90, (P, 1, 2)) + rng.normal(0, 2, (P, 1 if agnostic else K, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (P, 1, 2))], axis=-1).astype(np.float32)
    boxes[::9, :, 2] = boxes[::9, :, 0]
    scores = (rng.permutation(P * K).reshape(P, K) / (P * K)).astype(np.float32) ** 2
    return boxes, scores


def postprocess(boxes, scores, valid, *, score_threshold, nms_threshold, count):
    """torchvision's ``postprocess_detections``: flat lists, thresholds, least size, suppression by class, the best."""
    flat, corners = scores.reshape(-1), np.broadcast_to(boxes, (P, K, 4)).reshape(-1, 4)
    rows, classes = np.divmod(np.arange(P * K), K)
    large = (corners[:, 2] - corners[:, 0] >= 0.01) & (corners[:, 3] - corners[:, 1] >= 0.01)
    (inds,) = np.nonzero((flat > score_threshold) & large & valid[rows])
    kept = greedy(corners[inds], flat[inds], nms_threshold, classes[inds])[:count]
    return inds[kept], len(inds)


@pytest.mark.parametrize("agnostic", [False, True], ids=["a box a class", "one box"])
def test_detections_are_torchvisions(agnostic):
    settings = {"score_threshold": 0.1, "nms_threshold": 0.5, "count": 25}
    for seed, live in ((0, P), (1, 3), (2, 0)):
        boxes, scores = head(seed, agnostic)
        valid = np.random.default_rng(seed).permutation(P) < live
        found = ops.detections(jnp.asarray(boxes), jnp.asarray(scores), valid=jnp.asarray(valid), **settings)
        want, candidates = postprocess(boxes, scores, valid, **settings)
        assert (candidates > 100) == (live == P)
        assert bool(found.exact)
        count = len(want)
        assert found.valid.tolist() == [i < count for i in range(25)]
        assert (found.rows[:count] * K + found.classes[:count]).tolist() == want.tolist()
        np.testing.assert_array_equal(found.scores[:count], scores.reshape(-1)[want])
        np.testing.assert_array_equal(
            found.boxes[:count], np.broadcast_to(boxes, (P, K, 4)).reshape(-1, 4)[want].reshape(-1, 4)
        )
        assert all(not np.any(x[count:]) for x in (found.boxes, found.scores, found.classes, found.rows))


def test_too_few_slots_are_told():
    boxes, scores = head()
    call = partial(ops.detections, jnp.asarray(boxes), jnp.asarray(scores), score_threshold=0.01)
    for count in (5, 30):
        all_in = call(count=count, slots=P * K)
        assert bool(all_in.exact)
        for slots in (20, 100):
            found = call(count=count, slots=slots)
            same = all(bool(jnp.all(a == b)) for a, b in zip(found[:-1], all_in[:-1], strict=True))
            assert same or not bool(found.exact)
            assert bool(found.exact) == bool(found.valid[-1])  # there are more candidates than slots


def test_transformations():
    call = partial(ops.detections, score_threshold=0.1, count=10, slots=64)
    both = [head(seed) for seed in range(2)]
    boxes, scores = (jnp.asarray(np.stack(x)) for x in zip(*both, strict=True))
    each = [call(b, s) for b, s in zip(boxes, scores, strict=True)]
    batch = jax.jit(jax.vmap(call))(boxes, scores)
    for i, one in enumerate(each):
        for ours, want in zip(batch, one, strict=True):
            np.testing.assert_array_equal(ours[i], want)
    grad = jax.grad(lambda s: jnp.sum(call(boxes[0], s).scores) + jnp.sum(s))(scores[0])
    np.testing.assert_array_equal(grad, jnp.ones((P, K)))
    nan = call(boxes[0].at[0].set(jnp.nan), scores[0].at[1].set(jnp.nan))
    assert not {0, 1} & set(nan.rows[nan.valid].tolist())
    low = call(boxes[0], scores[0].astype(jnp.bfloat16))
    assert low.scores.dtype == jnp.float32
    assert bool(jnp.all(low.valid))


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="2 boxes a row for 3 classes"):
        ops.detections(jnp.zeros((5, 2, 4)), jnp.zeros((5, 3)))
