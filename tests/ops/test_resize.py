"""Resizing against PyTorch, jax.image and a direct evaluation."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import resize

# From 6 x 5: whole factors, fractions, shrinking, one pixel.
SIZES = [(12, 15), (12, 5), (24, 40), (11, 7), (3, 2), (1, 1), (6, 5), (1, 20)]


def maps(dtype=np.float32):
    return jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 5, 3)), dtype)


def sampled(x, size, align_corners):
    """Bilinear interpolation, one output at a time."""
    x = np.asarray(x, np.float64)
    y = np.zeros((x.shape[0], *size, x.shape[3]))
    for p in np.ndindex(*size):
        at = []
        for i, n, m in zip(p, x.shape[1:3], size, strict=True):
            here = i * (n - 1) / max(m - 1, 1) if align_corners else max((i + 0.5) * n / m - 0.5, 0)
            low = min(int(here), n - 1)
            at.append((low, min(low + 1, n - 1), min(here - low, 1)))
        (a, b, s), (c, d, t) = at
        top, bottom = x[:, a, c] * (1 - t) + x[:, a, d] * t, x[:, b, c] * (1 - t) + x[:, b, d] * t
        y[:, p[0], p[1]] = top * (1 - s) + bottom * s
    return y


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_follows_its_definition_and_its_gradient_is_the_transpose(size, align_corners):
    call = partial(resize.resize_bilinear, size=size, align_corners=align_corners)
    x = maps()
    y, back = jax.vjp(jax.jit(call), x)
    np.testing.assert_allclose(y, sampled(x, size, align_corners), atol=1e-5)
    g = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
    (dx,) = back(g)
    for at in [(0, 0, 0, 0), (1, 5, 4, 2), (0, 3, 2, 1)]:
        unit = np.zeros(x.shape)
        unit[at] = 1
        np.testing.assert_allclose(dx[at], (sampled(unit, size, align_corners) * np.asarray(g)).sum(), atol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_resizing_equals_torch(size):
    functional = pytest.importorskip("torch").nn.functional
    torch = pytest.importorskip("torch")
    x = maps()
    theirs = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)

    def compare(ours, **options):
        want = functional.interpolate(theirs, size, **options).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(ours, want, atol=1e-5)

    for align_corners in (False, True):
        ours = resize.resize_bilinear(x, size, align_corners=align_corners)
        compare(ours, mode="bilinear", align_corners=align_corners)
    compare(resize.resize_nearest(x, size), mode="nearest-exact")
    compare(resize.resize_nearest(x, size, half_pixel=False), mode="nearest")


@pytest.mark.parametrize("size", [(12, 15), (11, 7)], ids=str)
@pytest.mark.parametrize("op", [resize.resize_bilinear, resize.resize_nearest])
def test_transformations(op, size):
    call = partial(op, size=size)
    x = maps()
    np.testing.assert_allclose(call(x), jax.jit(call)(x), atol=1e-6)
    stacked = jax.vmap(call)(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(stacked[1], 2 * call(x), atol=1e-6)
    low = call(maps(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), call(x), atol=0.05)
    jax.test_util.check_grads(jax.jit(call), (x,), 1, eps=1.0, atol=1e-3, rtol=1e-3)


def test_whole_factors_need_no_scatter():
    back = jax.grad(lambda x: jnp.sum(resize.resize_bilinear(x, (24, 20)) ** 2))
    assert "scatter" not in jax.jit(back).lower(maps()).as_text()


def test_anchored_cells_keep_their_values():
    """Cell i lies on pixel ``factor * i``; between two the value is linear."""
    x = maps()
    y = resize.resize_anchored(x, 4, (17, 14))
    assert y.shape[1:3] == (17, 14)
    np.testing.assert_allclose(y[:, ::4, ::4], x[:, :5, :4], atol=1e-6)
    np.testing.assert_allclose(y[:, 1], 0.75 * y[:, 0] + 0.25 * y[:, 4], atol=1e-6)
    wide = resize.resize_anchored(x, 4, (27, 14))
    np.testing.assert_allclose(wide[:, :17], y, atol=1e-6)
    np.testing.assert_allclose(wide[:, 21:], jnp.broadcast_to(wide[:, 20:21], wide[:, 21:].shape), atol=1e-6)


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="size is 0"):
        resize.resize_bilinear(maps(), 0)
