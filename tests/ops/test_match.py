"""Matching against torchvision's rules written out, and sampling against its counts; both forms of the matching."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import match as ops
from jaxseg.ops.anchors import torchvision_anchors
from jaxseg.ops.backend import using
from tests.torchvision_cpu import torchvision_or_skip

RPN = {"high": 0.7, "low": 0.3, "low_quality": True}
HEAD = {"high": 0.4, "low": 0.4}


@pytest.fixture(params=["cpu", "xla"])
def form(request):
    """Each form in turn; of the chunks the last is not full."""
    with using(request.param):
        yield


@functools.cache
def anchors():
    """21,660 anchors of a small pyramid."""
    grids, sizes = [(60, 80), (30, 40), (5, 4)], ((16,), (24, 32), (48,))
    return torchvision_anchors((120, 160), grids, sizes, ((0.5, 1.0, 2.0),) * 3)[0]


def objects(kind="float", n=9, seed=0):
    """Of whole pixels, overlaps tie; the last one lies outside of the image."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, (120, 100), (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 60, (n, 2))], axis=1)
    boxes = np.round(boxes / 4) * 4 if kind == "whole pixels" else boxes
    boxes[-1] = [500, 500, 520, 520]
    return jnp.asarray(boxes, jnp.float32)


def overlaps(boxes, anchors):
    """float32, in torchvision's order of operations."""
    a, b = np.asarray(boxes)[:, None], np.asarray(anchors)[None]
    side = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), np.float32(0))
    shared = side[..., 0] * side[..., 1]
    size_a, size_b = ((x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b))
    return shared / (size_a + size_b - shared)


def matched(quality, high, low, low_quality=False):
    """torchvision's ``Matcher``, written out."""
    best, arg = quality.max(0), quality.argmax(0)
    found = np.where(best < np.float32(low), -1, np.where(best < np.float32(high), -2, arg))
    if low_quality:
        for row in quality:
            claimed = row == row.max()
            found[claimed] = arg[claimed]
    return found


@pytest.mark.parametrize("kind", ["float", "whole pixels"])
@pytest.mark.parametrize("rule", [RPN, HEAD], ids=["low quality", "one threshold"])
def test_matches_are_torchvisions(form, rule, kind):
    call = jax.jit(partial(ops.match, **rule))
    for seed, count in ((0, 9), (1, 6), (2, 1)):
        boxes, valid = objects(kind, seed=seed), jnp.arange(9) < count
        quality = overlaps(boxes[:count], anchors())
        found = call(boxes, valid, anchors())
        np.testing.assert_array_equal(found.index, matched(quality, **rule))
        np.testing.assert_array_equal(found.iou, quality.max(0))
        assert count < 9 or len(np.unique(found.index)) > 2
        assert count < 9 or not rule.get("low_quality") or -1 not in found.index  # the one outside claims the rest


def test_torchvisions_matcher_agrees(form):
    torch = pytest.importorskip("torch")
    torchvision_or_skip()
    from torchvision.models.detection._utils import Matcher

    boxes = objects()[:-1]
    quality = torch.tensor(overlaps(boxes, anchors()))
    for rule in (RPN, HEAD):
        found = ops.match(boxes, jnp.ones(8, bool), anchors(), **rule)
        want = Matcher(rule["high"], rule["low"], rule.get("low_quality", False))(quality)
        np.testing.assert_array_equal(found.index, want.numpy())


def test_slots_without_an_object_change_nothing(form):
    boxes, places = objects()[:-1], anchors()
    want = ops.match(boxes, jnp.ones(8, bool), places, **RPN)
    bad = jnp.array([[0.0, 0, 0, 0], [3, 3, 3, 9], [jnp.nan] * 4, [0, 0, jnp.inf, 5], [9, 9, 4, 4]])
    mixed = jnp.concatenate([bad, boxes])  # also when they are flagged: without area, or not finite
    found = ops.match(mixed, jnp.ones(13, bool), places, **RPN)
    np.testing.assert_array_equal(found.index, jnp.where(want.index >= 0, want.index + 5, want.index))
    np.testing.assert_array_equal(found.iou, want.iou)
    none = ops.match(boxes, jnp.zeros(8, bool), places, **RPN)
    assert jnp.all(none.index == ops.BELOW)
    assert jnp.all(none.iou == 0)
    empty = ops.match(boxes[:0], jnp.zeros(0, bool), places, **RPN)
    assert jnp.all(empty.index == ops.BELOW)
    assert ops.match(boxes, jnp.ones(8, bool), places[:0], **RPN).index.shape == (0,)


def test_masked_anchors_take_no_part(form):
    boxes, places = objects()[:-1], anchors()
    inside = jnp.all((places >= 0) & (places <= jnp.array([[160.0, 120, 160, 120]])), axis=1)
    inside = inside.at[::7].set(False)
    found = ops.match(boxes, jnp.ones(8, bool), jnp.where(inside[:, None], places, jnp.nan), **RPN)
    for same in (found, ops.match(boxes, jnp.ones(8, bool), places, anchor_valid=inside, **RPN)):
        assert jnp.all(same.index[~inside] == ops.BETWEEN)
        assert jnp.all(same.iou[~inside] == 0)
        np.testing.assert_array_equal(same.index[inside], matched(overlaps(boxes, places[inside]), **RPN))


def test_transformations(form):
    call = partial(ops.match, **RPN)
    boxes, places = jnp.stack([objects()[:-1], objects(seed=1)[:-1]]), anchors()
    valid = jnp.stack([jnp.arange(8) < 5, jnp.arange(8) != 2])
    each = [call(b, v, places) for b, v in zip(boxes, valid, strict=True)]
    batch = jax.jit(jax.vmap(call, in_axes=(0, 0, None)))(boxes, valid, places)
    for i, one in enumerate(each):
        np.testing.assert_array_equal(batch.index[i], one.index)
        np.testing.assert_array_equal(batch.iou[i], one.iou)
    loss = jax.grad(lambda b: jnp.sum(call(b, valid[0], places).iou) + jnp.sum(b))
    np.testing.assert_array_equal(loss(boxes[0]), jnp.ones((8, 4)))  # targets carry no gradient
    low = jnp.round(boxes[0]).astype(jnp.bfloat16)
    np.testing.assert_array_equal(
        call(low, valid[0], places).index, call(low.astype(jnp.float32), valid[0], places).index
    )


def test_crowds_cover_what_lies_in_them():
    boxes = jnp.array([[0.0, 0, 100, 100], [200, 200, 300, 300], [0, 0, 0, 0]])
    places = jnp.array([[10.0, 10, 20, 20], [90, 0, 110, 10], [210, 210, 220, 220], [0, 0, 400, 400], [5, 5, 5, 5]])
    cover = partial(ops.within_crowd, places, boxes, threshold=0.5)
    assert cover(jnp.array([True, False, True])).tolist() == [True, False, False, False, False]
    assert cover(jnp.array([False, True, False])).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("positives", "negatives", "count", "fraction", "want"),
    [
        (50, 200, 16, 0.5, (8, 8)),
        (3, 200, 16, 0.5, (3, 13)),  # negatives make up for positives
        (50, 5, 16, 0.5, (8, 5)),  # nothing makes up for negatives
        (50, 200, 15, 0.5, (7, 8)),  # rounded down
        (0, 0, 8, 0.25, (0, 0)),
        (2, 1, 512, 0.25, (2, 1)),  # more slots than anchors
        (50, 200, 8, 0.0, (0, 8)),
        (50, 200, 8, 1.0, (8, 0)),
    ],
)
def test_samples_have_torchvisions_counts(positives, negatives, count, fraction, want):
    order = np.random.default_rng(0).permutation(300)
    positive, negative = jnp.asarray(order < positives), jnp.asarray(order >= 300 - negatives)
    drawn = ops.sample(jax.random.key(0), positive, negative, count=count, fraction=fraction)
    assert drawn.index.shape == drawn.valid.shape == (count,)
    index = np.asarray(drawn.index)
    chosen, others = index[drawn.valid & drawn.positive], index[drawn.valid & ~drawn.positive]
    assert (len(chosen), len(others)) == want
    assert np.all(np.asarray(positive)[chosen])
    assert np.all(np.asarray(negative)[others])
    assert len({*chosen, *others}) == sum(want)
    assert not jnp.any(drawn.positive & ~drawn.valid)
    assert np.all(index[~drawn.valid] == 0)

    torch = pytest.importorskip("torch")
    torchvision_or_skip()
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    labels = torch.tensor(np.where(positive, 1, np.where(negative, 0, -1)))
    masks = BalancedPositiveNegativeSampler(count, fraction)([labels])
    assert tuple(int(mask[0].sum()) for mask in masks) == want


def test_samples_are_fair_and_follow_their_key():
    positive, negative = jnp.arange(20) < 8, jnp.arange(20) >= 10
    draw = jax.jit(jax.vmap(lambda key: ops.sample(key, positive, negative, count=6, fraction=0.5)))
    drawn = draw(jax.random.split(jax.random.key(0), 4000))
    share = np.bincount(np.asarray(drawn.index).ravel(), minlength=20) / 4000
    np.testing.assert_allclose(share, np.where(positive, 3 / 8, np.where(negative, 3 / 10, 0)), atol=0.03)
    again = draw(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_array_equal(drawn.index, again.index)
    one = ops.sample(jax.random.split(jax.random.key(0), 4000)[7], positive, negative, count=6, fraction=0.5)
    np.testing.assert_array_equal(one.index, drawn.index[7])


def test_mistakes_are_named():
    with pytest.raises(BadInput, match=r"low is 0\.7 and high 0\.3"):
        ops.match(objects(), jnp.ones(9, bool), anchors(), high=0.3, low=0.7)
    with pytest.raises(BadInput, match="a sample of 0"):
        ops.sample(jax.random.key(0), jnp.ones(3, bool), jnp.zeros(3, bool), count=0, fraction=0.5)
