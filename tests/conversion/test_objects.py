"""Weights of detectors by file and by name: whose geometry, which classes, what starts afresh."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxseg
from jaxseg import registry
from jaxseg.conversion import fill
from jaxseg.conversion.importer import from_file
from jaxseg.conversion.objects import outputs_named
from jaxseg.conversion.rules import rules_of
from jaxseg.data import coco_tables
from jaxseg.errors import BadInput
from jaxseg.export import torch as torch_files
from jaxseg.weights import hub, published
from jaxseg.weights.names import restore

NARROW = {"width": 4, "features": 4, "dense": 8}


def state_of(name, rules, **fields):
    """(model, variables, its state dict) with random numbers."""
    model = registry.create_model(name, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, 3), np.uint8))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.3, leaf.shape).astype(np.float32), shapes)
    return model, variables, restore(variables, registry.find(name).names[rules])


def saved(folder, state, name="weights.npz"):
    np.savez(folder / name, **state)
    return folder / name


def equal(one, other):
    return jax.tree.all(jax.tree.map(np.array_equal, one, other))


def test_torchvisions_file_comes_in_goes_out_and_names_cocos_classes(tmp_path):
    model, variables, state = state_of("mask_rcnn_resnet50_fpn", "torchvision", **NARROW)
    run = jaxseg.load(saved(tmp_path, state), "mask_rcnn_resnet50_fpn", **NARROW)
    assert run.model == model
    assert equal(run.variables, variables)
    assert run.task.classes == coco_tables.THINGS
    assert run.task.unused == (11, 25, 28, 29, 44, 65, 67, 68, 70, 82)
    assert run.facts.things == coco_tables.THINGS
    torch_files.write(tmp_path / "out.pth", run.variables, rules_of(run.model, run.card.origin)["torchvision"])
    again = jaxseg.load(tmp_path / "out.pth", "mask_rcnn_resnet50_fpn", **NARROW)
    assert equal(again.variables, variables)


def test_version_two_goes_out_under_its_own_names(tmp_path):
    model, variables, state = state_of("faster_rcnn_resnet50_fpn_v2", "torchvision", **NARROW)
    assert "roi_heads.box_head.5.weight" in state
    assert "roi_heads.box_head.fc6.weight" not in state
    assert state["roi_heads.box_head.5.weight"].shape == (8, 4 * 49)
    run = jaxseg.load(saved(tmp_path, state), "faster_rcnn_resnet50_fpn_v2", **NARROW)
    assert run.model == model
    assert equal(run.variables, variables)


def test_retinanet_has_an_output_for_background_that_is_never_used(tmp_path):
    fields = {"width": 4, "features": 4}
    _, _, state = state_of("retinanet_resnet50_fpn", "torchvision", **fields)
    run = jaxseg.load(saved(tmp_path, state), "retinanet_resnet50_fpn", **fields)
    assert run.task.unused[:2] == (0, 12)
    assert run.task.classes == coco_tables.THINGS


@pytest.mark.parametrize(
    ("name", "predictors"),
    [
        ("faster_rcnn_resnet50_fpn", {"box_predictor"}),
        ("mask_rcnn_resnet50_fpn", {"box_predictor", "mask_head/logits"}),
        ("retinanet_resnet50_fpn", {"class_head/last"}),
    ],
)
def test_another_number_of_classes_starts_the_predictors_afresh_and_nothing_else(name, predictors, tmp_path):
    fields = {key: value for key, value in NARROW.items() if key in registry.find(name).fields}
    _, variables, state = state_of(name, "torchvision", **fields)
    run = jaxseg.load(saved(tmp_path, state), name, num_classes=3, **fields)
    afresh = set(run.card.origin["reinitialized"])
    assert {next((p for p in predictors if path.startswith(p)), path) for path in afresh} == predictors
    before, after = (fill.by_path(v) for v in (variables, run.variables))
    assert all(np.array_equal(before[path], after[path]) for path in after if path not in afresh)
    assert run.task.classes == ("class 0", "class 1", "class 2")
    with pytest.raises(BadInput, match=r"heads are of 9[01] classes, the model's of 4"):
        fill.fill_model(
            state,
            run.model.clone(num_classes=4),
            {"torchvision": registry.find(name).names["torchvision"]},
            spare_heads=False,
            partial={},
            what="the file",
        )


def test_the_names_in_a_file_tell_whose_geometry_it_is_for(tmp_path):
    """detectron2's pickle: RoIAlign, anchors, stride and pixels are then its own, background moves to the front."""
    fields = {**NARROW, "conventions": "detectron2"}
    model, variables, state = state_of("mask_rcnn_resnet50_fpn", "detectron2", **fields)
    state |= {"pixel_mean": np.zeros((3, 1, 1)), "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4))}
    (tmp_path / "model_final_f10217.pkl").write_bytes(
        pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"})
    )
    run = jaxseg.load(tmp_path / "model_final_f10217.pkl", "mask_rcnn_resnet50_fpn", **NARROW)
    assert run.model == model
    assert run.model.num_classes == 80
    assert equal(run.variables, variables)
    assert (run.task.classes, run.task.unused) == (coco_tables.THINGS, ())
    assert (run.task.mask_targets, run.task.paste) == ("binary", "detectron2")
    bias = run.variables["params"]["box_predictor"]["logits"]["bias"]
    np.testing.assert_array_equal(bias, np.roll(state["roi_heads.box_predictor.cls_score.bias"], 1))
    with pytest.raises(BadInput, match="for the geometry of detectron2: not conventions='torchvision'"):
        jaxseg.load(tmp_path / "model_final_f10217.pkl", "mask_rcnn_resnet50_fpn", **NARROW, conventions="torchvision")


@pytest.mark.parametrize(
    ("name", "fields"),
    [("mask_rcnn_resnet50_c4", {"width": 4, "features": 4}), ("panoptic_fpn_resnet50", {**NARROW, "semantic": 32})],
)
def test_one_map_and_panoptic_of_detectron2(name, fields, tmp_path):
    model, variables, state = state_of(name, "detectron2", **fields)
    made = from_file(saved(tmp_path, state), name, fields=fields)
    assert made.model == model
    assert equal(made.variables, variables)
    assert outputs_named(model, registry.find(name).task)[:80] == coco_tables.THINGS
    assert ("sem_seg_head.p5.4.norm.weight" in state) == ("panoptic" in name)


def test_imagenets_weights_fill_the_last_stage_on_regions_too(tmp_path):
    from jaxseg.backbones.resnet import TORCHVISION_NAMES, resnet

    backbone = resnet(50, width=4)
    shapes = jax.eval_shape(lambda: backbone.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8), train=False))
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), shapes)
    path = saved(tmp_path, restore(variables, TORCHVISION_NAMES))
    run = jaxseg.load(path, "faster_rcnn_resnet50_c4", width=4, num_classes=2)
    assert not [p for p in run.card.origin["reinitialized"] if p.startswith(("backbone", "shared_head"))]
    assert run.variables["params"]["shared_head"]["layer4_2"]["conv3"]["kernel"].max() == 0.5


def test_what_torchvision_runs_without_epsilon_gives_the_same_numbers(tmp_path, monkeypatch):
    """A frozen BatchNorm of ours has 1e-5 under the root; the file's hash tells that torchvision has nothing there."""
    from jaxseg.conversion import objects
    from jaxseg.layers.norm import FrozenBatchNorm

    _, variables, state = state_of("faster_rcnn_resnet50_fpn", "torchvision", **NARROW)
    state["backbone.body.bn1.running_var"][:] = 2e-6
    path = saved(tmp_path, state)
    monkeypatch.setattr(objects, "WITHOUT_EPSILON", (fill.digest(path)[:8],))
    run = jaxseg.load(path, "faster_rcnn_resnet50_fpn", **NARROW)
    assert "without epsilon" in run.card.origin["report"][-1]
    norm, x = run.variables["batch_stats"]["backbone"]["norm1"], jnp.ones((1, 1, 1, 4))
    own = {key: state[f"backbone.body.bn1.{theirs}"] for key, theirs in FROZEN.items()}
    expected = (1 - own["mean"]) / np.sqrt(own["var"]) * own["scale"] + own["bias"]
    np.testing.assert_allclose(
        FrozenBatchNorm().apply({"batch_stats": norm}, x, train=False)[0, 0, 0], expected, rtol=1e-5
    )
    assert equal(run.variables["params"], variables["params"])


FROZEN = {"mean": "running_mean", "var": "running_var", "scale": "weight", "bias": "bias"}


def test_published_files_by_name():
    known = published.PUBLISHED["keypoint_rcnn_resnet50_fpn"]
    assert known["torchvision:COCO_V1"].sha256 == "fc266e95"
    zoo = hub.find("detectron2:COCO-InstanceSegmentation/mask_rcnn_R_50_C4_3x", "mask_rcnn_resnet50_c4")
    assert zoo.url.endswith("/mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl")
    assert zoo.figure == "mask AP 34.4"
    for name, backbone in (
        ("faster_rcnn_mobilenet_v2_fpn", "mobilenet_v2-b0353104.pth"),
        ("mask_rcnn_resnext101_32x8d_fpn", "resnext101_32x8d-8ba56ff5.pth"),
        ("panoptic_fpn_resnet101", "resnet101-63fe2227.pth"),
        ("faster_rcnn_mobilenet_v3_large_320_fpn", "mobilenet_v3_large-8738ca79.pth"),
    ):
        assert hub.find("torchvision:IMAGENET1K_V1", name).url.endswith(backbone)


def test_every_published_detector_is_registered():
    detectors = {name for name, *_ in (*published.DETECTORS, *published.DETECTRON2)}
    assert detectors <= set(registry.list_models())
    assert all(dataclasses.is_dataclass(one) for name in detectors for one in published.PUBLISHED[name].values())
