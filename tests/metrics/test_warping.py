"""Warping against the definition of simple points, and in cases drawn by hand."""

from typing import Any, cast

import numpy as np
import pytest
from scipy import ndimage

from jaxseg.metrics import Warping
from jaxseg.metrics.warping import NEIGHBOURS, simple_points, warped
from jaxseg.types import VOID
from tests.metrics.test_rand import folded

SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))


def groups(pixels, steps):
    """Connected groups of a set of pixels."""
    pixels, found = set(pixels), []
    while pixels:
        group, waiting = set(), [pixels.pop()]
        while waiting:
            y, x = waiting.pop()
            group.add((y, x))
            near = {(y + dy, x + dx) for dy, dx in steps} & pixels
            pixels -= near
            waiting += near
        found.append(group)
    return found


def topology(cells):
    """The numbers of cells (4-connected) and of membranes (8-connected) with membrane all around."""
    padded = np.pad(cells, 1)
    _, cells_found = cast(Any, ndimage.label(padded))
    _, membranes_found = cast(Any, ndimage.label(~padded, np.ones((3, 3))))
    return cells_found, membranes_found


def test_simple_points_are_those_of_the_definition():
    table = simple_points()
    for code in range(256):
        cells = {step for bit, step in enumerate(NEIGHBOURS) if code >> bit & 1}
        touching = [group for group in groups(cells, SIDES) if group & set(SIDES)]
        membranes = groups(set(NEIGHBOURS) - cells, NEIGHBOURS)
        assert table[code] == (len(touching) == len(membranes) == 1)
    assert table.sum() == 116  # of 256, on the square grid (Kong and Rosenfeld 1989)


@pytest.mark.parametrize("seed", range(4))
def test_warping_keeps_the_topology_and_stops_only_where_no_simple_point_is_left(seed):
    rng = np.random.default_rng(seed)
    source, target = (ndimage.gaussian_filter(rng.normal(size=(2, 20, 23)), (0, 1.2, 1.2)) > -0.05)[:2]
    done = warped(source, target)
    assert topology(done) == topology(source) != topology(target)
    assert 0 < (done != target).sum() < (source != target).sum()
    assert (done[source == target] == source[source == target]).all()
    padded, table = np.pad(done, 1), simple_points()
    for y, x in np.argwhere(done != target) + 1:
        code = sum(int(padded[y + dy, x + dx]) << bit for bit, (dy, dx) in enumerate(NEIGHBOURS))
        assert not table[code]


def drawn():
    """Two cells, and a membrane between them two pixels wide."""
    cells = np.ones((14, 20), bool)
    cells[:, 9:11] = False
    return cells


def left(target, source=None):
    source = drawn() if source is None else source
    return int((warped(source, target) != target).sum())


def test_moved_bent_and_widened_membranes_cost_nothing():
    moved, bent, wide = drawn(), drawn(), drawn()
    moved[:] = np.roll(moved, 1, 1)
    bent[4:10] = np.roll(bent[4:10], 1, 1)
    wide[:, 5:14] = False
    assert left(moved) == left(bent) == left(wide) == 0


def test_what_changes_the_topology_costs():
    gap, wide_gap, speck, lost, extra = (drawn() for _ in range(5))
    gap[5, 9:11] = True
    wide_gap[5:9, 9:11] = True
    speck[6:9, 3:6] = False
    lost[:, 11:] = False
    extra[2:12, 4] = False  # a membrane that ends in the cell: a hole in it
    assert left(gap) == 1  # the last pixel that keeps the cells apart
    assert left(wide_gap) == 4
    assert left(speck) == 9
    assert left(lost) == 1  # the last pixel of the cell
    assert left(extra) == 10
    assert left(np.roll(drawn(), 4, 1)) > 0  # further than it is wide: nothing leads there by pixels that differ
    assert left(drawn(), source=np.ones((14, 20), bool)) == 2  # a split: the bridge that holds the cell together


def test_the_errors_are_those_of_their_best_thresholds_over_all_slices():
    true = drawn().astype(np.int32)
    probability = np.where(drawn(), 0.8, 0.1).astype(np.float32)
    probability[5, 9:11] = 0.5  # a gap unless the threshold is above
    both = np.stack([probability, np.roll(probability, 2, 1)]), np.stack([true, true])
    low, high = (Warping(thresholds=(t,)) for t in (0.4, 0.6))
    assert folded(low, *both, (2,))["warping_error"] == 2 / (2 * 280)
    assert folded(high, *both, (2,))["warping_error"] == 0.0
    metric = Warping()
    result = folded(metric, *both, (2,))
    assert result == folded(metric, *both, (1, 1))
    assert result["warping_error"] == 0.0
    found = [both[0] > t for t in metric.thresholds]
    scores = [2 * (f & (both[1] == 1)).sum() / (f.sum() + both[1].sum()) for f in found]
    assert result["pixel_error"] == pytest.approx(1 - max(scores))
    assert len(set(scores)) > 2
    unreal = folded(metric, *both, (2,), real=np.array([True, False]))
    assert unreal == folded(metric, both[0][:1], both[1][:1], (1,))


def test_void_pixels_differ_from_nothing():
    true = np.where(np.arange(20) < 6, VOID, drawn()).astype(np.int32)
    wild = np.random.default_rng(0).random((14, 20)).astype(np.float32)
    probability = np.where(true == VOID, wild, true).astype(np.float32)
    assert folded(Warping(), probability[None], true[None], (1,)) == {"warping_error": 0.0, "pixel_error": 0.0}
    assert folded(Warping(), probability[None], np.full((1, 14, 20), VOID, np.int32), (1,)) == {}
