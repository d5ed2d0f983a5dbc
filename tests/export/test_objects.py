"""Detectors that are handed on find the same objects elsewhere: raw pixels in, fixed slots out."""

import jax
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.export import folder, onnx, stablehlo
from jaxseg.export.differences import largest_difference, probe_picture
from jaxseg.layers.rpn import Proposing
from jaxseg.models.detection import retinanet
from jaxseg.models.instance import mask_rcnn
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.instance import Instance
from tests.export.test_export import random_numbers

SIZE = (64, 96)


def small(name):
    """A network whose random weights find several objects, its variables and its card."""
    if name == "mask":
        model = mask_rcnn.on_resnet(18, 3, width=4, features=8, dense=16)
        model, task = model.clone(detections=10, test_proposing=Proposing(60, 50)), Instance(3)
    else:
        model = retinanet.on_resnet(18, 3, width=4, features=8).clone(detections=10, candidates=50)
        task = Detection(3)
    card = folder.Card(model, task, name, (), (), things=("a", "b", "c"))
    return card, random_numbers(model)


def objects(rows=1):
    """Predictions: three objects and a free slot."""
    boxes = np.asarray([[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30], [0, 0, 0, 0]], np.float32)
    found = {"boxes": boxes, "scores": np.asarray([0.9, 0.5, 0.5, 0]), "classes": np.asarray([0, 1, 1, 0])}
    found |= {"valid": np.asarray([True] * 3 + [False]), "masks": np.linspace(0, 1, 4 * 9).reshape(4, 3, 3)}
    return {key: np.stack([value] * rows) for key, value in found.items()}


def swapped(found, order):
    return {key: value[:, order] for key, value in found.items()}


def test_objects_of_equal_score_may_change_places():
    found = objects(2)
    assert largest_difference(swapped(found, [0, 2, 1, 3]), found) == 0
    moved = found["boxes"].copy()
    moved[1, 2] += 0.25
    assert largest_difference({**found, "boxes": moved}, found) == 0.25
    masks = found["masks"] + 0.125
    assert largest_difference({**found, "masks": masks}, found) == pytest.approx(0.125)
    free = found["masks"].copy()
    free[:, 3] = 1
    assert largest_difference({**found, "masks": free}, found) == 0  # of a free slot


def test_an_object_without_a_counterpart_differs_by_its_score():
    found = objects()
    fewer = {**found, "valid": np.asarray([[True, True, False, False]])}
    assert largest_difference(fewer, found) == largest_difference(found, fewer) == 0.5
    other = {**found, "classes": np.asarray([[1, 1, 1, 0]])}
    assert largest_difference(other, found) == 0.9
    none = {**found, "valid": np.zeros((1, 4), bool)}
    assert largest_difference(none, found) == 0.9
    assert largest_difference(none, none) == 0
    assert (
        largest_difference({f"far/{k}": v for k, v in none.items()}, {f"far/{k}": v for k, v in found.items()}) == 0.9
    )


def test_maps_are_compared_pixel_by_pixel_and_labels_are_not():
    label, depth = np.zeros((1, 2, 2), np.int32), np.ones((1, 2, 2), np.float32)
    assert largest_difference({"label": label + 1, "depth": depth * 3}, {"label": label, "depth": depth}) == 2


@pytest.mark.parametrize(("name", "batches"), [pytest.param("mask", (2,), marks=pytest.mark.slow), ("retina", (1, 3))])
def test_the_program_of_a_detector_gives_what_the_model_gives_for_any_batch(name, batches, tmp_path):
    card, variables = small(name)
    path = tmp_path / "model.stablehlo"
    assert stablehlo.write(path, card, variables, size=SIZE) == "b 64 96 3"
    program, forward = stablehlo.read(path)[0], jax.jit(stablehlo.forward_of(card, variables))
    for rows in batches:
        image = probe_picture(rows, *SIZE, 3)
        found, wanted = program(image), forward(image)
        assert np.asarray(wanted["valid"]).any(-1).all()
        assert {key: value.shape for key, value in found.items()} == {k: v.shape for k, v in wanted.items()}
        assert found["boxes"].shape == (rows, 10, 4)
        assert largest_difference(found, wanted) <= 1e-3
        assert largest_difference(found, {**wanted, "boxes": wanted["boxes"] + 1}) > 0.9


def test_a_detector_needs_a_size(tmp_path):
    card, variables = small("retina")
    with pytest.raises(BadInput, match=r"this network needs a size: --size HEIGHT WIDTH"):
        stablehlo.write(tmp_path / "a", card, variables, size=None)


@pytest.mark.parametrize("name", [pytest.param("mask", marks=pytest.mark.slow), "retina"])
def test_a_detector_in_the_runtime_of_onnx_finds_what_the_model_finds(name, tmp_path):
    try:
        onnx.interpreter()
    except BadInput as error:
        pytest.skip(str(error))
    card, variables = small(name)
    variables = jax.tree.map(lambda leaf: np.float32(0.6) * leaf, variables)  # scores below 1: no ties of many
    path = tmp_path / "model.onnx"
    assert onnx.write(path, card, variables, size=SIZE) == "1 64 96 3"
    wanted = jax.jit(stablehlo.forward_of(card, variables))(probe_picture(1, *SIZE, 3))
    assert wanted["valid"].any()
    assert onnx.verify(path, card, variables) <= 1e-2  # of boxes, in pixels
    other = jax.tree.map(lambda leaf: leaf * np.float32(1.1), variables)
    assert onnx.verify(path, card, other) > 1e-2
