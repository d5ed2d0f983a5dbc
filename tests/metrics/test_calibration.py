"""Calibration beside its definition written out, with the confidences themselves instead of counts of levels."""

import jax
import numpy as np
import pytest

from jaxseg.metrics import Calibration


def written_out(probability, label, classes, bins):
    """Guo et al. 2017, equation 3, over the pixels that are not void."""
    known = label < classes
    confidence, right = probability.max(-1)[known], (probability.argmax(-1) == label)[known]
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    parts = [(which == b) for b in range(bins)]
    return sum(p.sum() * abs(right[p].mean() - confidence[p].mean()) for p in parts if p.any()) / known.sum()


def folded(metric, batches):
    state = metric.init()
    for probability, label, real in batches:
        found = {"label": probability.argmax(-1).astype(np.int32), "probability": probability}
        state = metric.fold(state, jax.jit(metric.observe)(found, {"label": label, "real": real}))
    return state


def drawn(rows):
    rng = np.random.default_rng(rows)
    logits = 3 * rng.normal(size=(rows, 9, 7, 4)).astype(np.float32)
    label = rng.integers(0, 5, (rows, 9, 7)).astype(np.int32)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return probability, np.where(label == 4, 255, label).astype(np.int32)


def test_the_error_is_that_of_its_definition_and_batches_do_not_matter():
    probability, label = drawn(6)
    metric = Calibration(4)
    whole = folded(metric, [(probability, label, np.ones(6, bool))])
    assert metric.result(whole)["ece"] == pytest.approx(written_out(probability, label, 4, 15), abs=5e-5)
    padded = [np.concatenate([x[4:], x[:2]]) for x in (probability, label)]
    parts = [
        (probability[:4], label[:4], np.ones(4, bool)),
        (*padded, np.asarray([True, True, False, False])),
    ]
    np.testing.assert_array_equal(folded(metric, parts), whole)


def test_one_who_is_right_as_often_as_it_says_has_no_error():
    probability = np.full((1, 10, 10, 2), (0.7, 0.3), np.float32)
    label = (np.arange(100).reshape(1, 10, 10) >= 70).astype(np.int32)
    metric = Calibration(2)
    state = folded(metric, [(probability, label, np.ones(1, bool))])
    assert metric.result(state)["ece"] < 5e-5
    bins = metric.bins(state)
    assert (bins.pixels.sum(), bins.pixels[10], bins.accuracy[10]) == (100, 100, 0.7)


def test_void_alone_has_no_figure():
    probability, label = drawn(1)
    metric = Calibration(4)
    assert metric.result(folded(metric, [(probability, np.full_like(label, 255), np.ones(1, bool))])) == {}
