"""Normals of depth maps: exact on planes, those of rendered scenes, and true after the scene is moved."""

import zlib

import numpy as np
import pytest

from jaxseg.data import transforms
from jaxseg.data.raycast import random_room, render
from jaxseg.errors import BadInput
from jaxseg.ops.geometry import Intrinsics, normals_from_depth

CAMERA = Intrinsics(60.0, 55.0, 30.5, 24.0)


def slope(normal, distance, size=(48, 64), camera=CAMERA):
    """Depth of the plane ``normal . p = distance``."""
    x, y = camera.rays(*size)
    a, b, c = normal
    return distance / (a * x[None, :] + b * y[:, None] + c)


def degrees(a, b):
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.rad2deg(np.arctan2(across, (a * b).sum(-1)))


@pytest.mark.parametrize("vector", [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (-0.2, 0.4, -0.9)])
def test_planes_are_exact_up_to_the_last_pixel(vector):
    normal = np.asarray(vector) / np.linalg.norm(vector)
    found, known = normals_from_depth(slope(normal, -3.0), CAMERA)
    assert known.all()
    assert degrees(found, normal).max() < 0.01


def rooms(count, size=96):
    for i in range(count):
        rng = np.random.default_rng((zlib.crc32(b"val"), i))
        room = random_room(rng)
        focal = room.focal * size
        yield render(room, size, size, rng), Intrinsics(focal, focal, size / 2, size / 2)


def test_normals_of_scenes_are_the_analytic_ones_away_from_edges():
    """Also those of curved solids; the worst are at the creases that the label does not know, as between walls."""
    errors = []
    for record, camera in rooms(6):
        found, known = normals_from_depth(record["depth"], camera, radius=1)
        inner = known & ~record["boundary"]
        assert inner.mean() > 0.8
        errors.append(degrees(found, record["normal"])[inner])
    every = np.concatenate(errors)
    assert np.median(every) < 0.5
    assert np.median(errors[0]) < 1
    assert np.percentile(every, 90) < 5


def test_holes_have_no_normals_and_do_not_disturb_their_neighbours():
    depth = slope((0.6, 0.0, -0.8), -3.0)
    known = np.random.default_rng(0).random(depth.shape) < 0.7
    found, solved = normals_from_depth(np.where(known, depth, np.nan), CAMERA)
    assert not solved[~known].any()
    assert not found[~solved].any()
    assert solved[known].mean() > 0.99
    assert degrees(found[solved], np.asarray([0.6, 0.0, -0.8])).max() < 0.01


def test_a_window_ends_at_an_edge_of_depth():
    depth = np.where(np.arange(64) < 32, slope((0.0, 0.0, -1.0), -2.0), slope((0.6, 0.0, -0.8), -4.0))
    found, known = normals_from_depth(depth, CAMERA, radius=3)
    right = np.where(np.arange(64)[None, :, None] < 32, (0.0, 0.0, -1.0), (0.6, 0.0, -0.8))
    assert known.all()
    assert degrees(found, right).max() < 0.01


def test_nothing_known_is_refused():
    with pytest.raises(BadInput, match="without any known pixel"):
        normals_from_depth(np.zeros((4, 4)), CAMERA)


@pytest.mark.parametrize(
    ("transform", "camera"),
    [
        (transforms.RandomZoom(1.5, 1.5), Intrinsics(60.0, 55.0, 1.5 * 30.5, 1.5 * 24.0)),
        (transforms.RandomScale(1.5, 1.5), CAMERA.scaled(1.5)),
        (transforms.RandomFlip(1.0), Intrinsics(60.0, 55.0, 64 - 30.5, 24.0)),
        (transforms.RandomRotate(5), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_augmentation_keeps_normals_those_of_the_depth(transform, camera):
    """A turn needs equal focal lengths and a principal point in the middle, about which the image turns."""
    before = CAMERA if camera is not None else Intrinsics(60.0, 60.0, 32.0, 24.0)
    normal = np.asarray((0.3, 0.5, -0.8), np.float32) / np.linalg.norm((0.3, 0.5, -0.8))
    depth = slope(normal, -3.0, camera=before)
    record = {
        "image": np.zeros((48, 64, 3), np.uint8),
        "depth": depth.astype(np.float32),
        "normal": np.broadcast_to(normal, (48, 64, 3)).astype(np.float32),
    }
    moved = transform(record, np.random.default_rng(0))
    known = moved.get("depth_valid", np.ones(moved["depth"].shape, bool))
    found, solved = normals_from_depth(moved["depth"], camera or before, known=known, radius=4)
    apart = degrees(found, moved["normal"])[solved & known]
    assert np.median(apart) < 2.0, "nearest neighbours make steps, which planes of 9x9 pixels smooth"
    lengths = np.linalg.norm(moved["normal"], axis=-1)[known]
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)
    assert degrees(moved["normal"][24, 32], normal) > 0.5 or isinstance(transform, transforms.RandomScale)
