"""RoI warping, position-sensitive pooling and mask voting against loops over cells and pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops.backend import using
from jaxseg.ops.mask_voting import Voting, vote_masks
from jaxseg.ops.masks import paste_masks_aligned
from jaxseg.ops.ps_roi_pool import ps_roi_pool
from jaxseg.ops.roi_warp import roi_warp

F = np.float32


def maps(channels, seed=0):
    return np.random.default_rng(seed).standard_normal((2, 10, 14, channels)).astype(F)


BOXES = np.asarray(
    [
        [[8.3, 3.7, 100.9, 90.2], [-20.4, -5.3, 60.1, 200.6], [37.2, 21.9, 41.3, 24.8], [0, 0, 224, 160]],
        [[33.1, 17.6, 70.8, 71.3], [400, 300, 500, 380], [150.2, 90.1, 230.7, 170.9], [1.5, 2.5, 113.5, 99.5]],
    ],
    F,
)
"""Within the image, beyond it, smaller than a cell, the whole; also outside, and corners on halves."""


def hat(cell, at):
    return max(0.0, 1 - abs(at - cell))


def warped_by_loop(x, boxes, size, stride):
    """Equation 8, sample by sample; outside of the map its edge, and further than a cell nothing."""
    (b, h, w, c), x = x.shape, np.asarray(x, np.float64)
    out = np.zeros((b, boxes.shape[1], *size, c))
    for i, p, r, s in np.ndindex(b, boxes.shape[1], *size):
        x0, y0, x1, y1 = (float(v) / stride for v in boxes[i, p])
        v, u = y0 + r / size[0] * (y1 - y0), x0 + s / size[1] * (x1 - x0)
        if -1 <= v <= h and -1 <= u <= w:
            v, u = min(max(v, 0), h - 1), min(max(u, 0), w - 1)
            for y, z in np.ndindex(h, w):
                out[i, p, r, s] += hat(y, v) * hat(z, u) * x[i, y, z]
    return out


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_warping_is_the_sum_over_hats_and_its_gradient_in_the_box_the_finite_difference(backend):
    x, size = maps(3), (3, 5)
    dy = np.random.default_rng(1).standard_normal((2, 4, *size, 3)).astype(F)
    by_loop = partial(warped_by_loop, size=size, stride=16)
    warp = partial(roi_warp, size=size, stride=16)

    @jax.jit
    @using(backend)
    def both(x, boxes, dy):
        y, back = jax.vjp(warp, x, boxes)
        return y, *back(dy)

    y, dx, dbox = both(jnp.asarray(x), jnp.asarray(BOXES), jnp.asarray(dy))
    np.testing.assert_allclose(y, by_loop(x, BOXES), atol=2e-5)
    moved = np.random.default_rng(2).standard_normal(x.shape).astype(F)
    np.testing.assert_allclose((dx * moved).sum(), (by_loop(moved, BOXES) * dy).sum(), rtol=1e-4)
    step, smooth = 1e-3, BOXES.astype(np.float64)  # none of the samples lies so near to a cell
    for side in range(4):
        near, far = smooth.copy(), smooth.copy()
        near[..., side] -= step
        far[..., side] += step
        slope = ((by_loop(x, far) - by_loop(x, near)) * dy).sum((2, 3, 4)) / (2 * step)
        kept = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        rows, columns = np.asarray(kept).T
        np.testing.assert_allclose(np.asarray(dbox)[rows, columns, side], slope[rows, columns], atol=2e-4)


def test_warped_slots_without_a_box_give_zeros_and_take_no_gradient():
    x, boxes = jnp.asarray(maps(2)), BOXES.copy()
    boxes[0, 0, 2], boxes[1, 1] = np.nan, np.inf
    valid = jnp.asarray([[True, True, True, False], [True, True, True, True]])
    nothing = np.asarray([[True, False, False, True], [False, True, False, False]])
    warp = lambda x, boxes: roi_warp(x, boxes, valid, size=2, stride=16)  # noqa: E731
    y, back = jax.vjp(jax.jit(warp), x, jnp.asarray(boxes))
    dx, dbox = back(jnp.asarray(nothing[..., None, None, None] * np.ones(y.shape), F))
    assert (np.asarray(y)[nothing] == 0).all()
    assert (np.asarray(dx) == 0).all()
    assert np.isfinite(dbox).all()
    assert (np.asarray(dbox) == 0).all()


def pooled_by_loop(x, boxes, size, groups, stride):
    """MXNet's operator, one bin at a time; and how many times each cell was read, by its share."""
    b, h, w, c = x.shape
    k = c // groups**2
    out = np.zeros((b, boxes.shape[1], size, size, k))
    cells = []
    away = lambda v: np.sign(v) * np.floor(abs(v) + 0.5)  # noqa: E731
    for i, p, r, s in np.ndindex(b, boxes.shape[1], size, size):
        x0, y0, x1, y1 = (float(away(float(v))) / stride for v in boxes[i, p])
        high, wide = max(y1 - y0, 0.1) / size, max(x1 - x0, 0.1) / size
        top, bottom = (min(max(int(round_(r * high + y0)), 0), h) for r, round_ in ((r, np.floor), (r + 1, np.ceil)))
        left, right = (min(max(int(round_(s * wide + x0)), 0), w) for s, round_ in ((s, np.floor), (s + 1, np.ceil)))
        if top < bottom and left < right:
            part = (r * groups // size) * groups + s * groups // size
            where = (i, slice(top, bottom), slice(left, right), slice(part * k, part * k + k))
            out[i, p, r, s] = x[where].mean((0, 1))
            cells.append(((i, p, r, s), where, (bottom - top) * (right - left)))
    return out, cells


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_each_part_of_a_box_is_pooled_from_its_own_channels(backend):
    x, size, groups = maps(18, seed=3), 6, 3
    # quarters of a cell are exact: no bin ends where rounding decides
    boxes = np.round(BOXES / 4) * 4
    boxes[1, 3] = [1.5, 2.5, 97.5, 98.5]
    want, cells = pooled_by_loop(x, boxes, size, groups, 16)
    dy = np.random.default_rng(4).standard_normal(want.shape).astype(F)
    gradient = np.zeros_like(x)
    for here, where, area in cells:
        gradient[where] += dy[here] / area

    @jax.jit
    @using(backend)
    def both(x, dy):
        y, back = jax.vjp(lambda x: ps_roi_pool(x, jnp.asarray(boxes), size=size, groups=groups, stride=16), x)
        return y, back(dy)[0]

    y, dx = both(jnp.asarray(x), jnp.asarray(dy))
    np.testing.assert_allclose(y, want, atol=1e-5)
    np.testing.assert_allclose(dx, gradient, atol=1e-5)
    assert (np.asarray(y)[1, 1] == 0).all(), "a box outside of the map"


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(BadInput, match="18 channels and 7 bins do not divide into 3 by 3 groups"):
        ps_roi_pool(jnp.zeros((1, 4, 4, 18)), jnp.zeros((1, 1, 4)), size=7, groups=3, stride=16)


def placed(mask, box, height, width):
    """A mask at the pixels whose centres lie in its box, bilinear between its cells and its edge beyond them."""
    out, (x0, y0, x1, y1) = np.zeros((height, width)), box
    side = len(mask)
    for y, x in np.ndindex(height, width):
        if y0 <= y + 0.5 <= y1 and x0 <= x + 0.5 <= x1:
            v = min(max((y + 0.5 - y0) / (y1 - y0) * side - 0.5, 0), side - 1)
            u = min(max((x + 0.5 - x0) / (x1 - x0) * side - 0.5, 0), side - 1)
            out[y, x] = sum(hat(i, v) * hat(j, u) * mask[i, j] for i, j in np.ndindex(side, side))
    return out


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - shared)


def disc(side, x, y, r, soft=1.0):
    at = np.arange(side) + 0.5
    return 1 / (1 + np.exp((np.hypot(at[None] - x, at[:, None] - y) - r) / soft))


def test_votes_are_the_weighted_mean_of_the_masks_at_the_pixels():
    height, width = 56, 64
    boxes = np.asarray([[4, 6, 40, 42], [8, 4, 42, 44], [2, 8, 36, 40], [44, 20, 62, 50], [42, 22, 60, 52]], F)
    masks = np.stack([disc(21, 10 + d, 10, r) for d, r in ((0, 8), (1, 9), (-1, 7), (0, 8), (1, 6))]).astype(F)
    scores = np.asarray([[0.9, 0.05], [0.6, 0.1], [0.3, 0.02], [0.1, 0.8], [0.05, 0.4]], F)
    how = Voting(count=4, score_threshold=0.2)
    vote = jax.jit(lambda *given: vote_masks(*given, how=how, size=jnp.asarray([height, width])))
    voted = jax.device_get(vote(boxes, masks, scores))
    assert voted.valid.tolist() == [True, True, False, False], "the others of a class overlap a better one"
    assert voted.classes[:2].tolist() == [0, 1]
    assert voted.exact
    np.testing.assert_allclose(voted.scores[:2], [0.9, 0.8], atol=1e-6)
    pasted = paste_masks_aligned(jnp.asarray(voted.masks), jnp.asarray(voted.boxes), height=height, width=width)
    for d, (kept, k) in enumerate(((0, 0), (3, 1))):
        voters = [i for i in range(5) if overlap(boxes[i], boxes[kept]) >= 0.5]
        assert len(voters) > 1
        weights = scores[voters, k] / scores[voters, k].sum()
        mean = sum(
            weight * placed(masks[i], boxes[i], height, width) for weight, i in zip(weights, voters, strict=True)
        )
        truth = mean >= how.edge
        rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(voted.boxes[d], box, atol=1.0)
        found = np.asarray(pasted[d])
        assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_rows_without_an_instance_do_not_vote_and_an_empty_mask_keeps_its_box():
    boxes = jnp.asarray([[4.0, 4.0, 20.0, 20.0], [4.0, 4.0, 20.0, 20.0]])
    masks = jnp.stack([jnp.full((7, 7), 0.1), jnp.ones((7, 7))])
    scores, size = jnp.asarray([[0.5], [0.9]]), jnp.asarray([32, 32])
    voted = vote_masks(boxes, masks, scores, how=Voting(count=2), size=size, valid=jnp.asarray([True, False]))
    assert voted.valid.tolist() == [True, False]
    np.testing.assert_allclose(voted.boxes[0], boxes[0])
    np.testing.assert_allclose(voted.masks[0], 0.1 * 0.5 / 0.4, atol=1e-5)
    np.testing.assert_allclose(voted.scores, [0.5, 0])
    with pytest.raises(BadInput, match=r"mean is 1\.0"):
        Voting(edge=1.0)
