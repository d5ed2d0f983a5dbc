"""Berkeley's boundary benchmark where the right answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.metrics import BoundaryODS
from jaxseg.metrics.ods import annotations

PLAIN = BoundaryODS(thresholds=3, tolerance=0.05, suppress=False)


def figures(metric, probability, truth, *, key="boundary", cuts=None, **batch):
    state, n = metric.init(), len(probability)
    for rows in np.split(np.arange(n), cuts or []):
        part = {name: jnp.asarray(value[rows]) for name, value in {key: truth, **batch}.items()}
        state = metric.fold(state, metric.observe({"boundary": jnp.asarray(probability[rows])}, part))
    return metric.result(state)


def lines(*columns, size=20):
    mask = np.zeros((size, size), bool)
    mask[:, list(columns)] = True
    return mask


def test_a_boundary_counts_within_the_tolerance_and_not_beyond():
    truth = lines(10)[None]
    near, far = lines(11)[None].astype(np.float32), lines(12)[None].astype(np.float32)
    assert figures(PLAIN, near, truth)["ods"] == 1.0  # 0.05 of 28.3 pixels
    assert figures(PLAIN, far, truth)["ods"] == 0.0


def test_one_threshold_for_all_images_or_the_best_of_each():
    """Of thresholds 1/4, 1/2, 3/4: the first image is best at 1/2 and above, the second below."""
    first = np.where(lines(5), 0.9, np.where(lines(15), 0.4, 0.0))
    second = np.where(lines(5), 0.3, 0.0)
    truth = np.stack([lines(5), lines(5)])
    found = figures(PLAIN, np.stack([first, second]).astype(np.float32), truth)
    assert found["ois"] == 1.0
    # At 1/4 three lines are found and two of them right, at 1/2 one of the two drawn is found; in between it is best.
    t = np.linspace(0, 1, 100)
    recall, precision = 1 - t / 2, 2 / 3 + t / 3
    np.testing.assert_allclose(found["ods"], (2 * recall * precision / (recall + precision)).max())


def test_any_annotators_line_is_right_and_recall_asks_for_everybodys():
    marks = np.zeros((1, 20, 20), np.uint16)
    marks[0, :, 5], marks[0, :, 15] = 3, 2  # annotator 0 drew one line, annotator 1 that and another
    assert [mask.sum() for mask in annotations(marks[0])] == [20, 40]
    found = figures(PLAIN, lines(5)[None].astype(np.float32), marks, key="boundary_marks")
    np.testing.assert_allclose(found["ods"], 2 * (2 / 3) / (1 + 2 / 3))


def test_lines_two_pixels_wide_are_compared_as_one():
    wide = lines(9, 10)[None]
    assert figures(PLAIN, wide.astype(np.float32), wide)["ods"] == 1.0


def test_what_is_padding_or_not_real_adds_nothing():
    probability = np.stack([lines(5), lines(3, 9)]).astype(np.float32)
    probability[0, :, 12:] = 1.0
    truth = np.stack([lines(5), lines(17)])
    size, real = np.asarray([[20, 12], [20, 20]], np.int32), np.asarray([True, False])
    assert figures(PLAIN, probability, truth, size=size, real=real)["ods"] == 1.0


def test_batches_of_any_size_give_the_same_figures():
    rng = np.random.default_rng(0)
    probability, truth = rng.random((4, 24, 30)).astype(np.float32), rng.random((4, 24, 30)) < 0.1
    metric = BoundaryODS(thresholds=4)
    assert figures(metric, probability, truth) == figures(metric, probability, truth, cuts=[1, 3])


def test_nothing_drawn_has_no_figure():
    assert figures(PLAIN, np.ones((1, 9, 9), np.float32), np.zeros((1, 9, 9), bool)) == {}


def test_precision_and_recall_are_interpolated_between_thresholds():
    """Right of found, met of drawn: 10/10, 10/40 at the high threshold, 20/80, 20/40 at the low one."""
    state = np.asarray([[[20, 80, 20, 40], [10, 10, 10, 40]]])
    t = np.linspace(0, 1, 100)
    recall, precision = 0.5 - 0.25 * t, 0.25 + 0.75 * t
    best = (2 * recall * precision / (recall + precision)).max()
    found = BoundaryODS(thresholds=2).result(state)
    assert found["ods"] == pytest.approx(best)
    assert found["ods"] > found["ois"]
    levels = np.arange(25, 51) / 100
    assert found["boundary_ap"] == pytest.approx((1.0 - 3 * (levels - 0.25)).sum() * 0.01)
