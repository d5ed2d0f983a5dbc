"""Rays, textures, light and the ground truth of rendered rooms."""

import dataclasses
import zlib

import numpy as np
import pytest

from jaxseg.data import records
from jaxseg.data.raycast import CLASSES, THINGS, layout, lighting, picture, random_room, solids, textures
from jaxseg.data.sets.scenes import scene

HALF = {"sphere": (0.4, 0.4, 0.4), "box": (0.3, 0.5, 0.2), "cylinder": (0.3, 0.5, 0.3), "cone": (0.4, 0.6, 0.4)}


def solid(shape: str) -> solids.Solid:
    turn = layout._turn(1, 0.4) @ layout._turn(0, 0.3)
    half = np.asarray(HALF[shape], np.float32)
    return solids.Solid(shape, np.asarray([0.2, -0.1, 3.0], np.float32), turn.astype(np.float32), half)


def inside(body: solids.Solid, points: np.ndarray) -> np.ndarray:
    """Whether points f64[3 n] lie in the solid, straight from its definition."""
    x, y, z = body.rotation.T.astype(float) @ (points - body.centre[:, None])
    a, h, c = body.half.astype(float)
    if body.shape == "sphere":
        return x**2 + y**2 + z**2 < a**2
    if body.shape == "box":
        return (abs(x) < a) & (abs(y) < h) & (abs(z) < c)
    if body.shape == "cylinder":
        return (np.hypot(x, z) < a) & (abs(y) < h)
    return (abs(y) < h) & (np.hypot(x, z) < a * (y + h) / (2 * h))


def rays(n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    aim = np.asarray([[0.2], [-0.1], [3.0]]) + rng.uniform(-0.8, 0.8, (3, n))
    return aim.astype(np.float32)


@pytest.mark.parametrize("shape", solids.SHAPES)
def test_hit_is_where_marching_along_the_ray_first_enters(shape):
    body, direction = solid(shape), rays()
    steps = np.linspace(0, 2, 4001)
    entered = np.stack([inside(body, direction.astype(float) * t) for t in steps], 1)
    found = np.where(entered.any(1), steps[entered.argmax(1)], np.inf)
    hit = solids.hit(body, np.zeros((3, 1), np.float32), direction)
    grazing = np.isfinite(found) != np.isfinite(hit)
    assert grazing.mean() < 0.02, "only rays that graze the solid may be missed by the steps"
    both = np.isfinite(found) & np.isfinite(hit)
    assert both.sum() > 50
    assert np.abs(found[both] - hit[both]).max() < 2e-3


@pytest.mark.parametrize("shape", solids.SHAPES)
def test_hit_from_within_finds_the_way_out(shape):
    body = solid(shape)
    direction = rays() - np.asarray([[0.2], [-0.1], [3.0]], np.float32)
    t = solids.hit(body, body.centre[:, None], direction)
    out = body.centre[:, None] + direction.astype(float) * t
    assert np.isfinite(t).all()
    middle = body.centre[:, None]
    assert inside(body, middle + (out - middle) * 0.999).all()
    assert not inside(body, middle + (out - middle) * 1.001).any()


@pytest.mark.parametrize("shape", solids.SHAPES)
def test_normals_point_out_of_the_solid(shape):
    body, direction = solid(shape), rays()
    t = solids.hit(body, np.zeros((3, 1), np.float32), direction)
    points = (direction * t)[:, np.isfinite(t)]
    normal = solids.skin(body, points).normal
    assert np.allclose((normal**2).sum(0), 1, atol=1e-5)
    assert not inside(body, points + 2e-3 * normal).any()
    assert inside(body, points - 2e-3 * normal).mean() > 0.97, "all but points at an edge"
    # Tangents leave the solid no faster than its curvature lets them: the normal is not merely outward.
    tangent = np.cross(normal.T, [0.3, 0.5, 0.8]).T
    tangent /= np.sqrt((tangent**2).sum(0))
    step = 0.01
    assert not inside(body, points + step * tangent + (step**2 + 1e-3) * normal).any()
    assert inside(body, points + step * tangent - (step**2 / 0.1 + 1e-3) * normal).mean() > 0.9


def test_walls_are_met_where_the_room_ends():
    low, high = np.asarray([-1, -2, -3], np.float32), np.asarray([4, 5, 6], np.float32)
    direction = np.random.default_rng(1).normal(size=(3, 500)).astype(np.float32)
    distance, face = solids.hit_room(low, high, np.zeros((3, 1), np.float32), direction)
    points = direction * distance
    wall = np.where(face % 2, high[face // 2], low[face // 2])
    assert np.allclose(points[face // 2, np.arange(500)], wall, atol=1e-4)
    assert (points > low[:, None] - 1e-4).all()
    assert (points < high[:, None] + 1e-4).all()
    inward = np.take(solids.ROOM_NORMALS, face, 1)
    assert ((inward * direction).sum(0) < 0).all()


def test_a_solid_outside_its_window_is_never_hit():
    size = (48, 64)
    for seed in range(8):
        room = random_room(np.random.default_rng(seed))
        camera = np.zeros((3, 1), np.float32)
        direction = picture._rays(room, *size, 1)
        for body in room.solids:
            seen = np.isfinite(solids.hit(body, camera, direction)).reshape(size)
            window = np.zeros(size, bool)
            window[picture._window(room, body, *size)] = True
            assert not (seen & ~window).any()


def test_points_in_the_shadow_of_a_ball_get_no_light():
    room = random_room(np.random.default_rng(0))
    ball = solids.Solid("sphere", np.asarray([0, 0, 2], np.float32), np.eye(3, dtype=np.float32), np.float32([0.3] * 3))
    lamp = layout.Light(np.asarray([0, -1, 2], np.float32), 0.1, np.ones(3, np.float32))
    room = dataclasses.replace(room, solids=(ball,), textures=room.textures[:1], gloss=(0.0,), lights=(lamp,))
    points = np.asarray([[0, 1.5], [1, 1], [2, 2]], np.float32)  # below the ball, and well aside of it
    way = lamp.place[:, None] - points
    distance = np.sqrt((way**2).sum(0))
    clear = lighting._unshadowed(room, lamp, points, way / distance, distance, np.ones(2, np.float32))
    assert clear.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("pattern", textures.PATTERNS)
def test_textures_mix_their_two_colours(pattern):
    colours = np.asarray([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]], np.float32)
    texture = textures.Texture(pattern, colours, 0.2, 0.5, (3.0, 4.0))
    u, v = np.random.default_rng(0).uniform(-3, 3, (2, 2000)).astype(np.float32)
    colour = textures.paint(texture, u, v)
    assert colour.shape == (3, 2000)
    assert colour.dtype == np.float32
    share = (colour[0] - 0.1) / 0.8
    assert -1e-5 < share.min() <= share.max() < 1 + 1e-5
    assert np.allclose((colour[1] - 0.2) / 0.6, share, atol=1e-5)
    assert (share.std() > 0.1) == (pattern != "plain")


@pytest.fixture(scope="module", params=[0, 1, 2, 3, 4, 5])
def record(request):
    return scene("train", request.param, 48, 64)


def test_a_scene_satisfies_the_vocabulary(record):
    done = records.to_batch_row(record, keys=tuple(record), slots=len(record["boxes"]))
    records.validate(done, where="scene", limits={"classes": len(CLASSES), "things": len(THINGS)})
    assert record["image"].shape == (48, 64, 3)
    assert record["image"].std() > 10


def test_scenes_are_made_of_their_number_alone(record):
    again = scene("train", 3, 32, 32)
    for key, array in scene("train", 3, 32, 32).items():
        assert np.array_equal(array, again[key]), key
    assert not np.array_equal(scene("train", 4, 32, 32)["image"], again["image"])
    assert not np.array_equal(scene("val", 3, 32, 32)["image"], again["image"])


def test_instances_labels_and_classes_agree(record):
    ids, label = record["instance_ids"], record["label"]
    assert ((ids > 0) == (label >= CLASSES.index("sphere"))).all()
    assert set(np.unique(ids)) - {0} == set(range(1, len(record["boxes"]) + 1)), "every object has a visible pixel"
    for slot, class_ in enumerate(record["classes"]):
        assert (label[ids == slot + 1] == CLASSES.index(THINGS[class_])).all()
    assert np.array_equal(record["panoptic"], np.stack([label, ids], -1))


@pytest.mark.parametrize("number", range(4))
def test_the_nearest_surface_is_what_one_sees(number):
    """Depth and owner against every ray tried on every object."""
    rng = np.random.default_rng((zlib.crc32(b"train"), number))
    room, record = random_room(rng), scene("train", number, 40, 40)
    camera, direction = np.zeros((3, 1), np.float32), picture._rays(room, 40, 40, 1)
    wall, _ = solids.hit_room(room.low, room.high, camera, direction)
    depths = np.stack([wall, *(solids.hit(body, camera, direction) for body in room.solids)])
    assert np.allclose(record["depth"].ravel(), depths.min(0), rtol=1e-5)
    owner = depths.argmin(0)
    for shape, body_pixels in ((body.shape, owner == i) for i, body in enumerate(room.solids, 1)):
        if body_pixels.any():
            assert (record["label"].ravel()[body_pixels] == CLASSES.index(shape)).all()
            assert len(np.unique(record["instance_ids"].ravel()[body_pixels])) == 1


def test_boxes_are_tight_around_the_visible_pixels(record):
    skimage = pytest.importorskip("skimage.measure")
    for region in skimage.regionprops(record["instance_ids"].astype(np.int32)):
        y0, x0, y1, x1 = region.bbox
        assert record["boxes"][region.label - 1].tolist() == [x0, y0, x1, y1]


def test_depth_and_normals_describe_the_same_surface(record):
    """Points unprojected from depth: inside a flat face, neighbours lie in the plane that the normal tells."""
    room = random_room(np.random.default_rng((zlib.crc32(b"train"), 0)))
    record = scene("train", 0, 48, 64)
    depth, normal = record["depth"].astype(float), record["normal"].astype(float)
    y, x = np.mgrid[:48, :64] + 0.5
    focal = room.focal * 64
    points = np.stack([(x - 32) / focal * depth, (y - 24) / focal * depth, depth], -1)
    flat = (np.abs(normal[:, 1:] - normal[:, :-1]).max(-1) < 1e-4) & (record["label"][:, 1:] == record["label"][:, :-1])
    flat &= record["instance_ids"][:, 1:] == record["instance_ids"][:, :-1]
    off_plane = ((points[:, 1:] - points[:, :-1]) * normal[:, 1:]).sum(-1)
    assert flat.mean() > 0.5
    assert np.abs(off_plane[flat]).max() < 1e-3
    assert ((points * normal).sum(-1) < 0).all(), "what is seen faces the camera"


def test_a_keypoint_is_visible_where_its_pixel_shows_the_object(record):
    for slot, joints in enumerate(record["keypoints"]):
        for x, y, visibility in joints:
            if visibility:
                assert (record["instance_ids"][int(y), int(x)] == slot + 1) == (visibility == 2)
    assert (record["keypoints"][..., 2] == 2).any()


def test_top_is_above_bottom_in_the_picture(record):
    top, bottom = record["keypoints"][:, 0], record["keypoints"][:, 1]
    both = (top[:, 2] > 0) & (bottom[:, 2] > 0)
    assert (top[both, 1] < bottom[both, 1]).all()


def test_boundary_is_where_neighbours_differ(record):
    key = record["panoptic"][..., 0] * 1000 + record["panoptic"][..., 1]
    expected = np.zeros(key.shape, bool)
    for (i, j), value in np.ndenumerate(key):
        around = [key[a, b] for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if 0 <= a < 48 and 0 <= b < 64]
        expected[i, j] = any(other != value for other in around)
    assert np.array_equal(record["boundary"], expected)


def test_salient_pixels_belong_to_whole_objects(record):
    ids, salient = record["instance_ids"], record["saliency"]
    assert salient.any()
    assert not salient[ids == 0].any()
    for slot in range(1, len(record["boxes"]) + 1):
        assert salient[ids == slot].all() or not salient[ids == slot].any()


def test_colour_does_not_tell_the_class():
    """Mean colours of the shapes' textures are alike: drawn the same way for every shape."""
    drawn = {shape: [] for shape in solids.SHAPES}
    for seed in range(150):
        room = random_room(np.random.default_rng(seed))
        for body, texture in zip(room.solids, room.textures, strict=True):
            drawn[body.shape].append(texture.colours.mean(0))
    means = np.asarray([np.mean(colours, 0) for colours in drawn.values()])
    spread = max(np.std(colours) for colours in drawn.values())
    fewest = min(len(colours) for colours in drawn.values())
    assert fewest > 80
    assert np.ptp(means, 0).max() < 5 * spread / np.sqrt(fewest)
