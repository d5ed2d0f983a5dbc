"""Rand scores against counting pairs one by one, and against scikit-image."""

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error

from jaxseg.metrics import Rand
from jaxseg.metrics.rand import numbered, pair_sums, thinned
from jaxseg.types import VOID


def flooded(cells):
    """Connected components by walking; each pixel of a membrane is one of its own, counted downwards from -1."""
    label, count = np.zeros(cells.shape, int), 0
    for start in map(tuple, np.argwhere(cells)):
        if label[start]:
            continue
        count, waiting = count + 1, [start]
        while waiting:
            y, x = waiting.pop()
            if 0 <= y < cells.shape[0] and 0 <= x < cells.shape[1] and cells[y, x] and not label[y, x]:
                label[y, x] = count
                waiting += [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
    label[~cells] = -np.arange(1, (~cells).sum() + 1)
    return label


def counted(found, true):
    """Pairs of pixels within the true cells: together in both, in the prediction, in the truth; and the pixels."""
    inside = true > 0
    pairs = list(itertools.combinations(zip(found[inside], true[inside], strict=True), 2))
    both = sum(a == b for a, b in pairs)
    return both, sum(a[0] == b[0] for a, b in pairs), sum(a[1] == b[1] for a, b in pairs), int(inside.sum())


def maps(seed, shape=(9, 11)):
    """A probability of cells and a truth that resembles it."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(2, *shape)), (0, 1, 1))
    field = field / np.abs(field).max()
    return (0.55 + field[0] + 0.3 * field[1]).clip(0, 1).astype(np.float32), (field[0] > -0.1).astype(np.int32)


def folded(metric, probability, label, sizes, real=None):
    real = np.ones(len(label), bool) if real is None else real
    observe, state, start = jax.jit(metric.observe), metric.init(), 0
    for size in sizes:
        rows = slice(start, start + size)
        p = probability[rows]
        state = metric.fold(
            state,
            observe({"probability": np.stack([1 - p, p], -1)}, {"label": label[rows], "real": real[rows]}),
        )
        start += size
    return metric.result(state)


def test_the_error_of_2012_is_that_of_counted_pairs_at_the_best_threshold():
    probability, label = (np.stack(x) for x in zip(*(maps(seed) for seed in range(3)), strict=True))
    metric = Rand(thresholds=(0.3, 0.5, 0.7))
    scores = []
    for threshold in metric.thresholds:
        slices = [counted(flooded(p > threshold), flooded(t == 1)) for p, t in zip(probability, label, strict=True)]
        both, found, true, _ = np.sum(slices, axis=0)
        scores.append(2 * both / (found + true))
    assert len(set(scores)) == 3
    result = folded(metric, probability, label, (3,))
    assert result["rand_error"] == pytest.approx(1 - max(scores))
    assert result == folded(metric, probability, label, (1, 2))
    spoilt = np.concatenate([probability, probability[:1] * 0 + 0.4]), np.concatenate([label, label[:1]])
    assert result == folded(metric, *spoilt, (2, 2), real=np.array([True, True, True, False]))


def test_sums_of_squares_are_ordered_pairs_with_oneself():
    probability, label = maps(3)
    found, true = flooded(probability > 0.5), flooded(label == 1)
    both, of_found, of_true, pixels = counted(found, true)
    sums = pair_sums(numbered(probability > 0.5), numbered(label == 1))
    np.testing.assert_array_equal(sums, [2 * n + pixels for n in (both, of_found, of_true)] + [pixels])


def test_without_membranes_in_the_prediction_it_is_scikit_images_adapted_rand_error():
    rng = np.random.default_rng(0)
    found, true = rng.integers(1, 5, (12, 12)), rng.integers(0, 4, (12, 12))
    both, of_found, of_true, pixels = pair_sums(found, true)
    error = 1 - 2 * (both - pixels) / (of_found + of_true - 2 * pixels)
    assert error == pytest.approx(adapted_rand_error(true, found)[0])


def test_membranes_of_any_width_count_the_same_once_they_are_thin():
    """Two cells side by side; the prediction's membrane is five wide, in the same place."""
    true, found = np.ones((12, 21)), np.ones((12, 21))
    true[:, 10], found[:, 8:13] = 0, 0
    result = folded(Rand(thresholds=(0.5,)), found[None].astype(np.float32), true[None].astype(np.int32), (1,))
    assert result["v_rand"] == 1.0
    assert result["rand_error"] > 0.1
    merged = np.ones((1, 12, 21), np.float32)
    # Two cells of 120 pixels each in one: n_ij^2 sums to 2 * 120^2, n_i^2 to 240^2, n_j^2 to 2 * 120^2.
    result = folded(Rand(thresholds=(0.5,)), merged, true[None].astype(np.int32), (1,))
    assert result["v_rand"] == pytest.approx(2 * 2 / (4 + 2))


def test_thinning_by_hand():
    cells = numbered(
        np.array(
            [
                [1, 1, 1, 0, 0, 0, 1, 1],
                [1, 1, 1, 0, 0, 0, 1, 1],
                [1, 0, 0, 0, 0, 0, 1, 1],  # a membrane that ends within the left cell
                [1, 1, 1, 0, 0, 0, 1, 1],
                [1, 1, 1, 0, 0, 0, 1, 1],
            ]
        )
    )
    grown = thinned(cells)
    assert (grown[:, :3] == 1).all()
    assert (grown[:, 5:] == 2).all()
    np.testing.assert_array_equal((grown == 0).sum(1), [1, 1, 2, 1, 1])  # a corner in the line where the other ends
    for whole in (np.zeros((3, 4), int), np.ones((3, 4), int)):
        np.testing.assert_array_equal(thinned(whole), whole)


@pytest.mark.parametrize("seed", range(3))
def test_thinned_cells_are_apart_and_hold_what_is_nearest_to_them(seed):
    cells = numbered(maps(seed, (24, 30))[0] > 0.6)
    assert cells.max() > 2
    grown = thinned(cells)
    np.testing.assert_array_equal(grown[cells > 0], cells[cells > 0])
    for a, b in ((grown[1:], grown[:-1]), (grown[:, 1:], grown[:, :-1])):
        assert ((a == b) | (a == 0) | (b == 0)).all()
    points = np.argwhere(cells > 0)
    for y, x in np.argwhere((cells == 0) & (grown > 0)):
        far = np.square(points - (y, x)).sum(1)
        assert grown[y, x] in cells[tuple(points[far == far.min()].T)]
    for y, x in np.argwhere(grown == 0):  # no border where there is one cell only
        around = grown[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert len(np.unique(around)) > 2 or (around == 0).sum() > 1


def test_void_is_no_cell_and_nothing_is_said_of_nothing():
    probability, label = maps(0)
    metric = Rand()
    without = np.where(np.arange(label.shape[1]) < 4, 0, label)
    void = np.where(np.arange(label.shape[1]) < 4, VOID, label).astype(np.int32)
    assert (
        folded(metric, probability[None], void[None], (1,))["rand_error"]
        == folded(metric, probability[None], without[None].astype(np.int32), (1,))["rand_error"]
    )
    assert folded(metric, probability[None], np.zeros_like(label)[None], (1,)) == {}
    larger = np.pad(label, 3, constant_values=VOID)
    expected = folded(metric, probability[None], label[None], (1,))
    assert folded(metric, probability[None], larger[None], (1,)) == expected
