"""A small SSD on the embedded scenes, trained from nothing on two CPU cores.

Paper: Liu et al. 2016, arXiv:1512.02325; Howard et al. 2017, arXiv:1704.04861 (the backbone)
Published: none, the scenes are jaxseg's own
Ours: not trained here
Hardware and time: not run yet
Command: jaxseg train experiments/ssd_scenes.py
Departures: half of MobileNetV1 with batch normalisation instead of VGG-16, images of 128 pixels, boxes on maps of
  strides 8 to 64; images are zoomed out by up to 1.5 and the least patch is half of the image; AdamW under a one-cycle
  schedule.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import IouCrop, PhotometricDistort, RandomFlip, ResizeByAny, ZoomOut
from jaxseg.layers.default_boxes import DefaultBoxes
from jaxseg.models.detection.ssd_mobilenet_v1 import on_mobilenet_v1
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.train.optim import AdamW, OneCycle

BOXES = DefaultBoxes((0.08, 0.18, 0.36, 0.6, 0.9), ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0,)))
"""Of maps of 16, 8, 4 and 2 cells a side."""


def recipe() -> Recipe:
    """One stage of a few epochs."""
    augment = (PhotometricDistort(), ZoomOut(1.5), IouCrop(scale=(0.5, 1.0)), ResizeByAny(128, 128), RandomFlip())
    data = Data(
        train=Source("scenes", "train", augment),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid"),
    )
    things = data.facts().things
    model = on_mobilenet_v1(len(things), width=0.5, norm="batch")
    model = model.clone(
        neck=model.neck.clone(maps=("c3", "c4", "c5"), extras=((64, 128),)),
        boxes=BOXES,
        image_size=(128, 128),
        head="conv",
        scores="softmax",
        score_threshold=0.01,
        nms_threshold=0.45,
        candidates=50,
        detections=20,
    )
    stage = Stage(
        model=model,
        task=Detection(len(things), things, anchor_loss=MultiboxLoss()),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=1600,
        batch_size=16,
        ema=0.99,
        log_every=25,
        eval_every=400,
        keep_best="box_ap50",
        save_every=200,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name="ssd_scenes")
