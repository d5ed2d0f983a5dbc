"""Measures of salient objects against their definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.metrics import SaliencyMeasures


def figures(p, truth, cuts=None, **batch):
    metric = SaliencyMeasures()
    state = metric.init()
    for rows in np.split(np.arange(len(p)), cuts or []):
        part = {name: jnp.asarray(value[rows]) for name, value in {"saliency": truth, **batch}.items()}
        state = metric.fold(state, jax.jit(metric.observe)({"saliency": jnp.asarray(p[rows])}, part))
    return metric.result(state)


def maps(n=3, height=14, width=17):
    rng = np.random.default_rng(0)
    truth = np.zeros((n, height, width), bool)
    for i in range(n):
        truth[i, 2 + i : 9, 3 : 10 + i] = True
    p = np.clip(0.6 * truth + 0.5 * rng.random(truth.shape), 0, 1)
    return (np.rint(255 * p) / 255).astype(np.float32), truth


def object_score(x):
    return 2 * x.mean() / (x.mean() ** 2 + 1 + x.std(ddof=1))


def region_score(x, t):
    (vx, c), (_, vt) = np.cov(x.ravel(), t.ravel())
    a, b = 4 * x.mean() * t.mean() * c, (x.mean() ** 2 + t.mean() ** 2) * (vx + vt)
    return a / b if a else float(b == 0)


def structure(p, t):
    """The paper's program, for a mask with foreground and background."""
    mu = t.mean()
    objects = mu * object_score(p[t]) + (1 - mu) * object_score(1 - p[~t])
    y, x = (round(float(i.mean())) + 1 for i in np.nonzero(t))
    parts = [np.s_[:y, :x], np.s_[:y, x:], np.s_[y:, :x], np.s_[y:, x:]]
    regions = sum(p[s].size / p.size * region_score(p[s], t[s].astype(float)) for s in parts)
    return 0.5 * objects + 0.5 * regions


def test_the_measures_are_those_of_their_definitions():
    p, truth = maps()
    found = figures(p, truth)
    assert found["mae"] == pytest.approx(np.abs(p - truth).mean(), abs=1e-6)
    assert found["s_measure"] == pytest.approx(
        np.mean([structure(*row) for row in zip(p.astype(float), truth, strict=True)]), abs=1e-5
    )
    best = 0.0
    for level in np.arange(256) / 255:
        cut = p >= level - 1e-6
        hits = (cut & truth).sum((1, 2))
        precision, recall = (hits / np.maximum(x.sum((1, 2)), 1) for x in (cut, truth))
        precision, recall = precision.mean(), recall.mean()
        best = max(best, 1.3 * precision * recall / max(0.3 * precision + recall, 1e-9))
    assert found["max_f"] == pytest.approx(best)


def test_images_without_foreground_or_background_are_judged_by_their_level():
    p = np.full((2, 4, 4), 0.25, np.float32)
    truth = np.stack([np.zeros((4, 4), bool), np.ones((4, 4), bool)])
    assert figures(p, truth)["s_measure"] == pytest.approx((0.75 + 0.25) / 2)
    assert "max_f" not in figures(p[:1], truth[:1])


def test_padding_and_rows_that_are_not_real_add_nothing():
    p, truth = maps()
    expected = figures(p[:2], truth[:2])
    wide_p, wide_truth = (np.pad(x, ((0, 0), (0, 3), (0, 5)), constant_values=1) for x in (p, truth))
    size, real = np.asarray([[14, 17]] * 3, np.int32), np.asarray([True, True, False])
    found = figures(wide_p, wide_truth, cuts=[2], size=size, real=real)
    assert found == pytest.approx(expected, abs=1e-6)
