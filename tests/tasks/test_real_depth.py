"""Depth that a sensor and a stereo rig measured: holes do not count, and fitted planes are those of the room."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import sets
from jaxseg.metrics import DepthErrors
from jaxseg.ops.geometry import Intrinsics, normals_from_depth
from tests.shared_data import shared_data

MOTORCYCLE = Intrinsics(994.978, 994.978, 311.193, 254.877)
BASELINE, OFFSET = 0.193001, 31.086
"""Metres, and pixels between the principal points, of scikit-image's pair (Middlebury 2014)."""


def errors_of_the_median(maps, average):
    """Errors of each map's own median everywhere, for depths in metres with 0 for holes."""
    metric = DepthErrors(average=average)
    state = metric.init()
    for depth in maps:
        constant = np.full_like(depth, np.median(depth[depth > 0]))
        batch = {"depth": jnp.asarray(depth)[None], "depth_valid": jnp.asarray(depth > 0)[None]}
        state = metric.fold(state, metric.observe({"depth": jnp.asarray(constant)[None]}, batch))
    return metric.result(state)


def test_the_median_of_a_kinects_frames_is_as_far_off_as_their_depth_spreads():
    """200 frames of 7-Scenes; the written-out loop knows nothing of jaxseg."""
    name, options = f"folder:{shared_data('rgbd_7scenes_250')}", (("split", 0),)
    records = sets.open_split(name, "train", options=options)
    maps = [np.where(records[i]["depth_valid"], records[i]["depth"], 0) for i in range(0, len(records), 5)]
    assert np.mean([(depth == 0).mean() for depth in maps]) == pytest.approx(0.113, abs=0.005)
    found = errors_of_the_median(maps, "images")
    near, relative = [], []
    for depth in maps:
        known = depth[depth > 0].astype(np.float64)
        middle = np.median(known)
        near.append((np.maximum(known / middle, middle / known) < 1.25).mean())
        relative.append((np.abs(known - middle) / known).mean())
    assert found["delta1"] == pytest.approx(np.mean(near), abs=1e-3)  # of millimetres some lie on the threshold
    assert found["abs_rel"] == pytest.approx(np.mean(relative), abs=1e-4)
    assert found["delta1"] == pytest.approx(0.514, abs=0.01)
    assert found["abs_rel"] == pytest.approx(0.328, abs=0.005)


@pytest.fixture(scope="module")
def motorcycle():
    _, _, disparity = pytest.importorskip("skimage.data").stereo_motorcycle()
    known = np.isfinite(disparity)
    return np.where(known, BASELINE * MOTORCYCLE.fx / (np.where(known, disparity, 0) + OFFSET), 0).astype(np.float32)


def test_the_depth_of_a_stereo_pair_has_holes_that_do_not_count(motorcycle):
    assert (motorcycle > 0).mean() == pytest.approx(0.9265, abs=1e-3)
    found = errors_of_the_median([motorcycle], "pixels")
    assert found["abs_rel"] == pytest.approx(0.2118, abs=1e-3)
    assert found["delta1"] == pytest.approx(0.5514, abs=1e-3)


def test_planes_fitted_to_a_stereo_pair_are_those_of_the_floor(motorcycle):
    """The camera looks a little down: the floor's normal points up and towards it, the same all over the floor."""
    normal, known = normals_from_depth(motorcycle, MOTORCYCLE)
    assert known.mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(normal[known], axis=-1), 1, atol=1e-5)
    rows, columns = MOTORCYCLE.rays(*motorcycle.shape)[::-1]
    ray = np.stack(np.broadcast_arrays(columns, rows[:, None], 1.0), -1)
    assert ((normal * ray).sum(-1)[known] < 0).mean() > 0.999
    floor = (slice(440, 495), slice(20, 120))
    up = normal[floor][known[floor]]
    mean = up.mean(0) / np.linalg.norm(up.mean(0))
    assert mean[1] < -0.95
    assert np.median(np.rad2deg(np.arccos(np.clip(up @ mean, -1, 1)))) < 2
