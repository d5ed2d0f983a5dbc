"""Keypoints and heatmaps over boxes against PyTorch's bicubic resizing and the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops import keypoints

F = np.float32
BOXES = np.array([[0, 0, 90.3, 70], [10.25, 20.5, 40.75, 90], [5, 5, 5, 5], [-20, -10.5, 150, 3], [3, 3, 67, 131.2]], F)
"""Of one tile and of several, of one pixel, beyond the image."""


def heatmaps():
    return np.random.default_rng(0).standard_normal((len(BOXES), 14, 14, 3)).astype(F)


def test_peaks_are_those_of_the_enlarged_heatmap():
    functional = pytest.importorskip("torch").nn.functional
    torch, maps = pytest.importorskip("torch"), heatmaps()
    maps[1, 3, 4] = maps[1, 11, 4] = 9  # ties up to rounding
    maps[1, 3, 4] += 1e-3
    arguments = jnp.asarray(maps), jnp.asarray(BOXES)
    ours = np.asarray(jax.jit(keypoints.keypoints_from_heatmaps)(*arguments))
    for n, (x0, y0, x1, y1) in enumerate(BOXES):
        width, height = max(x1 - x0, F(1)), max(y1 - y0, F(1))
        size = (int(np.ceil(height)), int(np.ceil(width)))
        large = functional.interpolate(torch.tensor(maps[n]).permute(2, 0, 1)[None], size=size, mode="bicubic")[0]
        at = large.flatten(1).argmax(1).numpy()
        want_x = (at % size[1] + 0.5) * (width / size[1]) + x0
        want_y = (at // size[1] + 0.5) * (height / size[0]) + y0
        np.testing.assert_allclose(ours[n, :, 0], want_x, atol=1e-3)
        np.testing.assert_allclose(ours[n, :, 1], want_y, atol=1e-3)
        np.testing.assert_allclose(ours[n, :, 2], large.flatten(1).max(1).values.numpy(), atol=1e-5)
    side_by_side = jax.vmap(lambda m, b: keypoints.keypoints_from_heatmaps(m[None], b[None])[0])(*arguments)
    np.testing.assert_allclose(side_by_side, ours, atol=1e-5)


def test_equal_peaks_give_the_first_and_empty_slots_zeros():
    maps = np.zeros((3, 4, 4, 2), F)
    boxes = np.array([[0, 0, 200, 200], [0, 0, 9, np.nan], [0, 0, 9, 9]], F)
    found = keypoints.keypoints_from_heatmaps(jnp.asarray(maps), jnp.asarray(boxes), jnp.asarray([True, True, False]))
    np.testing.assert_array_equal(found[0], [[0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert (np.asarray(found[1:]) == 0).all()


def test_probability_is_the_softmax_at_the_peak():
    maps = heatmaps()
    peaks = maps.max((1, 2)) + 0.1
    want = np.exp(peaks) / np.exp(maps.astype(np.float64)).sum((1, 2))
    np.testing.assert_allclose(keypoints.peak_probability(jnp.asarray(maps), jnp.asarray(peaks)), want, rtol=1e-5)


def test_targets_are_cells_and_far_sides_lie_in_the_last():
    g = np.random.default_rng(0)
    points = np.concatenate([g.random((5, 40, 2)) * 120 - 10, g.integers(0, 3, (5, 40, 1))], -1).astype(F)
    points[:, 0, :2], points[:, 1, :2] = BOXES[:, 2:], BOXES[:, :2]
    points[:, :2, 2] = 2
    points[0, 2, :2] = np.nan
    targets, valid = jax.jit(lambda p, b: keypoints.keypoint_targets(p, b, size=56))(
        jnp.asarray(points), jnp.asarray(BOXES)
    )
    for n, j in np.ndindex(5, 40):
        (x0, y0, x1, y1), (x, y, seen) = BOXES[n], points[n, j]
        with np.errstate(divide="ignore", invalid="ignore"):
            column = 55 if x == x1 else np.floor((x - x0) * (F(56) / (x1 - x0)))
            row = 55 if y == y1 else np.floor((y - y0) * (F(56) / (y1 - y0)))
        inside = 0 <= column < 56 and 0 <= row < 56 and seen > 0
        assert bool(valid[n, j]) == inside
        assert int(targets[n, j]) == (row * 56 + column if inside else 0)
    assert 20 < int(valid.sum()) < 180
    assert int(targets[0, 0]) == 56 * 56 - 1
