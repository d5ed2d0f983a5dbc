"""Painters: what is predicted is drawn, described and compared by its keys, and nothing gets lost."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxseg import viz
from jaxseg.types import PREDICTIONS, VOID
from jaxseg.viz import painter as registry_of  # the function; its module is reached through it
from jaxseg.viz.masks import instance_map, paste_mask

FACTS = SimpleNamespace(
    classes=("sky", "road", "car"),
    palette=((10, 20, 30), (200, 100, 0), (0, 0, 255)),
    things=("cat", "dog"),
    joints=("top", "bottom"),
    skeleton=(("bottom", "top"),),
    tables={"parts": ("arm", "leg", "head")},
)
SIZE = (40, 60)


@pytest.fixture
def own(monkeypatch):
    """A registry that forgets the test's painters."""
    import sys

    module = sys.modules[registry_of.__module__]
    viz.registered_painters()
    monkeypatch.setattr(module, "_painters", dict(module._painters))


def example(rows=2):
    """Predictions of every key."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (rows, 5, 6)).repeat(8, 1).repeat(10, 2).astype(np.int32)
    boxes = np.asarray([[[2, 3, 30, 30], [20, 10, 59, 39], [0, 0, 9, 9]]] * rows, np.float32)
    joints = np.asarray([[5, 5, 0.9], [20, 20, 0.0]], np.float32)
    return {
        "label": label,
        "probability": rng.dirichlet([1.0] * 3, (rows, *SIZE)).astype(np.float32),
        "variance": rng.random((rows, *SIZE)).astype(np.float32),
        "boxes": boxes,
        "scores": np.asarray([[0.9, 0.4, 0.0]] * rows, np.float32),
        "classes": np.asarray([[0, 1, 0]] * rows, np.int32),
        "valid": np.asarray([[True, True, False]] * rows),
        "masks": np.ones((rows, 3, 7, 7), np.float32),
        "keypoints": np.broadcast_to(joints, (rows, 3, 2, 3)).copy(),
        "instance_ids": np.pad(np.asarray([[1, 2]], np.uint16), ((0, 39), (0, 58)))[None].repeat(rows, 0),
        "panoptic": np.stack([label, (label == 2).astype(np.int32)], -1),
        "inverse_depth": rng.random((rows, *SIZE)).astype(np.float32),
        "ab": rng.normal(0, 20, (rows, *SIZE, 2)).astype(np.float32),
        "depth": (0.5 + rng.random((rows, *SIZE))).astype(np.float32),
        "normal": np.broadcast_to(np.asarray([0, 0, -1], np.float32), (rows, *SIZE, 3)).copy(),
        "boundary": rng.random((rows, *SIZE)).astype(np.float32),
        "saliency": rng.random((rows, *SIZE)).astype(np.float32),
        "image": rng.integers(0, 256, (rows, *SIZE, 3)).astype(np.uint8),
    }


def first(predictions):
    return {key: value[0] for key, value in predictions.items()}


def read(data):
    return np.asarray(Image.open(io.BytesIO(data)))


IMAGE = np.random.default_rng(1).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def test_every_key_of_the_vocabulary_has_a_painter():
    assert set(PREDICTIONS) <= set(example())
    assert viz.unpainted(example()) == ()
    pictures = viz.draw(IMAGE, first(example()), FACTS)
    drawn = {"label", "overlay", "confidence", "variance", "boxes", "instances", "instance_ids", "keypoints"}
    drawn |= {"panoptic", "segments", "depth", "depth_mm", "normal", "boundary", "saliency", "colored"}
    drawn |= {"inverse_depth", "inverse_depth_16", "colorized"}
    assert set(pictures) == drawn
    for name, picture in pictures.items():
        if not isinstance(picture, bytes):
            assert (picture.dtype, picture.shape[2]) == (np.uint8, 3), name
            assert name == "depth" or picture.shape[0] * SIZE[1] == picture.shape[1] * SIZE[0]
    assert pictures["depth"].shape[0] > SIZE[0], "a bar of metres below it"


def test_a_key_without_a_painter_is_named_and_so_is_one_that_lacks_what_it_needs():
    found = {"label": 0, "warmth": 0, "parts/label": 0, "parts/warmth": 0}
    assert viz.unpainted(found) == ("warmth", "parts/warmth")
    assert viz.unpainted({"masks": 0, "scores": 0}) == ("masks", "scores")


def test_pictures_of_numbers_give_them_back():
    found = first(example())
    of_tiles = found.pop("instance_ids")
    assert read(viz.draw(IMAGE, {**found, "instance_ids": of_tiles}, FACTS)["instance_ids"])[0, :3].tolist() == [
        1,
        0,
        0,
    ]
    pictures = viz.draw(IMAGE, found, FACTS)
    np.testing.assert_array_equal(read(pictures["label"]), found["label"])
    np.testing.assert_allclose(read(pictures["depth_mm"]) / 1000, found["depth"], atol=5e-4)
    ids = read(pictures["instance_ids"])
    assert [ids[5, 5], ids[20, 25], ids[35, 50], ids[0, 0]] == [1, 1, 0, 0]
    ids = read(viz.draw(IMAGE, found, FACTS, threshold=0.3)["instance_ids"])
    assert [ids[5, 5], ids[20, 25], ids[35, 50], ids[0, 0]] == [1, 1, 2, 0]  # the higher score lies in front
    numbers = read(pictures["segments"])
    for row in viz.describe(found, FACTS)["segments"]:
        inside = (found["panoptic"] == [row["class"], row["instance"]]).all(-1)
        np.testing.assert_array_equal(numbers == row["number"], inside)
        assert row["pixels"] == inside.sum()


def test_what_does_not_fit_into_the_numbers_of_a_picture_is_marked_as_unknown():
    depth = np.asarray([[0.0, 65.535, 65.536, np.inf, -1.0]], np.float32)
    assert read(viz.draw(np.zeros((1, 5, 3), np.uint8), {"depth": depth}, FACTS)["depth_mm"]).tolist() == [
        [0, 65535, 0, 0, 0]
    ]


def test_void_is_no_segment():
    panoptic = np.asarray([[[VOID, 0], [1, 0], [2, 300]]], np.int32)
    found = viz.describe({"panoptic": panoptic}, FACTS)["segments"]
    assert [(row["number"], row["name"], row["instance"]) for row in found] == [(1, "road", 0), (2, "car", 300)]
    pictures = viz.draw(np.full((1, 3, 3), 9, np.uint8), {"panoptic": panoptic}, FACTS)
    assert read(pictures["segments"]).tolist() == [[0, 1, 2]]


def test_descriptions_are_json_and_say_what_is_there():
    found = first(example())
    told = json.loads(json.dumps(viz.describe(found, FACTS)))
    assert [row["name"] for row in told["objects"]] == ["cat", "dog"]
    assert told["objects"][1]["box"] == [20, 10, 59, 39]
    assert told["keypoints"][0]["joints"]["top"] == pytest.approx([5, 5, 0.9])
    assert told["variance"]["largest"] == pytest.approx(found["variance"].max())
    assert [row["pixels"] for row in told["classes"]] == np.bincount(found["label"].ravel(), minlength=3).tolist()
    assert told["depth"]["nearest"] == pytest.approx(found["depth"].min())
    assert "1 cat, 1 dog" in viz.summarize(found, FACTS, threshold=0.4)


def test_objects_of_low_score_are_described_but_neither_drawn_nor_counted():
    found = first(example())
    assert "1 cat" in viz.summarize(found, FACTS)
    assert "dog" not in viz.summarize(found, FACTS)
    alone = {**found, "valid": np.asarray([True, False, False])}
    for name in ("boxes", "instances", "keypoints"):
        shown = viz.draw(IMAGE, found, FACTS)[name]
        np.testing.assert_array_equal(shown, viz.draw(IMAGE, alone, FACTS)[name])
        assert (shown != viz.draw(IMAGE, found, FACTS, threshold=0.4)[name]).any()
    assert len(viz.describe(found, FACTS)["objects"]) == 2
    of_task = {f"far/{key}": value for key, value in found.items() if key in ("boxes", "scores", "classes", "valid")}
    assert viz.summarize(of_task, FACTS) == "far: 1 cat"
    without = {key: value for key, value in found.items() if key in ("boxes", "scores", "classes")}
    assert viz.summarize(without, FACTS) == "1 cat"


def objects():
    """Two objects in a canvas: 2 is smaller and in front of 1, which goes on behind it."""
    image = np.full((2, *SIZE, 3), 90, np.uint8)
    ids, hidden = np.zeros((2, *SIZE), np.uint16), np.zeros((2, *SIZE), np.uint16)
    ids[:, 4:24, 4:44], ids[:, 10:18, 20:30], hidden[:, 10:18, 20:30] = 1, 2, 1
    boxes = np.asarray([[[4, 4, 44, 24], [20, 10, 30, 18], [0, 0, 0, 0]]] * 2, np.float32)
    masks = np.ones((2, 3, 40, 40), np.float32)  # a cell for each pixel: no corner is lost
    valid = np.asarray([[True, True, False]] * 2)
    points = np.asarray([[[6, 6, 2], [40, 20, 2]], [[22, 12, 2], [28, 16, 2]], [[0, 0, 0]] * 2], np.float32)
    truth = {
        "boxes": boxes,
        "classes": np.asarray([[0, 1, 0]] * 2),
        "valid": valid,
        "keypoints": points[None].repeat(2, 0),
    }
    truth |= {"instance_ids": ids, "hidden_ids": hidden}
    label = np.where(ids > 0, 2, 1).astype(np.int32)
    truth["panoptic"] = np.stack([label, ids.astype(np.int32)], -1)
    scores = np.asarray([[0.7, 0.9, 0.0]] * 2, np.float32)
    found = {key: truth[key] for key in ("boxes", "classes", "valid", "keypoints", "panoptic")}
    return {"image": image, **truth}, {**found, "scores": scores, "masks": masks}


@pytest.mark.parametrize("name", ["instances", "keypoints", "panoptic"])
def test_a_perfect_prediction_of_objects_looks_like_the_truth_beside_it(name):
    batch, found = objects()
    sheet = viz.compare(batch, found, FACTS)[name]
    columns = [sheet[:, 8 + i * 368 : 8 + i * 368 + 360][36:] for i in range(3)]
    np.testing.assert_array_equal(columns[1], columns[2])
    assert (columns[1] != columns[0]).any()
    sure = {**found, "scores": np.zeros((2, 3), np.float32)}
    missed = viz.compare(batch, sure, FACTS)[name]
    assert (name == "panoptic") == np.array_equal(missed, sheet)


def test_boxes_of_the_truth_stand_beside_the_predicted_ones():
    batch, found = objects()
    sheet = viz.compare(batch, found, FACTS)["boxes"]
    one, other = (sheet[36:, 8 + i * 368 : 8 + i * 368 + 360] for i in (1, 2))
    assert one.shape == other.shape
    differ = (one != other).any(-1)
    assert 0 < differ.mean() < 0.1  # the scores behind the names


def test_an_object_behind_another_shows_through():
    batch, _ = objects()
    ids, hidden = batch["instance_ids"][0], batch["hidden_ids"][0]
    shown = viz.draw_instances(batch["image"][0], ids, hidden, alpha=1.0)
    first_color, second = viz.distinct_palette(2)
    assert shown[14, 25].tolist() == pytest.approx((np.asarray(first_color) + second) / 2, abs=1)
    assert shown[20, 10].tolist() == list(first_color)
    plain = viz.draw_instances(batch["image"][0], ids, alpha=1.0)
    assert plain[14, 25].tolist() == list(second)
    front, behind = viz.instance_maps(np.ones((2, 40, 40)), batch["boxes"][0, :2], SIZE, scores=[0.1, 0.2])
    np.testing.assert_array_equal(front, ids)
    np.testing.assert_array_equal(behind, hidden)


def test_limbs_join_the_joints_that_are_seen():
    image = np.zeros((60, 60, 3), np.uint8)
    points = np.asarray([[[10, 30, 2], [50, 30, 2], [30, 5, 0]]], np.float32)
    color = viz.distinct_palette(1)[0]
    off = np.zeros((1, 4), np.float32)
    drawn = viz.draw_boxes(image, off, keypoints=points, skeleton=((0, 1), (1, 2)))
    assert tuple(drawn[30, 30]) == color
    assert not drawn[6:20, 35:].any()  # no limb to the absent joint
    assert not viz.draw_boxes(image, off, keypoints=points)[30, 30].any()
    twice = viz.draw_boxes(image, off, keypoints=points, skeleton=((0, 1),), zoom=2)
    assert tuple(twice[60, 60]) == color


def test_each_task_has_files_of_its_own(tmp_path):
    label = np.zeros(SIZE, np.int32)
    pictures = viz.draw(IMAGE, {"label": label, "parts/label": label + 1, "parts/depth": label + 2.0}, FACTS)
    paths = viz.write(pictures, tmp_path, "photo")
    assert len(set(paths)) == len(pictures) == 6
    assert (np.asarray(Image.open(tmp_path / "photo_label.png")) == 0).all()
    assert (np.asarray(Image.open(tmp_path / "photo_parts-label.png")) == 1).all()
    told = viz.describe({"label": label, "parts/label": label + 1}, FACTS)
    assert told["classes"][0]["name"] == "sky"
    assert [(row["name"], row["pixels"]) for row in told["parts"]["classes"]] == [
        ("arm", 0),
        ("leg", 2400),
        ("head", 0),
    ]
    shared = viz.describe({"other/label": label + 1}, FACTS)["other"]["classes"]
    assert [(row["name"], row["pixels"]) for row in shared] == [("sky", 0), ("road", 2400), ("car", 0)]


def test_sheets_have_a_row_per_real_example_and_the_truth_where_it_is_known():
    found = example(3)
    batch = {"image": np.stack([IMAGE] * 3), "real": np.asarray([True, True, False]), "boundary": found["boundary"] > 1}
    batch["parts/label"], batch["parts/present"] = found["label"], np.asarray([True, False, True])
    sheets = viz.compare(batch, {**found, "parts/label": found["label"]}, FACTS)
    assert not {"confidence", "variance"} & set(sheets)
    rows, columns = 240 + 8, 360 + 8
    for name, wide in (("boundary", 3), ("saliency", 2), ("boxes", 2), ("normal", 2), ("colored", 3)):
        assert sheets[name].shape[1] == wide * columns + 8, name
        assert sheets[name].shape[0] == sheets["boundary"].shape[0]
    assert sheets["boundary"].shape[0] - sheets["parts/label"].shape[0] == pytest.approx(rows, abs=40)


def test_truth_and_prediction_of_depth_share_one_scale():
    depth = np.linspace(1, 8, 2400, dtype=np.float32).reshape(1, *SIZE)
    batch = {"image": IMAGE[None], "depth": depth}
    same = viz.compare(batch, {"depth": depth}, FACTS)["depth"]
    np.testing.assert_array_equal(same[40:240, 376:736], same[40:240, 744:1104])
    far = viz.compare(batch, {"depth": 2 * depth}, FACTS)["depth"]
    np.testing.assert_array_equal(far[40:240, 376:736], same[40:240, 376:736])
    assert (far[40:240, 744:1104] != same[40:240, 744:1104]).any()


def test_smaller_predictions_lie_over_the_middle():
    label = np.ones((20, 30), np.int32)
    overlay = viz.draw(IMAGE, {"label": label}, FACTS)["overlay"]
    mixed = (IMAGE[10:30, 15:45] * 0.5 + np.asarray(FACTS.palette[1]) * 0.5).round()
    np.testing.assert_allclose(np.asarray(overlay), mixed, atol=1)


def test_a_painter_of_ones_own_registers_by_its_key(own):
    @viz.painter("warmth", uses=("depth",))
    class Warmth(viz.Painter):
        def paint(self, image, predictions, facts):
            return np.full(image.shape, int(np.max(predictions["warmth"] + predictions.get("depth", 0))), np.uint8)

    assert viz.unpainted({"warmth": np.zeros(SIZE), "depth": np.ones(SIZE)}) == ()
    assert np.asarray(viz.draw(IMAGE, {"warmth": np.full(SIZE, 3)}, FACTS)["warmth"] == 3).all()
    both = {"a/warmth": np.full(SIZE, 3), "a/depth": np.ones(SIZE), "depth": np.ones(SIZE) * 9}
    assert np.asarray(viz.draw(IMAGE, both, FACTS)["a/warmth"] == 4).all()

    with pytest.raises(ValueError, match="registered twice"):

        @viz.painter("warmth")
        class Other(viz.Painter):
            paint = Warmth.paint

    with pytest.raises(ValueError, match="cannot be a key"):
        viz.painter("a/b")


def test_two_painters_cannot_draw_the_same_picture(own):
    @viz.painter("warmth")
    class Warmth(viz.Painter):
        def paint(self, image, predictions, facts):
            return image

        def draw(self, image, predictions, facts):
            return {"overlay": image}

    with pytest.raises(ValueError, match="'overlay'"):
        viz.draw(IMAGE, {"label": np.zeros(SIZE, int), "warmth": np.ones(SIZE)}, FACTS)


def test_masks_are_pasted_as_detectron2_does():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for box in ([3.2, 4.7, 30.1, 33.9], [-5.0, -3.5, 20.0, 18.25], [40.0, 20.0, 70.0, 47.0], [7.0, 8.0, 7.4, 9.0]):
        mask = rng.random((14, 14)).astype(np.float32)
        x0, y0, x1, y1 = box
        y, x = (np.arange(n, dtype=np.float32) + 0.5 for n in SIZE)
        grid = np.stack(np.meshgrid((x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1), -1)
        theirs = torch.nn.functional.grid_sample(
            torch.from_numpy(mask)[None, None], torch.from_numpy(grid.astype(np.float32))[None], align_corners=False
        )[0, 0].numpy()
        ours = paste_mask(mask, box, SIZE)
        inside = (np.abs(grid) < 1).all(-1)
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-5)
        assert not ours[~inside].any()
        np.testing.assert_array_equal(ours >= 0.5, theirs >= 0.5)


def test_empty_slots_and_empty_boxes_paint_nothing():
    masks, boxes = np.ones((2, 4, 4)), np.asarray([[0, 0, 5, 5], [3, 3, 3, 3]])
    assert not instance_map(masks, boxes, SIZE, valid=[False, True]).any()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.asarray([[[5]]], np.uint8), [5, 5, 5]),
        (np.asarray([[[1, 2, 3, 4]]], np.uint8), [1, 2, 3]),
        (np.asarray([[[1, 2]]], np.uint8), [1, 2, 0]),
        (np.asarray([[[7, 7, 7]]], np.uint16), [0, 0, 0]),
    ],
)
def test_any_bands_become_visible(image, expected):
    assert viz.visible(image)[0, 0].tolist() == expected


def test_wide_numbers_are_stretched_to_what_is_there():
    ramp = np.arange(1000, 1101, dtype=np.uint16)[None]
    shown = viz.visible(ramp)[0, :, 0]
    assert (shown[:3].max(), shown[-3:].min()) == (0, 255)
    assert shown[50] == 128
