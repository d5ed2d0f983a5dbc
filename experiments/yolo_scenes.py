"""A small VARIANT on the embedded scenes, trained from nothing on two CPU cores.

Paper: Redmon et al. 2016, arXiv:1506.02640 (yolo_v1); Redmon and Farhadi 2018, arXiv:1804.02767 (yolo_v3)
Published: none, the scenes are jaxseg's own
Ours: not trained here
Hardware and time: not run
Command: jaxseg train experiments/yolo_scenes.py:VARIANT
Departures: few channels, batch normalisation in both; the first YOLO has 8x8 cells, the third two maps of 4x4 and 8x8
  cells; AdamW under a one-cycle schedule; 128x128 images of rooms with four classes of objects.
"""

from typing import Any

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.models.detection.yolo_v1 import yolo_v1
from jaxseg.models.detection.yolo_v3 import yolo_v3_tiny
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS = {
    "yolo_v3": lambda count: yolo_v3_tiny(count, width=8, image_size=128, anchors=ANCHORS),
    "yolo_v1": lambda count: yolo_v1(count, stages=STAGES, dense=(256,), norm="batch", image_size=128),
}

ANCHORS = (((48, 48), (64, 96), (112, 80)), ((12, 12), (20, 32), (40, 24)))
STAGES: Any = (
    ((16, 3, 2),),
    ((32, 3, 1),),
    ((32, 1, 1), (64, 3, 1)),
    ((64, 1, 1), (128, 3, 1), (64, 1, 1), (128, 3, 1)),
)


def recipe(variant: str = "yolo_v3") -> Recipe:
    """One stage of a few epochs."""
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid"),
    )
    things = data.facts().things
    stage = Stage(
        model=VARIANTS[variant](len(things)),
        task=Detection(len(things), things),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=10.0),
        steps=3000,
        batch_size=16,
        ema=0.99,
        log_every=50,
        eval_every=1000,
        keep_best="box_ap50",
        save_every=500,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
