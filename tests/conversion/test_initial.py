"""A stage begins from any source: one's own run, a saved model, a file of others; what does not fit is named."""

import io

import jax
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.configure.adjust import adjust
from jaxseg.conversion.initial import WeightsFrom
from jaxseg.errors import BadInput
from jaxseg.export import folder
from jaxseg.export.folder import Card
from jaxseg.models.semantic.fpn import fpn_resnet50
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import dump, load
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.log import Console
from jaxseg.train.loop import fit
from jaxseg.weights.names import restore
from tests.train.toys import recipe

UNET = unet(num_classes=3, depth=1, width=2)


def drawn(model, seed=0):
    """Random numbers for a model's variables; nothing is computed."""
    channels = getattr(model, "in_channels", 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 64, channels), np.uint8))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype(np.float32), shapes)


def flat(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def loaded(source, model, architecture=""):
    lines = []
    found = WeightsFrom(str(source), architecture).load(drawn(model), model=model, log=lines.append)
    return flat(found), lines


def saved(model, path, num_classes):
    variables = drawn(model, seed=1)
    names, colours = tuple(f"c{k}" for k in range(num_classes)), ((0, 0, 0),) * num_classes
    folder.write(path, Card(model, Semantic(num_classes), "tiny", names, colours), variables)
    return flat(variables)


def test_a_saved_model_of_other_classes_gives_all_but_its_head(tmp_path):
    theirs = saved(UNET, tmp_path / "model", 3)
    found, lines = loaded(tmp_path / "model", UNET.clone(num_classes=5))
    head = {path for path in theirs if "classifier" in path}
    assert set(found) == set(theirs) - head
    assert all(np.array_equal(found[path], theirs[path]) for path in found)
    assert lines == [f"classifier: {tmp_path / 'model'} has no weights of this shape, 2 arrays start afresh"]


def test_a_saved_model_of_the_same_classes_gives_everything(tmp_path):
    theirs = saved(UNET, tmp_path / "model.safetensors", 3)
    found, lines = loaded(tmp_path / "model.safetensors", UNET)
    assert set(found) == set(theirs)
    assert lines == []


def test_another_network_on_the_same_backbone_takes_the_backbone(tmp_path):
    small = registry.create_small("fpn_resnet50")
    saved(small, tmp_path / "model", 3)
    other = registry.create_small("pspnet_resnet50").clone(backbone=small.backbone)
    found, lines = loaded(tmp_path / "model", other)
    assert found
    assert all("['backbone']" in path for path in found)
    assert len(lines) == 1
    assert "start afresh" in lines[0]


def test_a_file_of_others_is_recognised_by_its_names_and_a_classifier_fills_the_backbone(tmp_path):
    """torchvision's names of a whole network, and timm's or torchvision's of its backbone alone."""
    model = registry.create_small("fcn_resnet50")
    state = restore(drawn(model, seed=1), registry.find("fcn_resnet50").names["torchvision"])
    np.savez(tmp_path / "whole.npz", **state)
    found, lines = loaded(tmp_path / "whole.npz", model.clone(num_classes=7))
    assert not any("classifier" in path and "bias" in path for path in found)
    assert any("backbone" in path for path in found)
    assert "start afresh" in lines[0]
    backbone = {
        name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")
    } | {"fc.weight": np.zeros((1000, 8)), "fc.bias": np.zeros(1000)}
    np.savez(tmp_path / "classifier.npz", **backbone)
    only, lines = loaded(
        tmp_path / "classifier.npz", registry.create_small("fpn_resnet50").clone(backbone=model.backbone)
    )
    assert only
    assert all("['backbone']" in path for path in only)


def test_a_run_begins_from_another_and_says_what_starts_afresh(tmp_path):
    """A whole training, begun from the checkpoint of one with other classes."""
    fit(recipe(steps=2, pictures=0, save_every=2, eval_every=2), tmp_path / "old", log=Console(quiet=True))
    out = io.StringIO()
    value = adjust(recipe(steps=1, pictures=0, optimizer=recipe().stages[0].optimizer), weights=str(tmp_path / "old"))
    fit(value, tmp_path / "new", log=Console(out))
    assert f"10 of 10 arrays from {tmp_path / 'old'}" in out.getvalue()
    assert load(dump(value)) == value, "it is part of a recipe"


def test_what_fits_nowhere_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(BadInput):
        loaded(tmp_path / "other.npz", fpn_resnet50(num_classes=3))
    with pytest.raises(BadInput, match=r"holds no checkpoint|there is no"):
        loaded(tmp_path / "nowhere", UNET)
    with pytest.raises(BadInput, match="need the model"):
        WeightsFrom("a.npz").load({})


@pytest.mark.parametrize(
    ("model", "tag", "architecture"),
    [
        ("unet_resnet34", "IMAGENET1K_V1", "resnet34"),
        ("unet_vgg16_bn", "IMAGENET1K_V1", "vgg16_bn"),
        ("unet_vgg16", "IMAGENET1K_V1", "vgg16"),
        ("lraspp_mobilenet_v3_large", "IMAGENET1K_V1", "mobilenet_v3_large"),
        ("lraspp_mobilenet_v3_large", "COCO_WITH_VOC_LABELS_V1", "lraspp_mobilenet_v3_large"),
        ("deeplabv3_resnet101", "IMAGENET1K_V2", "resnet101"),
        ("faster_rcnn_mobilenet_v2_fpn", "IMAGENET1K_V1", "mobilenet_v2"),
        ("faster_rcnn_resnet50_fpn_v2", "COCO_V1", "faster_rcnn_resnet50_fpn_v2"),
        ("mask_rcnn_resnet50_fpn", "COCO_V1", "mask_rcnn_resnet50_fpn"),
    ],
)
def test_a_model_tells_whose_published_weights_are_meant(monkeypatch, model, tag, architecture):
    asked = []

    def located(source, name):
        asked.append((source, name))
        raise BadInput("not here")

    monkeypatch.setattr("jaxseg.conversion.sources.locate", located)
    made = registry.create_model(model, num_classes=7)
    with pytest.raises(BadInput, match="not here"):
        WeightsFrom(f"torchvision:{tag}").load({}, model=made)
    assert asked == [(f"torchvision:{tag}", architecture)]


@pytest.mark.parametrize(
    ("model", "tag", "words"),
    [
        ("unet", "IMAGENET1K_V1", "is of other networks .*, not of this UNet nor of its backbone"),
        ("fcn_resnet50", "COCO_V2", "no weights 'torchvision:COCO_V2' are known; there are .*COCO_WITH_VOC_LABELS_V1"),
        ("faster_rcnn_mobilenet_v3_large_fpn", "COCO_V1", r"init=WeightsFrom\(.torchvision:COCO_V1., .faster_rcnn_mob"),
    ],
)
def test_where_a_model_does_not_tell_one_line_says_what_works(model, tag, words):
    with pytest.raises(BadInput, match=words):
        WeightsFrom(f"torchvision:{tag}").load({}, model=registry.create_model(model, num_classes=7))
