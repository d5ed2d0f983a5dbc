"""Pooling and its inverses against XLA's windows, PyTorch and the lecture's numbers."""

import re
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.errors import BadInput
from jaxseg.ops import pool
from jaxseg.types import DATA_AXIS


class Case(NamedTuple):
    """Options of one pooling of 9 x 11 pixels."""

    window: int | tuple[int, int]
    stride: int | tuple[int, int]
    padding: int | tuple[int, int] = 0
    ceil_mode: bool = False


CASES = {
    "2x2": Case(2, 2),
    "2x2, rounded up": Case(2, 2, 0, True),
    "3x3 by 2, padded": Case(3, 2, 1),
    "3x3 by 2, rounded up": Case(3, 2, 0, True),
    "3x3 by 2, padded, rounded up": Case(3, 2, 1, True),
    "3x3 by 1": Case(3, 1, 1),
    "gaps, last window outside": Case(2, 3, 1, True),
    "one pixel by 3": Case(1, 3, 0, True),
    "uneven": Case((3, 2), (2, 1), (1, 0)),
    "disjoint, padded": Case(3, 3, 1),
}
LECTURE = jnp.asarray([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).reshape(1, 4, 4, 1)


def options(case):
    return {"stride": case.stride, "padding": case.padding, "ceil_mode": case.ceil_mode}


def maps(dtype=np.float32, b=2):
    """Small integers, so that windows have ties."""
    return jnp.asarray(np.random.default_rng(0).integers(-3, 4, (b, 9, 11, 3)), dtype)


def windows(case):
    """Every window's rows and columns within 9 x 11, by the rule itself: none starts wholly in the padding."""
    both = lambda n: n if isinstance(n, tuple) else (n, n)  # noqa: E731
    spans = []
    for n, k, s, p in zip((9, 11), both(case.window), both(case.stride), both(case.padding), strict=True):
        starts = []
        start = -p
        while start + k <= n + p or (case.ceil_mode and start + k - s < n + p and start < n):
            starts.append((max(start, 0), min(start + k, n), start))
            start += s
        spans.append(starts)
    return spans


def pooled(x, case):
    """Largest values, one window at a time, and the first place of each within its window."""
    rows, columns = windows(case)
    k = case.window if isinstance(case.window, tuple) else (case.window, case.window)
    x = np.asarray(x)
    y = np.zeros((x.shape[0], len(rows), len(columns), x.shape[3]), x.dtype)
    where = np.zeros(y.shape, int)
    for i, j in np.ndindex(y.shape[1:3]):
        (a, b, top), (c, d, left) = rows[i], columns[j]
        part = x[:, a:b, c:d].reshape(x.shape[0], -1, x.shape[3])
        y[:, i, j] = part.max(1)
        r, q = np.divmod(part.argmax(1), d - c)
        where[:, i, j] = (r + a - top) * k[1] + q + c - left
    return y, where


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_max_pool_takes_the_first_largest_of_each_window(case):
    x = maps()
    values, switches = pooled(x, case)
    y, found = jax.jit(partial(pool.max_pool_with_switches, window=case.window, **options(case)))(x)
    np.testing.assert_array_equal(y, values)
    np.testing.assert_array_equal(found, switches)
    assert found.dtype == jnp.int8
    np.testing.assert_array_equal(pool.max_pool(x, case.window, **options(case)), values)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradient_goes_to_the_winners_and_unpooling_is_its_transpose(case):
    x = maps()
    call = jax.jit(partial(pool.max_pool, window=case.window, **options(case)))
    y, back = jax.vjp(call, x)
    g = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    rows, columns = windows(case)
    _, switches = pooled(x, case)
    width = case.window[1] if isinstance(case.window, tuple) else case.window
    want = np.zeros(x.shape)
    for (b, i, j, c), at in np.ndenumerate(switches):
        want[b, rows[i][2] + at // width, columns[j][2] + at % width, c] += g[b, i, j, c]
    np.testing.assert_allclose(back(g)[0], want, atol=1e-5)
    with_switches = lambda x: pool.max_pool_with_switches(x, case.window, **options(case))[0]  # noqa: E731
    np.testing.assert_allclose(jax.vjp(with_switches, x)[1](g)[0], want, atol=1e-5)

    geometry = {"stride": case.stride, "padding": case.padding, "size": (9, 11)}
    spread = partial(pool.max_unpool, switches=jnp.asarray(switches, jnp.int8), window=case.window, **geometry)
    np.testing.assert_allclose(jax.jit(spread)(g), want, atol=1e-5)
    (gathered,) = jax.vjp(spread, y)[1](x)
    np.testing.assert_allclose(gathered, y, atol=1e-5)


def test_the_lectures_pooling_and_unpooling():
    y, switches = pool.max_pool_with_switches(LECTURE, 2)
    np.testing.assert_array_equal(y[0, :, :, 0], [[5, 6], [7, 8]])
    x = jnp.asarray([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
    unpooled = pool.max_unpool(x, switches, 2)[0, :, :, 0]
    np.testing.assert_array_equal(unpooled, [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]])
    nearest = pool.unpool_nearest(x, 2)[0, :, :, 0]
    np.testing.assert_array_equal(nearest, [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    nails = pool.unpool_bed_of_nails(x, 2)[0, :, :, 0]
    np.testing.assert_array_equal(nails, [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])


def test_pooling_equals_reduce_window_and_its_gradient():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 11, 3)), jnp.float32)

    def plain(x):
        around = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, np.float32(-np.inf), lax.max, (1, 3, 3, 1), (1, 2, 2, 1), around)

    for transform in (lambda f: f, lambda f: jax.grad(lambda x: jnp.sum(f(x) ** 3))):
        ours = transform(partial(pool.max_pool, window=3, stride=2, padding=1))
        np.testing.assert_allclose(jax.jit(ours)(x), jax.jit(transform(plain))(x), atol=1e-5)


@pytest.mark.parametrize("case", [CASES["2x2, rounded up"], CASES["3x3 by 2, padded"]], ids=["disjoint", "overlapping"])
def test_transformations(case):
    call = partial(pool.max_pool, window=case.window, **options(case))
    x = jnp.asarray(np.random.default_rng(0).permutation(2 * 9 * 11 * 3).reshape(2, 9, 11, 3), jnp.float32)
    np.testing.assert_array_equal(call(x), jax.jit(call)(x))
    np.testing.assert_array_equal(jax.vmap(call)(jnp.stack([x, -x]))[1], call(-x))
    grad = jax.grad(lambda x: jnp.sum(jnp.sin(call(x))))
    np.testing.assert_allclose(jax.vmap(grad)(jnp.stack([x, -x]))[1], grad(-x), atol=1e-6)
    again = jax.grad(lambda x: jnp.sum(jnp.sin(jax.checkpoint(call)(x))))
    np.testing.assert_allclose(jax.jit(again)(x), grad(x), atol=1e-6)
    jax.test_util.check_grads(
        jax.jit(lambda x: jnp.sin(call(x))), (x,), 2, modes=["rev"], eps=1e-2, atol=1e-2, rtol=1e-2
    )
    low = call(x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, call(x).astype(jnp.bfloat16))
    assert not re.search("scatter", jax.jit(grad).lower(x).as_text())


def test_a_batch_spread_over_devices_exchanges_nothing():
    mesh = Mesh(np.array(jax.devices()), (DATA_AXIS,))
    rows = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

    def loss(x):
        y, switches = pool.max_pool_with_switches(x, 2)
        small = pool.adaptive_avg_pool(pool.avg_pool(pool.max_pool(y, 3, stride=2, padding=1), 2), 1)
        return jnp.sum(pool.max_unpool(y, switches, 2) ** 2) + jnp.sum(small**2)

    step = jax.jit(jax.grad(loss), in_shardings=rows, out_shardings=rows)
    x = maps(b=4)
    assert not re.search(r"all-|collective-permute", step.lower(x).compile().as_text())
    np.testing.assert_allclose(step(x), jax.grad(loss)(x), atol=1e-5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_average_pool_divides_by_what_counts(case):
    x = maps()
    rows, columns = windows(case)
    k = case.window if isinstance(case.window, tuple) else (case.window, case.window)
    p = case.padding if isinstance(case.padding, tuple) else (case.padding, case.padding)
    for count_include_pad in (True, False):
        call = partial(pool.avg_pool, window=case.window, count_include_pad=count_include_pad, **options(case))
        y = jax.jit(call)(x)
        for i, j in np.ndindex(y.shape[1:3]):
            (a, b, top), (c, d, left) = rows[i], columns[j]
            cells = (b - a) * (d - c)
            if count_include_pad:
                cells = (min(top + k[0], 9 + p[0]) - top) * (min(left + k[1], 11 + p[1]) - left)
            want = np.asarray(x)[:, a:b, c:d].sum((1, 2)) / cells
            np.testing.assert_allclose(y[:, i, j], want, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_pooling_equals_torch(name):
    torch = pytest.importorskip("torch")
    functional, case = torch.nn.functional, CASES[name]
    x = maps()
    theirs = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)
    ours = pool.max_pool(x, case.window, **options(case))
    want = functional.max_pool2d(theirs, case.window, case.stride, case.padding, ceil_mode=case.ceil_mode)
    np.testing.assert_array_equal(ours, want.permute(0, 2, 3, 1).numpy())
    ours = pool.avg_pool(x, case.window, **options(case))
    want = functional.avg_pool2d(theirs, case.window, case.stride, case.padding, ceil_mode=case.ceil_mode)
    np.testing.assert_allclose(ours, want.permute(0, 2, 3, 1).numpy(), atol=1e-6)


@pytest.mark.parametrize("size", [1, (3, 11), (2, 3), (4, 6)], ids=str)
def test_adaptive_pooling_covers_the_map(size):
    x = maps()
    m, n = (size, size) if isinstance(size, int) else size
    best, mean = (jax.jit(partial(op, size=size))(x) for op in (pool.adaptive_max_pool, pool.adaptive_avg_pool))
    assert best.shape == mean.shape == (2, m, n, 3)
    for i, j in np.ndindex(m, n):
        part = np.asarray(x)[:, i * 9 // m : -(-(i + 1) * 9 // m), j * 11 // n : -(-(j + 1) * 11 // n)]
        np.testing.assert_array_equal(best[:, i, j], part.max((1, 2)))
        np.testing.assert_allclose(mean[:, i, j], part.mean((1, 2)), atol=1e-5)
    for op in (pool.adaptive_avg_pool, pool.adaptive_max_pool):
        assert jax.eval_shape(partial(op, size=size), x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: pool.max_pool(x, 10), "does not fit"),
        (lambda x: pool.max_pool(x, 2, padding=2), "less than 2"),
        (lambda x: pool.max_pool_with_switches(x, 12, padding=4), "127"),
        (lambda x: pool.max_pool(x, 0), "window is 0"),
        (lambda x: pool.max_unpool(x, x.astype(jnp.int8), 2, padding="SAME"), "give numbers"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(BadInput, match=words):
        call(maps())
