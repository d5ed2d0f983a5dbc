"""Recipes from data: what is seen in images and labels, what follows from it, and that what is written runs."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxseg import registry
from jaxseg.cli.main import main
from jaxseg.configure import look as looking
from jaxseg.configure import memory
from jaxseg.configure.choose import choose, class_weights
from jaxseg.configure.decide import STATISTICS, Wishes
from jaxseg.configure.look import Look, Objects
from jaxseg.configure.make import dataset_of, name_of
from jaxseg.configure.objects import choose_objects
from jaxseg.configure.write import write
from jaxseg.data import Facts
from jaxseg.errors import BadInput
from jaxseg.layers.standardize import Standardize
from jaxseg.recipe import dump, load, load_file
from jaxseg.train import checkpoint
from tests.data.folder_trees import pair

RNG = np.random.default_rng(0)
TINY = ("--option", "size=32", "--option", "train=4", "--option", "val=2")


class Records(list):
    """Records in memory."""

    def sizes(self):
        return np.asarray([record["image"].shape[:2] for record in self])


def seen(monkeypatch, labels, num_classes=3, image=None):
    """The look at a data set of these labels."""
    images = [np.zeros((*label.shape, 3), np.uint8) if image is None else image(label) for label in labels]
    records = Records({"image": i, "label": label} for i, label in zip(images, labels, strict=True))
    facts = Facts("made", "", tuple(f"c{k}" for k in range(num_classes)), ((0, 0, 0),) * num_classes, {})
    monkeypatch.setattr(looking.sets, "facts", lambda *_, **__: facts)
    monkeypatch.setattr(looking.sets, "prepared_splits", lambda *_, **__: {"train": len(records), "val": len(records)})
    monkeypatch.setattr(looking.sets, "open_split", lambda *_, **__: records)
    return looking.look("made")


def skies(count=12, side=48):
    """Class 0 above, class 1 below, the horizon here and there; a few pixels of class 2."""
    found = []
    for _ in range(count):
        label = np.ones((side, side), np.uint8)
        label[: RNG.integers(16, 30)] = 0
        y, x = RNG.integers(0, side - 1, 2)
        label[y : y + 2, x : x + 2] = 2
        found.append(label)
    return found


def cells(count=12, side=48):
    """Blobs anywhere."""
    found = []
    for _ in range(count):
        label = np.zeros((side, side), np.uint8)
        for y, x in RNG.integers(0, side - 8, (12, 2)):
            label[y : y + 8, x : x + 8] = 1
        found.append(label)
    return found


def test_up_is_up_where_classes_lie_above_one_another_and_not_among_cells(monkeypatch):
    assert seen(monkeypatch, skies()).upright
    assert seen(monkeypatch, skies()).mirrored
    assert not seen(monkeypatch, cells(), 2).upright
    turned = seen(monkeypatch, [label.T for label in skies()])
    assert not turned.mirrored


def test_what_is_tiny_and_lopsided_is_seen_and_void_does_not_count(monkeypatch):
    found = seen(monkeypatch, skies())
    assert found.lopsided
    assert found.tiny == (2,)
    assert found.extent[2] == pytest.approx(4 / 48**2, rel=0.01)
    assert not seen(monkeypatch, cells(), 2).lopsided
    void = [np.where(label == 2, 255, label).astype(np.uint8) for label in skies()]
    assert seen(monkeypatch, void).share[2] == 0
    assert seen(monkeypatch, void).tiny == ()


def test_bands_are_measured_in_the_images_own_units(monkeypatch):
    values = RNG.normal((1000, 50), (100, 5), (48, 48, 2)).astype(np.float32)
    found = seen(monkeypatch, cells(), 2, image=lambda _: values)
    np.testing.assert_allclose(found.mean, values.mean((0, 1)), rtol=1e-3)
    np.testing.assert_allclose(found.std, values.std((0, 1)), rtol=1e-3)
    assert (found.bands, found.dtype, found.is_rgb) == (2, "float32", False)


FACTS = Facts("made", "", ("ground", "tree", "pole"), ((0, 0, 0),) * 3, {})
STREET = Look(
    *("made", (), FACTS, "train", "val", 367, ((360, 480),), ((360, 480),), "uint8"),
    *((100.0,) * 3, (50.0,) * 3, (0.6, 0.385, 0.015), (0.5, 0.1, 0.001), True, True, 100),
)
CELLS = dataclasses.replace(
    STREET,
    facts=dataclasses.replace(FACTS, classes=("background", "cell"), palette=((0, 0, 0),) * 2, bands=("grey",)),
    images=20,
    sizes=((500, 640), (512, 512)),
    val_sizes=tuple((500 + k, 512) for k in range(9)),
    dtype="uint16",
    mean=(900.0,),
    std=(200.0,),
    share=(0.8, 0.2),
    extent=(0.8, 0.02),
    upright=False,
)


def texts(decisions):
    return [decision.text for decision in decisions]


def test_a_street_gets_flips_weights_and_crops_by_class_and_a_slower_backbone():
    plan = choose(STREET, Wishes("fpn_resnet50", weights="timm:resnet50.a1_in1k", batch_size=8), device="cpu")
    kinds = [text.partition("(")[0] for text in texts(plan.train)]
    assert kinds == ["RandomFlip", "RandomScale", "BalancedCrop", "Photometric"]
    assert "BalancedCrop(256, 256)" in texts(plan.train)
    assert texts(plan.losses) == ["CrossEntropy((0.801, 1.0, 3.0))", "Dice(0.5)"]
    assert plan.steps.text == str(round(12_000 / 8 / 10) * 10)
    assert plan.multipliers.text == '((r"^backbone/", 0.3),)'
    assert plan.freeze is None
    assert plan.val == ()
    large = choose(STREET, Wishes("fpn_resnet50", batch_size=8, crop=(352, 480)), device="accelerator")
    assert "BalancedCrop(352, 480)" in texts(large.train)
    assert large.multipliers is None


def test_cells_get_turns_their_own_statistics_and_one_canvas():
    plan = choose(CELLS, Wishes("fpn_resnet50", batch_size=4), device="accelerator")
    kinds = [text.partition("(")[0] for text in texts(plan.train)]
    assert kinds == ["RandomFlip", "RandomScale", "RandomCrop", "RandomRotate90", "Photometric"]
    assert {"RandomScale(0.9, 1.1)", "Photometric(0.2, 0.2)"} <= set(texts(plan.train)), "no colours, no up"
    assert "RandomCrop(480, 480)" in texts(plan.train), "square, as it is turned"
    assert texts(plan.losses) == ["CrossEntropy()", "Dice(1.0)"]
    assert {name: value.text for name, value in plan.fields.items()} == {
        "num_classes": "2",
        "in_channels": "1",
        "standardize": "Standardize((900.0,), (200.0,))",
    }
    assert texts(plan.val) == ["PadTo(512, 512)"]
    assert plan.steps.text == "1000", "200 epochs at most"


def test_batches_of_two_keep_the_backbones_statistics_and_wishes_are_kept():
    wishes = Wishes("fpn_resnet50", "runs/a", ("^backbone/conv1",), 0.8, 3, "bf16", 70, 2, (64, 96))
    plan = choose(STREET, wishes, stated=Standardize((9.0,) * 3, (8.0,) * 3))
    assert plan.freeze.text == f'(r"^backbone/conv1", r"{STATISTICS}",)'
    assert plan.multipliers.text == "layer_decay(model, 0.8)"
    assert (plan.steps.text, plan.batch_size.text, plan.init.text) == ("70", "2", 'WeightsFrom("runs/a")')
    assert plan.fields["dtype"].text == "jnp.bfloat16"
    assert "(9.0, 9.0, 9.0)" in plan.fields["standardize"].text


def test_what_cannot_be_written_is_refused():
    with pytest.raises(BadInput, match=r"label maps and of objects .*; 'keypoint_rcnn_resnet50_fpn' is for keypoints"):
        choose(STREET, Wishes("keypoint_rcnn_resnet50_fpn"))
    with pytest.raises(BadInput, match="outputs smaller than its images"):
        choose(STREET, Wishes("unet_original"))
    with pytest.raises(BadInput, match="no backbone whose layers"):
        choose(STREET, Wishes("unet", layer_decay=0.8, crop=(64, 64), batch_size=2))
    with pytest.raises(BadInput, match="there is no folder 'nowhere'"):
        dataset_of("nowhere")


def test_class_weights_are_mild():
    assert class_weights((0.5, 0.5)) == (1.0, 1.0)
    assert class_weights((0.989, 0.01, 0.001)) == (0.5, 1.0, 3.0)


def test_larger_images_leave_room_for_fewer_and_none_where_the_network_alone_is_too_large():
    net = registry.create_small("fpn_resnet50")
    rooms = [memory.images_that_fit(net, (side, side), 3, 2**32) for side in (64, 128, 256)]
    assert rooms[0] > 3 * rooms[1] > 9 * rooms[2] > 0
    assert memory.images_that_fit(net, (64, 64), 3, 2**10) == 0


@pytest.mark.parametrize(
    ("look", "wishes"),
    [
        (STREET, Wishes("fpn_resnet50", "timm:resnet50.a1_in1k", (r"\d+$",), 0.8, 3, "bf16", 70, 2)),
        (STREET, Wishes("unet", "torchvision:A", batch_size=2, crop=(64, 64))),
        (CELLS, Wishes("fpn_resnet50", batch_size=4)),
        (dataclasses.replace(STREET, options=(("void", 7), ("classes", ("a", 'b"'))), mirrored=False), Wishes("unet")),
    ],
    ids=["everything", "torchvision", "cells", "options"],
)
def test_a_written_recipe_is_tidy_python_that_loads_to_a_value(look, wishes, tmp_path):
    path = tmp_path / "mine.py"
    plan = choose(look, dataclasses.replace(wishes, batch_size=2), device="cpu")
    path.write_text(write(plan, name="mine", command=r"jaxseg new --group '(\d+)_'"))
    value = load_file(path)
    (stage,) = value.stages
    assert load(dump(value)) == value
    assert stage.steps == int(plan.steps.text)
    assert stage.model.num_classes == look.facts.num_classes
    assert stage.data.train.options == look.options == stage.data.val.options
    assert stage.patience == wishes.patience
    for decision in (*plan.train, *plan.losses, plan.steps, plan.batch_size, plan.init):
        words = " ".join(path.read_text().replace("#", " ").split())
        assert " ".join(decision.why.replace("#", " ").split()) in words
    pytest.importorskip("ruff")
    tidy = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", str(path)]
    assert subprocess.run(tidy, capture_output=True).returncode == 0


BOXES = dataclasses.replace(
    STREET,
    facts=Facts("made", "", (), (), {}, keys=("image", "boxes", "classes", "crowd"), things=("cat", "dog")),
    sizes=((480, 640), (640, 480)),
    val_sizes=((480, 640), (640, 480)),
    objects=Objects(9, (18.0, 60.0, 200.0), False),
)
NUCLEI = dataclasses.replace(
    BOXES,
    facts=Facts("made", "", ("background", "cell"), (), {}, keys=("image", "instance_ids"), things=("cell",)),
    sizes=((1024, 1024),),
    val_sizes=((1024, 1024), (900, 800)),
    upright=False,
    objects=Objects(190, (9.0, 14.0, 30.0), True),
)


def test_a_detector_sees_whole_images_where_objects_stay_large_enough_and_learns_its_statistics_from_nothing():
    plan = choose_objects(BOXES, Wishes("faster_rcnn_mobilenet_v2_fpn", batch_size=4), device="cpu")
    kinds = [text.partition("(")[0] for text in texts(plan.train)]
    assert kinds == ["RandomFlip", "LargeScaleJitter", "Photometric"]
    assert texts(plan.val) == ["ResizeWithin(320, 320)", "Canvas(((320, 320),))"]
    assert plan.objects.changes["anchor_sizes"].text == repr(((8,), (16,), (32,), (64,), (128,))), "18 pixels at half"
    assert plan.objects.changes["detections"].text == "20"
    assert plan.objects.backbone.text == 'norm="batch"'
    assert (plan.objects.slots.text, plan.objects.best, plan.objects.max_detections) == ("20", "box_ap50", None)
    assert "crowd" in plan.objects.keys
    assert "instance_ids" not in plan.objects.keys
    name = "faster_rcnn_resnet50_fpn"
    trained = choose_objects(BOXES, Wishes(name, "torchvision:COCO_V1", batch_size=4), device="cpu")
    assert trained.objects.backbone is None, "statistics that are trained stay frozen"
    assert "anchor_sizes" not in trained.objects.changes, "the anchors that the weights were trained with"
    backbone = choose_objects(BOXES, Wishes(name, "torchvision:IMAGENET1K_V1", batch_size=4), device="cpu")
    assert backbone.objects.changes["anchor_sizes"] == plan.objects.changes["anchor_sizes"]
    assert trained.multipliers.text.startswith('((r"^backbone/", 0.')


def test_small_objects_are_cropped_at_their_own_scale_and_many_of_them_count():
    plan = choose_objects(NUCLEI, Wishes("mask_rcnn_resnet50_fpn", "hf:a/b", batch_size=2), device="accelerator")
    kinds = [text.partition("(")[0] for text in texts(plan.train)]
    assert kinds == ["RandomFlip", "RandomScale", "RandomCrop", "RandomRotate90", "Photometric"]
    assert "RandomCrop(800, 800)" in texts(plan.train)
    assert texts(plan.val) == ["Canvas(((1024, 1024),))"]
    assert plan.eval_batch_size.text == "1"
    assert plan.objects.max_detections.text == plan.objects.changes["detections"].text == "240"
    assert "samples" not in plan.objects.changes
    assert (plan.objects.task, plan.objects.best, plan.objects.keys[-1]) == ("Instance", "mask_ap50", "instance_ids")


def test_detectors_without_what_they_learn_from_are_refused(narrow, capsys):
    with pytest.raises(BadInput, match=r"boxes without masks, which 'mask_rcnn_resnet50_fpn' learns"):
        choose_objects(BOXES, Wishes("mask_rcnn_resnet50_fpn"))
    for seed in range(4):
        pair(narrow / "plain", f"images/{seed}.png", f"masks/{seed}.png", seed)
    assert main(["new", "plain", "--model", "faster_rcnn_resnet50_fpn"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "has label maps and no objects: detectors need boxes" in line


@pytest.mark.parametrize(
    ("look", "model"),
    [(BOXES, "retinanet_resnet50_fpn"), (NUCLEI, "mask_rcnn_resnet50_fpn")],
)
def test_a_written_recipe_for_objects_is_tidy_python_that_loads_to_a_value(look, model, tmp_path):
    path = tmp_path / "mine.py"
    plan = choose_objects(look, Wishes(model, patience=3, batch_size=2), device="cpu")
    path.write_text(write(plan, name="mine", command="jaxseg new"))
    value = load_file(path)
    (stage,) = value.stages
    assert load(dump(value)) == value
    assert stage.model.num_classes == stage.task.num_classes == len(look.facts.things)
    assert (stage.task.names, stage.keep_best) == (look.facts.things, plan.objects.best)
    assert stage.model.backbone.norm == "batch"
    assert stage.task.max_detections == (240 if model.startswith("mask") else 100)
    assert stage.data.slots == int(plan.objects.slots.text)
    pytest.importorskip("ruff")
    tidy = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", str(path)]
    assert subprocess.run(tidy, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mask_rcnn_resnet50_fpn", "retinanet_resnet50_fpn"])
def test_one_command_trains_a_detector_on_a_folder_of_masks_for_each_object(narrow, capsys, monkeypatch, model):
    small = registry.create_small(model, num_classes=1)

    def build(num_classes):
        return small.clone(num_classes=num_classes)

    monkeypatch.setitem(registry._entries, model, dataclasses.replace(registry.find(model), build=build))
    for seed in range(4):
        for kind in ("images", f"masks/{seed}"):
            (narrow / "cells" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (64, 64, 3), np.uint8)).save(narrow / f"cells/images/{seed}.png")
        for number in range(1, 4):
            mask = np.zeros((64, 64), np.uint8)
            mask[16 * number : 16 * number + 12, 8 * seed : 8 * seed + 14] = 255
            Image.fromarray(mask).save(narrow / f"cells/masks/{seed}/{number}.png")
    assert main(["data", "check", "cells"]) == 0, capsys.readouterr()
    command = ["train", "--data", "cells", "--model", model, "--steps", "2", "--batch-size", "2"]
    assert main(command) == 0, capsys.readouterr().err
    folder = narrow / "runs" / f"cells_{model}"
    assert checkpoint.latest_step(folder / "stages" / "0-main" / "checkpoints") == 2
    assert (folder / "report.html").is_file()


def test_one_command_trains_leaves_its_recipe_and_resumes(narrow, capsys):
    command = ["train", "--data", "scenes", "--model", "unet", "--steps", "2", "--batch-size", "2", *TINY]
    assert main(command) == 0, capsys.readouterr().err
    folder = narrow / "runs" / "scenes_unet"
    assert "Written by: jaxseg train --data scenes --model unet" in (folder / "recipe.py").read_text()
    assert checkpoint.latest_step(folder / "stages" / "0-main" / "checkpoints") == 2
    changed = (folder / "recipe.py").read_text().replace("log_every=20", "log_every=1")
    (folder / "recipe.py").write_text(changed)
    assert main(command) == 0, "the same command goes on, with what was changed in the recipe"
    capsys.readouterr()
    assert main([*command, "--patience", "2"]) == 2
    assert "was written by another command" in capsys.readouterr().err


def test_new_writes_a_file_once(narrow, capsys):
    assert main(["new", "scenes", "--model", "unet", *TINY]) == 0
    assert "next: jaxseg train scenes_unet.py" in capsys.readouterr().out
    assert load_file("scenes_unet.py").name == name_of("scenes", "unet")
    assert main(["new", "scenes", "--model", "unet", *TINY]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["new", "scenes"], "--model is missing"),
        (["train", "--data", "scenes"], "--model is missing"),
        (["train", "a.py", "--data", "scenes"], "give a recipe or --data, not both"),
        (["train", "unet_scenes", "--steps", "3"], "--steps is for --data"),
        (["new", "nowhere", "--model", "unet"], "there is no folder 'nowhere'"),
        (["new", "scenes", "--model", "unet", "--weights", "nowhere.npz", *TINY], "there are no weights 'nowhere.npz'"),
    ],
)
def test_mistakes_are_one_line(words, fault, narrow, capsys):
    assert main(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert fault in line
