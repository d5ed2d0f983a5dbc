"""A small SSD on the embedded scenes, trained from nothing on two CPU cores.

Paper: Liu et al. 2016, arXiv:1512.02325
Published: none, the scenes are jaxseg's own
Ours: AP50 70.9, AP 41.5 on the held-out scenes after 800 updates; 58.8 after 400
Hardware and time: 10 minutes of a core with both evaluations, of an AMD EPYC
Command: jaxseg train experiments/ssd_scenes.py
Departures: VGG-16 of a quarter of its width with batch normalisation and without fc6 and fc7, images of 128 pixels,
  boxes on maps of strides 8 to 64; colours stay, no image is zoomed out and the least patch has half of its sides;
  AdamW under a one-cycle schedule.
"""

from jaxseg.backbones.vgg import VGG
from jaxseg.data import Data, Source
from jaxseg.data.transforms import IouCrop, RandomFlip, ResizeByAny
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.detection.ssd import SSD
from jaxseg.models.detection.ssdlite import MobileNeck
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.train.optim import AdamW, OneCycle

BOXES = DefaultBoxes((0.08, 0.18, 0.36, 0.6, 0.9), ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0,)))
"""Of maps of 16, 8, 4 and 2 cells a side."""


def recipe() -> Recipe:
    """One stage of a few epochs."""
    augment = (IouCrop(scale=(0.5, 1.0)), ResizeByAny(128, 128), RandomFlip())
    data = Data(
        train=Source("scenes", "train", augment),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid"),
    )
    things = data.facts().things
    model = SSD(
        backbone=VGG(width=16, norm="batch", out_maps="last", standardize=IMAGENET),
        neck=MobileNeck(("c3", "c4"), ((64, 128), (64, 128)), separable=False, norm="batch"),
        boxes=BOXES,
        num_classes=len(things),
        image_size=(128, 128),
        candidates=50,
        detections=20,
    )
    stage = Stage(
        model=model,
        task=Detection(len(things), things, anchor_loss=MultiboxLoss()),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=800,
        batch_size=16,
        ema=0.99,
        log_every=25,
        eval_every=400,
        keep_best="box_ap50",
        save_every=200,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name="ssd_scenes")
