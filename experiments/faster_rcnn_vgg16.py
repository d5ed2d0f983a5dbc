"""Faster R-CNN with VGG16 as in the paper, VARIANT.

Paper: Ren et al. 2015, arXiv:1506.01497
Published (voc2007): mAP 69.9 on the 4952 test images of VOC 2007
Published (voc2007_2012): mAP 73.2
Published (voc2007_alternating): mAP 69.9
Published (coco): AP 21.9, AP50 42.7 on test-dev
Ours: not run yet
Hardware and time: not run yet; images of 600x1000 want a GPU
Command: jaxseg train experiments/faster_rcnn_vgg16.py:VARIANT, after jaxseg data prepare voc (or coco) --source DIR,
  DIR with the VOCdevkit of 2007 and 2012
Departures: images lie on one of two canvases. Where alternating training has one half learn, the other is computed too,
  and proposals are made while training instead of once. COCO: two images an update on one device, not eight; AP on the
  validation images.
"""

from dataclasses import replace
from typing import Any

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.detection.faster_rcnn_vgg import SIZES, faster_rcnn_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS, FASTER_RCNN_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

NAME = "faster_rcnn_vgg16_{variant}"
VARIANTS = {
    "voc2007": ("2007_train+2007_val", 70_000, (50_000,)),
    "voc2007_2012": ("2007_train+2007_val+2012_train+2012_val", 110_000, (80_000,)),
    "voc2007_alternating": ("2007_train+2007_val", 0, ()),
    "coco": ("train", 490_000, (350_000,)),
}
"""What is trained on, updates, and those from which the rate is a tenth."""

FILE, SOURCE = "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep"
GEOMETRY = (ResizeShort(600, 1000), Canvas(((600, 1000), (1000, 600))))

HEADS = r"box_head|box_predictor"
STEPS = (
    ("proposals", False, rf"^(backbone|{HEADS})/|^proposal_backbone/conv[12]_", 80_000, 60_000),
    ("detector", False, r"^(proposal_backbone|rpn)/|^backbone/conv[12]_", 40_000, 30_000),
    ("proposals_shared", True, rf"^(backbone|{HEADS})/", 80_000, 60_000),
    ("detector_shared", True, r"^(backbone|rpn)/", 40_000, 30_000),
)
"""The four steps of section 3.2: name, whether the backbone is shared, what stays, updates, and when the rate falls."""


def recipe(variant: str = "voc2007") -> Recipe:
    """An image a pass, two passes an update; the first two blocks keep ImageNet's weights."""
    split, steps, falls = VARIANTS[variant]
    data = data_of(variant, split)
    things = data.facts().things
    coco = variant == "coco"
    fields: dict[str, Any] = {"num_classes": len(things)}
    if coco:
        fields["anchor_sizes"] = (64, *SIZES)
    task = Detection(
        len(things),
        things,
        proposal_loss=FASTER_RCNN_PROPOSAL_LOSS,
        region_loss=FASTER_RCNN_REGION_LOSS,
        evaluation="coco" if coco else "voc2007",
    )
    stage = Stage(
        model=faster_rcnn_vgg16(**fields),
        task=task,
        data=data,
        optimizer=descent(falls),
        steps=max(steps, 1),
        batch_size=2,
        accumulate=2,
        eval_every=10_000,
        save_every=1000,
        keep_best="box_ap" if coco else "voc_ap",
        freeze=(r"^backbone/conv[12]_",),
        init=start("backbone"),
    )
    stages = (stage,) if steps else tuple(alternating(stage, fields))
    return Recipe(stages=stages, name=NAME.format(variant=variant))


def data_of(variant: str, split: str) -> Data:
    """Return VOC or COCO, mirrored at random."""
    coco = variant == "coco"
    name, test = ("coco", "val") if coco else ("voc", "2007_test")
    flags = ("crowd", "area") if coco else ("difficult",)
    return Data(
        train=Source(name, split, (*GEOMETRY, RandomFlip())),
        val=Source(name, test, GEOMETRY),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", *flags),
        slots=100 if coco else 60,
        workers=8,
    )


def descent(falls: tuple[int, ...]) -> SGD:
    """Return the optimizer: biases learn twice as fast and do not decay."""
    multipliers = ((r"bias$", 2.0),)
    return SGD(Milestones(1e-3, falls), weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=multipliers)


def start(*backbones: str) -> Combined:
    """Return ImageNet's weights for the backbones and for the dense layers."""
    parts = [Pretrained(FILE, vgg.CAFFE_NAMES, part=part, source=SOURCE) for part in backbones]
    return Combined((*parts, Pretrained(FILE, vgg.CAFFE_CLASSIFIER, part="box_head", source=SOURCE)))


def alternating(stage: Stage, fields: dict[str, Any]) -> list[Stage]:
    """Return the four steps; one half's loss counts in each."""
    found = []
    for i, (name, shared, frozen, steps, fall) in enumerate(STEPS):
        if name.startswith("proposals"):
            task = replace(stage.task, region_loss=replace(FASTER_RCNN_REGION_LOSS, weight=0.0))
        else:
            task = replace(stage.task, proposal_loss=replace(FASTER_RCNN_PROPOSAL_LOSS, weight=0.0))
        found.append(
            replace(
                stage,
                name=name,
                model=faster_rcnn_vgg16(shared=shared, **fields),
                task=task,
                optimizer=descent((fall,)),
                steps=steps,
                eval_every=steps,
                freeze=(frozen,),
                init="previous" if i else start("backbone", "proposal_backbone"),
            )
        )
    return found
