"""VARIANT on COCO with darknet's training; imported weights are measured by it too.

Paper: Redmon and Farhadi 2018, arXiv:1804.02767 (yolo_v3_tiny); github.com/dog-qiuqiu/Yolo-Fastest (the others)
Published (yolo_v3_tiny): AP50 33.1 on test-dev (the author's page)
Published (yolo_fastest): AP50 24.4 (the author's page)
Published (yolo_fastest_xl): AP50 34.3 (the author's page)
Ours: not trained here
Hardware and time: not run; half a million updates need a GPU
Command: jaxseg train experiments/yolo_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: train2017 and val2017; no weights to begin with, where darknet has those of ImageNet; one size of input,
  where YOLOv3-tiny's changes every ten updates; squared errors of the sides for Yolo-Fastest too, where darknet has
  CIoU, and one anchor an object. Beyond the border of a jittered image it is black. The rate
  rises in a line at first, where darknet's is the line's fourth power.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip, RandomHSV, RandomJitter, Resize
from jaxseg.models.detection.yolo_fastest import yolo_fastest, yolo_fastest_xl
from jaxseg.models.detection.yolo_v3 import yolo_v3_tiny
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.grid import YOLOv3Loss
from jaxseg.train.optim import SGD, Milestones, Warmup

NAME = "{variant}_coco"
VARIANTS = {
    "yolo_v3_tiny": (yolo_v3_tiny, 416, 0.3, 0.7, 0.9, 64, 1000),
    "yolo_fastest": (yolo_fastest, 320, 0.15, 0.5, 0.949, 32, 4000),
    "yolo_fastest_xl": (yolo_fastest_xl, 320, 0.15, 0.5, 0.949, 32, 4000),
}
"""The network, pixels, jitter, overlap above which an anchor is let be, momentum, images an update, and warm-up."""


def recipe(variant: str = "yolo_v3_tiny") -> Recipe:
    """Half a million updates; the rate falls tenfold at 400,000 and 450,000."""
    network, size, jitter, ignore, momentum, batch, warm = VARIANTS[variant]
    squashed = Resize(size, size)
    data = Data(
        train=Source("coco", "train", (RandomJitter(jitter), squashed, RandomHSV(1.5, 1.5, 0.1), RandomFlip())),
        val=Source("coco", "val", (squashed,)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area"),
        slots=100,
        workers=8,
    )
    things = data.facts().things
    rate = Warmup(warm, Milestones(1e-3, (400_000 - warm, 450_000 - warm)))
    stage = Stage(
        model=network(num_classes=len(things)),
        task=Detection(len(things), things, anchor_loss=YOLOv3Loss(ignore=ignore)),
        data=data,
        optimizer=SGD(rate, momentum=momentum, weight_decay=5e-4),
        steps=500_000,
        batch_size=batch,
        eval_batch_size=16,
        eval_every=20_000,
        save_every=2000,
        keep_best="box_ap50",
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
