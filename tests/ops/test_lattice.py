"""The permutohedral lattice against a plain one with a dictionary of vertices, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops.lattice import blur, lattice


def vertices(f):
    """Corners of the simplex around a point and their weights, by exhaustive search over the ranks."""
    d = len(f)
    c = [x * (2 / 3) ** 0.5 * (d + 1) / ((i + 1) * (i + 2)) ** 0.5 for i, x in enumerate(f)]
    at = np.array([sum(c[j:]) - (j * c[j - 1] if j else 0) for j in range(d + 1)])
    corner = np.round(at / (d + 1)) * (d + 1)
    excess = round(corner.sum()) // (d + 1)
    order = np.argsort(-(at - corner), kind="stable")
    if excess > 0:
        corner[order[len(order) - excess :]] -= d + 1
    elif excess < 0:
        corner[order[:-excess]] += d + 1
    residue = at - corner
    order = np.argsort(-residue, kind="stable")
    found = []
    for k in range(d + 1):
        step = np.full(d + 1, k)
        step[order[d + 1 - k :]] -= d + 1
        high = residue[order[d - k]]
        low = residue[order[d + 1 - k]] if k else residue[order[0]] - (d + 1)
        found.append((tuple(np.round(corner + step).astype(int)), (high - low) / (d + 1)))
    return found


def plain(features, values):
    d = features.shape[1]
    table, corners = {}, [vertices(f) for f in np.asarray(features, float)]
    for some, value in zip(corners, values, strict=True):
        for key, weight in some:
            table[key] = table.get(key, 0) + weight * value
    for j in range(d + 1):
        step = np.ones(d + 1, int)
        step[j] -= d + 1
        table = {
            key: value + (table.get(tuple(np.add(key, step)), 0) + table.get(tuple(np.subtract(key, step)), 0)) / 2
            for key, value in table.items()
        }
    return np.array([sum(w * table[key] for key, w in some) for some in corners]) / (1 + 2.0**-d)


@pytest.mark.parametrize(("count", "d"), [(60, 2), (80, 5)])
def test_equals_the_plain_lattice(count, d):
    rng = np.random.default_rng(d)
    features = rng.normal(size=(count, d)).astype(np.float32) * 1.5
    values = rng.normal(size=(count, 3)).astype(np.float32)
    points = jax.jit(lattice)(jnp.asarray(features))
    np.testing.assert_allclose(points.weight.sum(1), 1, atol=1e-5)
    assert points.weight.min() > -1e-5
    ours = jax.jit(blur)(points, jnp.asarray(values))
    reference = plain(features, values)
    np.testing.assert_allclose(ours, reference, atol=2e-4 * np.abs(reference).max())


def test_the_gradient_is_the_transpose():
    rng = np.random.default_rng(0)
    points = jax.jit(lattice)(jnp.asarray(rng.normal(size=(40, 3)).astype(np.float32)))
    matrix = np.asarray(jax.jit(blur)(points, jnp.eye(40)))
    gradient = jnp.asarray(rng.normal(size=(40, 2)).astype(np.float32))
    back = jax.jit(lambda p, g: jax.vjp(lambda v: blur(p, v), jnp.zeros((40, 2)))[1](g)[0])(points, gradient)
    assert not np.allclose(matrix, matrix.T, atol=1e-6)
    np.testing.assert_allclose(back, matrix.T @ gradient, atol=1e-5)


def test_points_far_apart_do_not_meet():
    """Alone on its simplex a point gets back its own value times one factor; equal points share."""
    call = jax.jit(lambda features, values: blur(lattice(features), values)[:, 0])
    features = jnp.asarray([[0.3, 0.2], [900.0, -700.0], [0.3, 0.2]])
    y = call(features, jnp.asarray([[1.0], [5.0], [2.0]]))
    assert y[0] == y[2]
    alone = call(features.at[2].set(-500.0), jnp.ones((3, 1)))
    np.testing.assert_allclose(y[0] / alone[0], 3, rtol=1e-5)
