"""A small VARIANT on the embedded scenes, trained from nothing on two CPU cores.

Paper: Redmon et al. 2016, arXiv:1506.02640 (yolo_v1); Redmon and Farhadi 2018, arXiv:1804.02767 (yolo_v3)
Published: none, the scenes are jaxseg's own
Ours (yolo_v1): AP50 61.2, AP 26.3 on the held-out scenes after 6600 updates; 54.5 after 4400
Ours (yolo_v3): AP50 60.8, AP 24.3 on the held-out scenes after 1500 updates
Hardware and time (yolo_v1): 18 minutes of a core with three evaluations, of an AMD EPYC
Hardware and time (yolo_v3): 5.5 minutes of a core of an AMD EPYC
Command: jaxseg train experiments/yolo_scenes.py:VARIANT
Departures: few channels, batch normalisation in both; the first YOLO has 8x8 cells, the third two maps of 4x4 and 8x8
  cells; dense layers of 1024 units with less dropout; AdamW under a one-cycle schedule; 128x128 images of rooms with
  four classes of objects.
"""

from typing import Any

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip, RandomJitter, Resize
from jaxseg.models.detection.yolo_v1 import yolo_v1
from jaxseg.models.detection.yolo_v3 import yolo_v3_tiny
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS = {
    "yolo_v3": (lambda count: yolo_v3_tiny(count, width=8, image_size=128, anchors=ANCHORS), (), 1500),
    "yolo_v1": (
        lambda count: yolo_v1(count, stages=STAGES, dense=(1024,), norm="batch", dropout=0.2, image_size=128),
        (RandomJitter(0.2), Resize(128, 128)),
        6600,
    ),
}
"""The network, augmentation before the flip, and updates: dense layers see each cell anew and learn slowly."""

ANCHORS = (((48, 48), (64, 96), (112, 80)), ((12, 12), (20, 32), (40, 24)))
STAGES: Any = (
    ((16, 3, 2),),
    ((32, 3, 1),),
    ((32, 1, 1), (64, 3, 1)),
    ((64, 1, 1), (128, 3, 1), (64, 1, 1), (128, 3, 1)),
)


def recipe(variant: str = "yolo_v3") -> Recipe:
    """One stage of a few epochs."""
    network, augment, steps = VARIANTS[variant]
    data = Data(
        train=Source("scenes", "train", (*augment, RandomFlip())),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid"),
    )
    things = data.facts().things
    stage = Stage(
        model=network(len(things)),
        task=Detection(len(things), things),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=10.0),
        steps=steps,
        batch_size=16,
        ema=0.99,
        log_every=50,
        eval_every=steps // 3,
        keep_best="box_ap50",
        save_every=500,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
