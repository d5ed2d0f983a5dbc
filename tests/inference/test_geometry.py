"""What validation does to an image, predict does too, and brings every prediction back to the image's own size."""

import ast
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxseg.data import Data, Source
from jaxseg.data.transforms import (
    CentreCrop,
    Frame,
    MirrorPad,
    PadTo,
    PadToMultiple,
    RandomFlip,
    Resize,
    ToGrey,
    frame_of,
)
from jaxseg.errors import BadInput
from jaxseg.forward import forward
from jaxseg.inference.geometry import fitting, put_back
from jaxseg.inference.load import TrainedModel, geometry_of, load, save
from jaxseg.inference.predict import plan, predict
from jaxseg.models.semantic.unet import unet, unet_original
from jaxseg.recipe import Recipe, Stage, load_file, shipped
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.evaluate import evaluate
from jaxseg.train.optim import SGD
from jaxseg.types import VOID
from tests.inference.test_predict import picture, run_of

SMALL = unet(num_classes=3, depth=2, width=2, norm="none")


def nearest(label, height, width):
    """The resampling of label maps in the data pipeline: pixel centres, rounded down."""
    rows = ((np.arange(height) + 0.5) * (label.shape[0] / height)).astype(int)
    columns = ((np.arange(width) + 0.5) * (label.shape[1] / width)).astype(int)
    return label[rows][:, columns]


@pytest.fixture(scope="module")
def small():
    return run_of(SMALL, (32, 32))


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ("camvid_transfer_mobilenet_v2", (360, 480)),
        ("camvid_transfer_mobilenet_v2", (97, 131)),
        ("segformer_b0_ade20k", (700, 560)),
        ("segformer_b0_ade20k", (300, 250)),
        ("unet_scenes", (45, 62)),
    ],
)
def test_predict_and_evaluate_agree_pixel_for_pixel(small, recipe, shape):
    """A small network in the place of the recipe's; the geometry is the recipe's own."""
    transforms = load_file(shipped()[recipe]).stages[-1].data.val.transforms
    run = replace(small, geometry=geometry_of(transforms))
    image = picture(*shape, 3)
    record = {"image": image}
    for transform in transforms:
        record = transform(record, np.random.default_rng(0))
    seen = jax.jit(forward(run.model, run.task))(run.variables, {"image": record["image"][None]})
    seen = np.asarray(seen["label"])[0]
    frame = frame_of(transforms, *shape)
    inside = seen[: round(shape[0] * frame.scale[0]), : round(shape[1] * frame.scale[1])]
    found = predict(run, image)
    assert len(np.unique(inside)) > 1
    assert found["label"].shape == shape
    assert found["probability"].shape == (*shape, 3)
    np.testing.assert_array_equal(found["label"], nearest(inside, *shape))
    if frame.scale[0] <= 1:  # nothing is lost on the way to the photograph's size: back again it is what evaluate saw
        np.testing.assert_array_equal(nearest(found["label"], *inside.shape), inside)
    assert (predict(small, image)["label"] != found["label"]).any() == bool(transforms)


def test_the_accuracy_that_evaluate_measures_is_that_of_predict(small):
    transforms = (Resize(24, 40), PadToMultiple(16))
    run = replace(small, geometry=geometry_of(transforms))
    images = picture(3, 60, 81, 3)
    truth = np.random.default_rng(3).integers(0, 3, (3, 60, 81)).astype(np.int32)
    rows = []
    for image, label in zip(images, truth, strict=True):
        record = {"image": image, "label": label}
        for transform in transforms:
            record = transform(record, np.random.default_rng(0))
        rows.append(record)
    batch = {key: np.stack([row[key] for row in rows]) for key in ("image", "label")}
    figures = evaluate(run.model, run.variables, run.task, [batch])
    labels = predict(run, images, keys=("label",))["label"]
    hits = [nearest(one, 24, 40) == nearest(other, 24, 40) for one, other in zip(labels, truth, strict=True)]
    assert figures["pixel_accuracy"] == pytest.approx(np.mean(hits))


def test_every_kind_of_prediction_comes_back_by_its_axes():
    """Scaled by a half down, a quarter across, below and to the right of two pixels."""
    frame, size = Frame((8, 9), scale=(0.5, 0.25), offset=(2.0, 2.0)), (8, 12)
    assert put_back("scores", np.ones((1, 5)), frame, size).shape == (1, 5)
    assert put_back("masks", np.ones((1, 5, 8, 9)), frame, size).shape == (1, 5, 8, 9)
    boxes = put_back("things/boxes", np.float32([[[2, 2, 5, 6], [0, 0, 9, 8]]]), frame, size)
    np.testing.assert_array_equal(boxes, [[[0, 0, 12, 8], [0, 0, 12, 8]]])
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(put_back("boxes", np.float32([[[3, 3, 4, 5]]]), frame, size), [[[4, 2, 8, 6]]])
    points = put_back("keypoints", np.float32([[[[3, 4, 0.7]]]]), frame, size)
    np.testing.assert_allclose(points, [[[[4, 4, 0.7]]]], rtol=1e-6)

    value = np.random.default_rng(0).normal(size=(2, 8, 9, 3)).astype(np.float32)
    found = put_back("probability", value, frame, size)
    assert found.shape == (2, 8, 12, 3)
    for y, x in ((3, 5), (0, 0), (7, 11)):  # centres lie between pixels; beyond the image's own part the last counts
        v, u = np.clip((y + 0.5) / 2 + 2 - 0.5, 2, 5), np.clip((x + 0.5) / 4 + 2 - 0.5, 2, 4)
        top, left = int(v), int(u)
        a, b = v - top, u - left
        corners = value[:, top : top + 2, left : left + 2]
        weights = np.outer([1 - a, a], [1 - b, b])[: corners.shape[1], : corners.shape[2]]
        expected = np.einsum("yx,byxk->bk", weights, corners)
        np.testing.assert_allclose(found[:, y, x], expected, rtol=1e-5)

    ids = np.arange(72, dtype=np.int32).reshape(1, 8, 9)
    for name in ("label", "panoptic", "counts"):  # a key that no table knows is a map by its shape
        integer = np.repeat(ids[..., None], 2, -1) if name == "panoptic" else ids
        found = put_back(name, integer, frame, size)
        assert found.dtype == np.int32
        expected = ids[0][2 + np.arange(8) // 2][:, 2 + np.arange(12) // 4]
        np.testing.assert_array_equal(found[0, ..., 0] if name == "panoptic" else found[0], expected)
    normal = put_back("normal", value, frame, size)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, rtol=1e-5)


def test_what_a_crop_leaves_out_is_void():
    frame = CentreCrop(4, 6).frame(8, 8)
    label = put_back("label", np.ones((1, 4, 6), np.int32), frame, (8, 8))
    expected = np.full((8, 8), VOID)
    expected[2:6, 1:7] = 1
    np.testing.assert_array_equal(label[0], expected)
    assert put_back("depth", np.ones((1, 4, 6), np.float32), frame, (8, 8))[0, 0, 0] == 0


def test_padding_that_an_image_exceeds_is_left_out(small):
    """It is there to make batches: a photograph larger than VOC's must not be refused."""
    run = replace(small, geometry=(PadTo(48, 48), Resize(16, 16)))
    assert fitting(run.geometry, 64, 40) == (Resize(16, 16),)
    assert fitting(run.geometry, 48, 40) == run.geometry
    assert predict(run, picture(64, 40, 3))["label"].shape == (64, 40)
    with pytest.raises(BadInput):
        frame_of(run.geometry, 64, 40)


def test_only_geometry_that_is_the_same_for_every_image_travels():
    assert geometry_of((RandomFlip(), Resize(4, 4), ToGrey(), PadToMultiple(2))) == (Resize(4, 4), PadToMultiple(2))


def test_valid_convolutions_bring_their_own_mirrored_border():
    run = run_of(unet_original(num_classes=2, width=1), (188, 188), classes=2)
    padded = replace(run, geometry=(MirrorPad(94),))
    image = picture(100, 100, 3)
    found, expected = (predict(one, image, keys=("label",))["label"] for one in (padded, run))
    np.testing.assert_array_equal(found, expected)
    assert len(plan(padded, 100, 100)) == 1


def recipe_with(transforms):
    data = Data(train=Source("scenes", "train"), val=Source("scenes", "val", transforms))
    stage = Stage(model=SMALL, task=Semantic(3), data=data, optimizer=SGD(0.1), steps=1, batch_size=1)
    return Recipe(stages=(stage,), name="small")


def test_it_travels_with_the_folder(small, tmp_path):
    recipe = recipe_with((Resize(16, 24), RandomFlip(0.5)))
    run = replace(small, recipe=recipe, geometry=geometry_of(recipe.stages[0].data.val.transforms))
    save(run, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.geometry == (Resize(16, 24),)
    image = picture(40, 50, 3)
    np.testing.assert_array_equal(predict(again, image)["label"], predict(run, image)["label"])
    assert load(tmp_path / "model", recipe=recipe_with(())).geometry == ()
    assert isinstance(again, TrainedModel)


def test_no_prediction_is_brought_back_by_name():
    """The vocabulary's axes decide, so that a new kind of prediction changes nothing here."""
    tree = ast.parse(Path(fitting.__code__.co_filename).read_text(encoding="utf-8"))
    code = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    words = {c.value for node in code for c in ast.walk(node) if isinstance(c, ast.Constant)}
    assert not words & {"label", "probability", "boxes", "depth", "normal", "keypoints", "masks", "panoptic"}
