"""Joint transforms: whatever moves the image moves everything else with it."""

import dataclasses
import warnings

import numpy as np
import pytest

from jaxseg.data import records
from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.sets.scenes import scene
from jaxseg.data.transforms import geometry, moves
from jaxseg.data.transforms import warp as warping
from jaxseg.errors import BadInput
from jaxseg.types import VOID

SIZE = (40, 56)

TABLE = (
    T.RandomFlip(p=1.0),
    T.RandomRotate90(),
    T.RandomScale(0.5, 1.7),
    T.Resize(30, 70),
    T.ResizeWithin(64, 32),
    T.ResizeShort((30, 36, 44), long=60),
    T.LargeScaleJitter((0.5, 2.0), size=(48, 48)),
    T.CropObject(),
    T.CropProposal(),
    T.RandomCrop(24, 33),
    T.RandomCrop(64, 48),
    T.CentreCrop(24, 80),
    T.PadTo(64, 64),
    T.PadToMultiple(16),
    T.MirrorPad(9),
    T.RandomRotate(40),
    T.RandomRotate(40, mirror=True),
    T.Elastic(std=3),
    T.Elastic(std=3, mirror=False),
    T.Photometric(0.4, 0.4, 0.4, 0.1),
    T.ToGrey(),
    T.SeparationWeights(cell=3),
)


@pytest.fixture(scope="module")
def record():
    return scene("train", 4, *SIZE)


def rng(seed=0):
    return np.random.default_rng(seed)


def same(a: records.Record, b: records.Record, keys=None) -> None:
    for key in keys or a:
        near = np.allclose if key == "keypoints" else np.array_equal  # width - (width - x) is x but for the last bit
        assert near(a[key], b[key]), key


@pytest.mark.parametrize("transform", TABLE, ids=str)
def test_every_transform_gives_a_sound_record_and_leaves_its_argument(transform, record):
    before = {key: array.copy() for key, array in record.items()}
    for seed in range(3):
        moved = transform(record, rng(seed))
        same(before, record)
        done = records.to_batch_row(moved, keys=tuple(moved), slots=16)
        records.validate(done, where=str(transform), limits={"classes": 7, "things": 4})


@pytest.mark.parametrize("transform", TABLE, ids=str)
def test_the_same_seed_gives_the_same_record_and_equal_transforms_are_equal(transform, record):
    again = dataclasses.replace(transform)
    assert again == transform
    assert hash(again) == hash(transform)
    same(transform(record, rng(5)), again(record, rng(5)))


@pytest.mark.parametrize("transform", TABLE, ids=str)
def test_boxes_follow_the_visible_pixels(transform, record):
    if isinstance(transform, (T.RandomScale, T.Resize, T.ResizeWithin, T.ResizeShort, T.LargeScaleJitter)):
        pytest.skip("scaled as they are, see below")
    moved = transform(record, rng(1))
    ids, valid = moved["instance_ids"], moved.get("valid", np.ones(len(moved["boxes"]), bool))
    for slot, box in enumerate(moved["boxes"]):
        rows, columns = np.nonzero(ids == slot + 1)
        assert valid[slot] == (len(rows) > 0)
        if len(rows):
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("transform", TABLE, ids=str)
def test_boxes_without_a_map_of_ids_agree_with_those_of_the_map(transform, record):
    """Moved analytically, a box holds all of its object's visible pixels, and on the grid's own moves nothing more."""
    if getattr(transform, "mirror", False):
        pytest.skip("mirrored objects may be seen twice")
    if isinstance(transform, (T.CropObject, T.CropProposal)):
        pytest.skip("it cuts by the map of ids")
    bare = {key: array for key, array in record.items() if key != "instance_ids"}
    boxes, ids = transform(bare, rng(1))["boxes"], transform(record, rng(1))["instance_ids"]
    for slot, (x0, y0, x1, y1) in enumerate(boxes):
        rows, columns = np.nonzero(ids == slot + 1)
        if len(rows):
            assert x0 < columns.min() + 1.01
            assert y0 < rows.min() + 1.01
            assert x1 > columns.max() - 0.01
            assert y1 > rows.max() - 0.01
    if isinstance(transform, (T.RandomFlip, T.RandomRotate90, T.PadTo, T.PadToMultiple, T.MirrorPad)):
        assert np.array_equal(boxes, transform(record, rng(1))["boxes"])


@pytest.mark.parametrize("behind", [False, True])
def test_a_crop_refits_the_boxes_that_it_cuts_and_no_other(behind):
    """An annotated box is rarely tight; pixels behind another object count; objects without pixels are clipped."""
    front, back = np.zeros((8, 8), np.uint16), np.zeros((8, 8), np.uint16)
    front[3:5, 3:5] = 1  # inside
    front[1:3, 5:8] = 2  # cut: two of its columns stay
    (back if behind else front)[6, 5:8] = 2
    boxes = np.asarray([[2.5, 2.5, 5.5, 5.5], [5, 1, 8, 7], [0, 0, 8, 2], [7, 0, 8, 8]], np.float32)
    maps = {"instance_ids": front, "hidden_ids": back} if behind else {"instance_ids": front}
    moved = moves.crop({**maps, "boxes": boxes}, 1, 1, 6, 6)
    assert moved["boxes"].tolist() == [[1.5, 1.5, 4.5, 4.5], [4, 0, 6, 6], [0, 0, 6, 1], [6, 0, 6, 6]]
    assert moved["valid"].tolist() == [True, True, True, False]


def test_scaling_keeps_annotated_boxes_exactly(record):
    loose = record | {"boxes": record["boxes"] + np.float32(0.25)}
    moved = T.Resize(2 * SIZE[0], 4 * SIZE[1])(loose, rng())
    assert moved["boxes"].tolist() == np.minimum(loose["boxes"] * [4, 2, 4, 2], [224, 80, 224, 80]).tolist()


def test_flipping_twice_changes_nothing(record):
    same(record, geometry.flip(geometry.flip(record)))


def test_a_flip_mirrors_pixels_boxes_points_and_normals(record):
    flipped = geometry.flip(record)
    assert np.array_equal(flipped["image"], record["image"][:, ::-1])
    assert np.array_equal(flipped["normal"][..., 0], -record["normal"][:, ::-1, 0])
    assert np.array_equal(flipped["normal"][..., 1:], record["normal"][:, ::-1, 1:])
    for slot, joints in enumerate(flipped["keypoints"]):
        for x, y, visibility in joints:
            if visibility == 2:
                assert flipped["instance_ids"][int(y), int(np.nextafter(x, 0))] == slot + 1


def test_a_flip_swaps_left_and_right_joints(record):
    flipped, swapped = geometry.flip(record), geometry.flip(record, swap=((0, 1),))
    assert np.array_equal(swapped["keypoints"], flipped["keypoints"][:, [1, 0, 2]])


@pytest.mark.parametrize("turns", range(5))
def test_quarter_turns_are_those_of_numpy_and_four_change_nothing(turns, record):
    turned = geometry.rotate90(record, turns)
    for key in ("image", "label", "instance_ids", "depth", "panoptic", "boundary"):
        assert np.array_equal(turned[key], np.rot90(record[key], turns)), key
    same(record, geometry.rotate90(turned, 4 - turns))


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90])
def test_rotation_by_quarter_turns_is_exact(degrees):
    square = scene("train", 5, 32, 32)
    expected = geometry.rotate90(square, degrees // 90 % 4)
    turned = warping.rotate(square, degrees)
    keys = set(square) - {"normal"}
    same(expected, turned, keys)
    assert np.allclose(expected["normal"], turned["normal"], atol=1e-6)


@pytest.mark.parametrize("degrees", [17.0, -33.0])
def test_normals_turn_with_the_picture(degrees):
    """Of a plane, the normals seen after a turn are those turned by hand: x right, y down."""
    angle = np.deg2rad(degrees)
    normal = np.broadcast_to(np.asarray([0.6, 0, -0.8], np.float32), (9, 9, 3))
    turned = warping.rotate({"normal": normal}, degrees)["normal"]
    # Counter-clockwise as one sees it: what pointed right points up, and up is -y.
    assert np.allclose(turned[4, 4], [0.6 * np.cos(angle), -0.6 * np.sin(angle), -0.8], atol=1e-6)


def test_keypoints_go_where_their_pixels_go():
    """A single white pixel, turned, is found at its moved keypoint."""
    image = np.zeros((41, 41, 3), np.uint8)
    image[10, 25] = 255
    spot = {"image": image, "keypoints": np.asarray([[[25.5, 10.5, 2]]], np.float32)}
    for transform in (T.RandomRotate(30), T.Elastic(std=4, mirror=False), T.RandomFlip(1.0), T.Resize(82, 123)):
        moved = transform(spot, rng(3))
        x, y, _ = moved["keypoints"][0, 0]
        bright = moved["image"][..., 0].astype(float)
        rows, columns = np.mgrid[: bright.shape[0], : bright.shape[1]] + 0.5
        found = (columns * bright).sum() / bright.sum(), (rows * bright).sum() / bright.sum()
        assert np.allclose(found, (x, y), atol=0.7), transform


def test_resize_is_torch_interpolate_when_it_enlarges(record):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
    height, width = 2 * SIZE[0], 3 * SIZE[1] // 2
    moved = geometry.resize(record, height, width)
    image = torch.tensor(record["image"]).permute(2, 0, 1)[None].float()
    label = torch.tensor(record["label"])[None, None].float()
    functional = torch.nn.functional
    expected = functional.interpolate(image, (height, width), mode="bilinear", align_corners=False)
    assert np.abs(moved["image"] - expected[0].permute(1, 2, 0).numpy()).max() < 1.01, "rounded once per axis"
    expected = functional.interpolate(label, (height, width), mode="nearest-exact")
    assert np.array_equal(moved["label"], expected[0, 0].numpy())


def test_zoom_keeps_metres_and_unit_normals(record):
    moved = T.RandomScale(1.5, 1.5)(record, rng())
    assert moved["image"].shape[:2] == (60, 84)
    assert set(np.unique(moved["depth"])) <= set(np.unique(record["depth"]))
    assert np.allclose(np.linalg.norm(moved["normal"], axis=-1), 1, atol=1e-5)


def test_crops_cut_and_pads_are_void_and_invalid(record):
    moved = T.RandomCrop(64, 30)(record, rng(2))
    assert moved["label"].shape == (64, 30)
    outside = moved["label"] == VOID
    assert outside.sum() == (64 - SIZE[0]) * 30
    assert np.array_equal(outside, ~moved["depth_valid"])
    assert np.array_equal(outside, ~moved["normal_valid"])
    assert not moved["image"][outside].any()
    assert not moved["instance_ids"][outside].any()
    assert (moved["panoptic"][outside] == (VOID, 0)).all()
    rows = np.flatnonzero(~outside.all(1))
    assert len(rows) == SIZE[0]
    assert any(
        np.array_equal(moved["image"][rows], record["image"][:, left : left + 30]) for left in range(SIZE[1] - 29)
    ), "the rest is a piece of the image"


def test_random_crops_reach_every_corner(record):
    label = np.arange(36).reshape(6, 6).astype(np.uint8)
    corners = {int(T.RandomCrop(4, 4)({"label": label}, rng(seed))["label"][0, 0]) for seed in range(200)}
    assert corners == {6 * y + x for y in range(3) for x in range(3)}


def test_a_turned_picture_has_void_where_nothing_was_seen(record):
    turned = warping.rotate(record, 45)
    assert (turned["label"][0, :2] == VOID).all()
    assert np.array_equal(turned["label"] == VOID, ~turned["depth_valid"])
    assert (warping.rotate(record, 45, mirror=True)["label"] < VOID).all()


def test_objects_outside_are_marked_invalid_and_keep_their_slot(record):
    cut = geometry.crop(record, 0, 0, 6, 6)
    seen = np.unique(cut["instance_ids"])
    assert not cut["valid"].all()
    assert [bool(v) for v in cut["valid"]] == [slot + 1 in seen for slot in range(len(cut["boxes"]))]


def test_pad_to_refuses_what_is_larger(record):
    with pytest.raises(BadInput, match=r"40x56 does not fit PadTo\(32, 64\)"):
        T.PadTo(32, 64)(record, rng())


def test_the_mirrored_ring_is_numpys_reflection_and_carries_no_label(record):
    moved = T.MirrorPad(9)(record, rng())
    expected = np.pad(record["image"], ((9, 9), (9, 9), (0, 0)), mode="reflect")
    assert np.array_equal(moved["image"], expected)
    assert np.array_equal(moved["label"][9:-9, 9:-9], record["label"])
    assert (moved["label"] == VOID).sum() == moved["label"].size - record["label"].size


def test_displacements_pass_through_the_coarse_grid_and_are_bicubic_between():
    from scipy.interpolate import CubicSpline

    coarse = rng().normal(size=(3, 3))
    rows, columns = warping.spline_basis(3, 9), warping.spline_basis(3, 17)
    fine = rows @ coarse @ columns.T
    assert np.allclose(fine[::4, ::8], coarse)
    by_rows = CubicSpline([0, 4, 8], coarse, axis=0, bc_type="natural")(np.arange(9))
    expected = CubicSpline([0, 8, 16], by_rows, axis=1, bc_type="natural")(np.arange(17))
    assert np.allclose(fine, expected)


def test_elastic_displaces_by_the_drawn_field():
    """A ramp shows where each pixel was taken from."""
    ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None] * 4, 60, 0).repeat(3, 2)
    moved = T.Elastic(grid=3, std=4.0)({"image": ramp}, rng(7))["image"][..., 0] / 4
    dx = rng(7).normal(0.0, 4.0, (2, 3, 3))[1]
    taken = np.arange(60) + warping.spline_basis(3, 60) @ dx @ warping.spline_basis(3, 60).T
    inside = (taken > 0) & (taken < 59)
    assert np.abs(moved - taken)[inside].max() < 0.2


def test_bilinear_sampling_is_scipys(record):
    ndimage = pytest.importorskip("scipy.ndimage")
    y, x = rng().uniform(0, 39, (2, 50, 60))
    moved = warping._bilinear(record["image"], y, x)
    for channel in range(3):
        expected = ndimage.map_coordinates(record["image"][..., channel].astype(float), [y, x], order=1)
        assert np.abs(moved[..., channel] - expected).max() <= 0.51


@pytest.mark.parametrize("amount", ["brightness", "contrast", "saturation"])
def test_photometric_is_torchvisions_colour_jitter(amount, record):
    """Against Pillow's own enhancers, which torchvision's ColorJitter calls."""
    from PIL import Image, ImageEnhance

    kind = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}[amount]
    factor = 1 + 0.5 * rng(3).uniform(-1, 1, 4)[("brightness", "contrast", "saturation").index(amount)]
    expected = getattr(ImageEnhance, kind)(Image.fromarray(record["image"])).enhance(factor)
    moved = T.Photometric(**{amount: 0.5})(record, rng(3))
    assert abs(factor - 1) > 0.02
    assert np.abs(moved["image"].astype(int) - np.asarray(expected, int)).max() <= 2
    same(record, moved, set(record) - {"image"})


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 1), ("uint16", 4), ("float32", 2)])
def test_photometric_of_other_bands_changes_brightness_and_contrast(dtype, bands):
    top = {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    image = (rng().random((8, 9, bands)) * top).astype(dtype)
    brightness, contrast = 1 + rng(3).uniform(-1, 1, 4)[:2] * 0.5
    moved = T.Photometric(0.5, 0.5)({"image": image}, rng(3))["image"]
    bright = brightness * image.astype(np.float64)
    expected = contrast * bright + (1 - contrast) * bright.mean()
    expected = expected if dtype == "float32" else np.clip(expected, 0, top)
    assert moved.dtype == dtype
    assert np.abs(moved - expected).max() <= (1e-5 if dtype == "float32" else 1)
    with pytest.raises(BadInput, match="RGB"):
        T.Photometric(saturation=0.5)({"image": image}, rng())


def test_hue_turns_colours_around_grey():
    from jaxseg.data.transforms.photometric import hue_matrix

    assert np.allclose(hue_matrix(2 * np.pi / 3) @ [1, 0, 0], [0, 1, 0]), "a third of a turn takes red to green"
    assert np.allclose(hue_matrix(1.0) @ [0.4, 0.4, 0.4], 0.4)
    assert np.allclose(hue_matrix(1.0) @ hue_matrix(-1.0), np.eye(3))


def test_grey_is_luma(record):
    moved = T.ToGrey()(record, rng())["image"]
    expected = record["image"] @ np.asarray([0.299, 0.587, 0.114])
    assert np.abs(moved - expected[..., None]).max() <= 1


def test_separation_weights_are_the_papers_formula():
    label = np.zeros((20, 24), np.uint8)
    label[4:12, 2:9] = 1
    label[4:12, 12:20] = 1
    label[15:18, 5:9] = 1
    label[0, :] = VOID
    weight = T.SeparationWeights(w0=10, sigma=3, class_weights=(0.5, 2.0))({"label": label}, rng())["weight"]
    cells = [label[4:12, 2:9], label[4:12, 12:20], label[15:18, 5:9]]
    spans = [(slice(4, 12), slice(2, 9)), (slice(4, 12), slice(12, 20)), (slice(15, 18), slice(5, 9))]
    assert all(cell.all() for cell in cells)
    for (i, j), class_ in np.ndenumerate(label):
        near = []
        for rows, columns in spans:
            dy = max(rows.start - i, i - (rows.stop - 1), 0)
            dx = max(columns.start - j, j - (columns.stop - 1), 0)
            near.append(np.hypot(dy, dx))
        d1, d2 = sorted(near)[:2]
        expected = {0: 0.5 + 10 * np.exp(-((d1 + d2) ** 2) / (2 * 3**2)), 1: 2.0, VOID: 0.0}[class_]
        assert np.isclose(weight[i, j], expected, rtol=1e-5), (i, j)


def test_one_cell_has_no_separation():
    label = np.zeros((8, 8), np.uint8)
    label[2:5, 2:5] = 1
    assert (T.SeparationWeights()({"label": label}, rng())["weight"] == 1).all()


def test_resize_within_keeps_the_ratio_and_both_bounds(record):
    assert records.size(T.ResizeWithin(2048, 20)(record, rng())) == (20, 28)
    assert records.size(T.ResizeWithin(28, 1000)(record, rng())) == (20, 28)


def two_objects():
    """Class 1 in the box 4 6 12 10, class 2 below it, a void rim beside."""
    label, ids = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint16)
    label[6:10, 4:12], ids[6:10, 4:12] = 1, 1
    label[10:30, 4:30], ids[10:30, 4:30] = 2, 2
    label[6:10, 12] = VOID
    image = np.arange(1600, dtype=np.uint8).reshape(40, 40, 1).repeat(3, -1)
    return {"image": image, "label": label, "instance_ids": ids}


def test_an_object_is_cut_out_with_its_margin_and_the_others_become_background():
    scene, seen = two_objects(), set()
    for seed in range(8):
        done = T.CropObject(margin=1.5)(scene, rng(seed))
        seen.add(records.size(done))
        if records.size(done) == (6, 12):  # 4x8 widened by half, 2 5 14 11
            np.testing.assert_array_equal(done["image"], scene["image"][5:11, 2:14])
            expected = scene["label"][5:11, 2:14].copy()
            expected[expected == 2] = 0
            np.testing.assert_array_equal(done["label"], expected)
            assert VOID in done["label"]
            assert 2 in T.CropObject(margin=1.5, alone=False)(scene, rng(seed))["label"]
    assert seen == {(6, 12), (30, 37)}  # both objects, the larger cut at the left edge


def test_a_proposal_overlaps_an_object_and_keeps_all_labels():
    scene = two_objects()
    offered = np.asarray([[0, 0, 40, 40], [3, 6, 12, 11], [5, 6, 12, 10]], np.float32)
    with_boxes = {**scene, "proposals": offered, "proposal_valid": np.asarray([True, True, False])}
    done = T.CropProposal(overlap=0.5)(with_boxes, rng())
    assert records.size(done) == (5, 9)  # only the second overlaps and is valid
    assert set(np.unique(done["label"])) == {0, 1, 2}
    for seed in range(20):
        height, width = records.size(T.CropProposal(overlap=0.7)(scene, rng(seed)))
        assert min(abs(height / 4 - 1) + abs(width / 8 - 1), abs(height / 20 - 1) + abs(width / 26 - 1)) < 1


@pytest.mark.parametrize("transform", [T.CropObject(), T.CropProposal()], ids=str)
def test_an_image_without_objects_stays_whole(transform):
    scene = two_objects()
    empty = {**scene, "instance_ids": np.zeros_like(scene["instance_ids"])}
    same(transform(empty, rng()), empty)
