"""VARIANT on VOC 2007 and 2012, tested on VOC 2007, with darknet's training.

Paper: Redmon et al. 2016, arXiv:1506.02640
Published (yolo_v1): mAP 63.4 on the 4952 test images of VOC 2007, at 45 images per second on a Titan X
Published (yolo_v1_tiny): mAP 52.7, at 155 images per second
Ours: not trained here
Hardware and time: not run; 40,000 updates of 64 images of 448x448 need a GPU of 16 GB
Command: jaxseg train experiments/yolo_voc.py:VARIANT, after jaxseg data prepare voc --source DIR, DIR with the
  VOCdevkit of 2007 and 2012
Departures: no weights of ImageNet's first twenty convolutions are published that we know of, so that training starts
  from nothing; give your own by --weights. Beyond the border of a jittered image it is black; of several objects in a
  cell the first counts, where darknet shuffles them. The rate rises in a line, darknet's in three steps.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip, RandomHSV, RandomJitter, Resize
from jaxseg.models.detection.yolo_v1 import yolo_v1, yolo_v1_tiny
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.grid import YOLOv1Loss
from jaxseg.train.optim import SGD, Milestones, Warmup

NAME = "{variant}_voc"
VARIANTS = {"yolo_v1": yolo_v1, "yolo_v1_tiny": yolo_v1_tiny}


def recipe(variant: str = "yolo_v1") -> Recipe:
    """40,000 updates; the rate rises tenfold at first, and falls tenfold at 20,000 and 30,000."""
    squashed = Resize(448, 448)
    data = Data(
        train=Source(
            "voc",
            "2007_train+2007_val+2012_train+2012_val",
            (RandomJitter(0.2), squashed, RandomHSV(1.5, 1.5), RandomFlip()),
        ),
        val=Source("voc", "2007_test", (squashed,)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "difficult"),
        slots=60,
        workers=8,
    )
    things = data.facts().things
    stage = Stage(
        model=VARIANTS[variant](num_classes=len(things)),
        task=Detection(len(things), things, anchor_loss=YOLOv1Loss(weight=0.5), evaluation="voc2007"),
        data=data,
        optimizer=SGD(Warmup(600, Milestones(0.01, (19_400, 29_400)), start=0.001), momentum=0.9, weight_decay=5e-4),
        steps=40_000,
        batch_size=64,
        eval_batch_size=16,
        eval_every=4000,
        save_every=500,
        keep_best="voc_ap",
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
