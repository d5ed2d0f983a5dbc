"""Faster R-CNN of the paper on the embedded scenes, VARIANT, trained from nothing on two CPU cores.

Paper: Ren et al. 2015, arXiv:1506.01497
Published: none, the scenes are jaxseg's own
Ours (end_to_end): AP50 60.5, AP 29.4 on the held-out scenes after 800 updates; 50.8 after 400
Ours (alternating): AP50 60.3, AP 28.4 after 600, 800, 300 and 500 updates; 58.3 behind the first two steps
Hardware and time (end_to_end): 10.8 minutes with both evaluations, two cores of an AMD EPYC, alone on the machine
Hardware and time (alternating): 14 minutes of a core with all evaluations, of an AMD EPYC
Command: jaxseg train experiments/faster_rcnn_scenes.py:VARIANT
Departures: VGG16 of a quarter of its width with batch normalisation, dense layers of 256 units, anchors of 16, 32 and
  64 pixels, 64 regions of an image; AdamW under a one-cycle schedule; 128x128 images of rooms with four classes of
  objects.
"""

from dataclasses import replace

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.layers.rpn import Proposing
from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.detection.faster_rcnn import FasterRCNN
from jaxseg.models.detection.faster_rcnn_vgg import faster_rcnn_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS, FASTER_RCNN_REGION_LOSS
from jaxseg.train.optim import AdamW, OneCycle

NAME = "faster_rcnn_{variant}_scenes"
VARIANTS = {"end_to_end": (800,), "alternating": (600, 800, 300, 500)}
"""Updates of each stage."""

HEADS = r"box_head|box_predictor"
FROZEN = (
    ("proposals", rf"^(backbone|{HEADS})/"),
    ("detector", r"^(proposal_backbone|rpn)/"),
    ("proposals_shared", rf"^(backbone|{HEADS})/"),
    ("detector_shared", r"^(backbone|rpn)/"),
)
"""The four steps of section 3.2, and what stays in each; the first two have two backbones."""


def recipe(variant: str = "end_to_end") -> Recipe:
    """One stage, or the four of alternating training."""
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid"),
    )
    things = data.facts().things
    proposing = replace(FASTER_RCNN_PROPOSAL_LOSS, samples=64)
    task = Detection(len(things), things, proposal_loss=proposing, region_loss=FASTER_RCNN_REGION_LOSS)
    steps = VARIANTS[variant]
    stage = Stage(
        model=small(len(things), shared=True),
        task=task,
        data=data,
        optimizer=AdamW(OneCycle(1e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=steps[0],
        batch_size=8,
        ema=0.99,
        log_every=25,
        eval_every=400,
        keep_best="box_ap50",
        save_every=200,
        eval_batch_size=20,
    )
    name = NAME.format(variant=variant)
    if len(steps) == 1:
        return Recipe(stages=(stage,), name=name)
    stages = []
    for i, (label, frozen) in enumerate(FROZEN):
        if label.startswith("proposals"):
            half = replace(task, region_loss=replace(FASTER_RCNN_REGION_LOSS, weight=0.0))
        else:
            half = replace(task, proposal_loss=replace(proposing, weight=0.0))
        model, start = small(len(things), shared=i > 1), "previous" if i else None
        stages.append(replace(stage, name=label, model=model, task=half, steps=steps[i], freeze=(frozen,), init=start))
    return Recipe(stages=tuple(stages), name=name)


def small(count: int, *, shared: bool) -> FasterRCNN:
    """Return the network for small images, with normalisation that learns."""
    model = faster_rcnn_vgg16(
        num_classes=count, shared=shared, anchor_sizes=(16, 32, 64), width=16, dense=256, standardize=IMAGENET
    )
    own = model.proposal_backbone
    return model.clone(
        backbone=model.backbone.clone(norm="batch"),
        proposal_backbone=None if own is None else own.clone(norm="batch"),
        samples=64,
        train_proposing=Proposing(512, 128, min_size=4.0),
        test_proposing=Proposing(512, 64, min_size=4.0),
        detections=20,
    )
