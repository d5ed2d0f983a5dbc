"""SSD on COCO, VARIANT: VGG-16 at 300 and 512 pixels with the authors' training, SSDlite with torchvision's; and what
TensorFlow's weights on MobileNetV1 are measured by.

Paper: Liu et al. 2016, arXiv:1512.02325; Sandler et al. 2018, arXiv:1801.04381 (SSDlite)
Published (300): box AP 25.1, AP50 43.1, AP75 25.8 on test-dev 2015 (authors); 25.1 on val2017 (torchvision)
Published (512): box AP 28.8, AP50 48.5, AP75 30.3 on test-dev 2015 (authors)
Published (lite320): box AP 21.3 on val2017 (torchvision)
Published (_mobilenet_v1_075): none that we could verify
Ours: not trained here
Hardware and time: not run yet; 32 images an update are a GPU's work of days
Command: jaxseg train experiments/ssd_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: train2017 and val2017 for trainval35k and test-dev; torchvision's ImageNet weights and its mean
  colours; boxes inside crowds are not background. SSDlite: torchvision trains 660 epochs of 192 images an update at a
  rate of 0.15; here 65 of 32 at a rate in proportion, and the backbone's last stage is whole.
"""

from dataclasses import replace
from typing import Any

from jaxseg.backbones import mobilenet, vgg
from jaxseg.conversion.objects import outputs_named
from jaxseg.data import Data, Source
from jaxseg.data.transforms import IouCrop, PhotometricDistort, RandomFlip, Resize, ResizeByAny, ZoomOut
from jaxseg.models.detection.ssd import FC6_NAMES, FC7_NAMES, on_vgg
from jaxseg.models.detection.ssd_mobilenet_v1 import ssd300_mobilenet_v1_075
from jaxseg.models.detection.ssdlite import on_mobilenet_v3
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.tasks.table import task_for
from jaxseg.train.optim import SGD, Cosine, Milestones
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

PARTS = (("backbone", vgg.torchvision_names(vgg.VGG16, "none")), ("neck/fc6", FC6_NAMES), ("neck/fc7", FC7_NAMES))
WEIGHTS = Combined(
    tuple(Pretrained("torchvision:IMAGENET1K_V1", rules, part=part, architecture="vgg16") for part, rules in PARTS)
)

NAME = "ssd{variant}_coco"
VARIANTS = {"300": 300, "512": 512, "lite320": 320, "_mobilenet_v1_075": 300}
"""Pixels."""

DROPS = (280_000, 360_000)


def recipe(variant: str = "300") -> Recipe:
    """Thirty-two images an update."""
    size = VARIANTS[variant]
    augment = (PhotometricDistort(), ZoomOut(), IouCrop(), ResizeByAny(size, size), RandomFlip())
    data = Data(
        train=Source("coco", "train", augment),
        val=Source("coco", "val", (Resize(size, size),)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area"),
        slots=100,
        workers=8,
    )
    things = data.facts().things
    if variant == "_mobilenet_v1_075":
        how = tensorflow()
    else:
        how = lite(things) if variant == "lite320" else paper(things, size)
    stage = Stage(
        data=data,
        batch_size=32,
        eval_batch_size=8,
        eval_every=20_000,
        save_every=2000,
        keep_best="box_ap",
        **how,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def paper(things: tuple[str, ...], size: int) -> dict[str, Any]:
    """Network, loss and training of the authors."""
    model = on_vgg(len(things), size=size)
    return {
        "model": model.clone(boxes=replace(model.boxes, clip=False)),
        "task": Detection(len(things), things, anchor_loss=MultiboxLoss()),
        "optimizer": SGD(Milestones(1e-3, DROPS), momentum=0.9, weight_decay=5e-4),
        "steps": 400_000,
        "init": WEIGHTS,
    }


def lite(things: tuple[str, ...]) -> dict[str, Any]:
    """Network, loss and training of torchvision, on a backbone whose last stage is whole, as ImageNet's is."""
    names = mobilenet.TORCHVISION_V3_NAMES
    return {
        "model": on_mobilenet_v3(len(things), reduced_tail=False),
        "task": Detection(len(things), things, anchor_loss=MultiboxLoss(forced="best")),
        "optimizer": SGD(Cosine(0.025), momentum=0.9, weight_decay=4e-5),
        "steps": 240_000,
        "init": Pretrained("torchvision:IMAGENET1K_V1", names, part="backbone", architecture="mobilenet_v3_large"),
    }


def tensorflow() -> dict[str, Any]:
    """The network whose weights ``jaxseg import`` reads, with all of COCO's 90 numbers; trained, it is fine-tuned."""
    model = ssd300_mobilenet_v1_075()
    return {
        "model": model,
        "task": task_for("detection", model, outputs_named(model, "detection")),
        "optimizer": SGD(Cosine(1e-3), momentum=0.9, clip=10.0),
        "steps": 40_000,
    }
