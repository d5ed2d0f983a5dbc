"""Depth up to scale and shift: losses and errors that do not see either, and see everything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses.relative_depth import AffineInvariant, GradientMatching, normalized
from jaxseg.metrics import DepthErrors, RelativeDepthErrors
from jaxseg.registry import create_model
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.relative_depth import RelativeDepth


def example():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 5, (2, 9, 11)).astype(np.float32)
    depth[0, :2] = 0
    return {"depth": jnp.asarray(depth), "depth_valid": jnp.asarray(rng.random(depth.shape) < 0.8)}


def inverse(batch):
    return 1 / jnp.maximum(batch["depth"], 0.5)


def test_normalisation_equals_numpy():
    batch = example()
    known = (batch["depth"] > 0) & batch["depth_valid"]
    ours = jax.jit(normalized)(inverse(batch), known)
    for row, at, found in zip(np.asarray(inverse(batch)), np.asarray(known), np.asarray(ours), strict=True):
        middle = np.percentile(row[at], 50, method="inverted_cdf")
        np.testing.assert_allclose(
            found[at], (row[at] - middle) / np.abs(row[at] - middle).mean(), rtol=1e-4, atol=1e-5
        )
        assert not found[~at].any()


def test_scale_and_shift_cost_nothing_and_wrong_edges_do():
    batch, task = example(), RelativeDepth()
    right = task.loss({"inverse_depth": 7 * inverse(batch) + 2}, batch)
    wrong = task.loss({"inverse_depth": inverse(batch)[:, ::-1]}, batch)
    assert set(right) == {"affine_invariant", "gradient"}
    for name, term in right.items():
        assert term.sum / term.count == pytest.approx(0, abs=1e-4)
        assert wrong[name].sum / wrong[name].count > 0.1


def test_the_largest_differences_are_left_out():
    """A fifth of the truth is anything: with ``trim`` it does not matter how wrong it is."""
    truth = jnp.linspace(1.0, 2.0, 100).reshape(1, 10, 10)
    prediction = truth.at[0, 9].add(jnp.linspace(5.0, 50.0, 10))
    known = jnp.ones(truth.shape, bool)
    trimmed, whole = (AffineInvariant(trim)(prediction, truth, known)[0].sum() for trim in (0.2, 0.0))
    assert trimmed < whole / 2


def test_gradients_of_four_scales_equal_a_loop():
    batch = example()
    known = (batch["depth"] > 0) & batch["depth_valid"]
    ours, _ = GradientMatching(scales=3)(inverse(batch) ** 2, inverse(batch), known)
    difference = np.asarray(normalized(inverse(batch) ** 2, known) - normalized(inverse(batch), known))
    for i in range(2):
        total = 0.0
        for step in (1, 2, 4):
            d, at = difference[i, ::step, ::step], np.asarray(known)[i, ::step, ::step]
            down = sum(abs(d[y + 1, x] - d[y, x]) for y, x in np.argwhere(at[1:] & at[:-1]))
            right = sum(abs(d[y, x + 1] - d[y, x]) for y, x in np.argwhere(at[:, 1:] & at[:, :-1]))
            total += (down + right) / at.sum()
        assert float(ours[i]) == pytest.approx(total, rel=1e-4)


def test_errors_are_those_of_the_aligned_depth():
    batch, metric = example(), RelativeDepthErrors()
    noisy = inverse(batch) * jnp.asarray(np.random.default_rng(1).uniform(0.8, 1.2, batch["depth"].shape), jnp.float32)
    seen = jax.jit(metric.observe)({"inverse_depth": 3 * noisy - 0.2}, batch)
    found = metric.result(metric.fold(metric.init(), seen))
    known = np.asarray((batch["depth"] > 0) & batch["depth_valid"])
    depth = np.ones(known.shape, np.float32)
    for i, at in enumerate(known):
        x, t = np.asarray(noisy)[i][at], 1 / np.asarray(batch["depth"])[i][at]
        scale, shift = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), t, rcond=None)[0]
        depth[i] = 1 / np.maximum(scale * np.asarray(noisy)[i] + shift, 0.01)
    plain = DepthErrors()
    expected = plain.result(plain.fold(plain.init(), plain.observe({"depth": jnp.asarray(depth)}, batch)))
    assert found["abs_rel"] > 0.02
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name


def test_a_model_of_metres_has_the_task_of_metres():
    assert RelativeDepth.for_model(create_model("depth_anything_v2_small"), ()) == RelativeDepth()
    assert RelativeDepth.for_model(create_model("depth_anything_v2_small", max_depth=20.0), ()) == Depth()
