"""RetinaNet on COCO, VARIANT: with torchvision's and detectron2's training.

Paper: Lin et al. 2017, arXiv:1708.02002
Published (resnet50_fpn): box AP 36.4 on the 5000 validation images (torchvision)
Published (resnet101_fpn_3x): box AP 40.4 on the 5000 validation images (detectron2); 39.1 on test-dev in the paper
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/retinanet_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: images without objects stay in; all images of a batch lie on one of two canvases; both variants divide the
  loss by each image's matched anchors, as torchvision does, detectron2 by a moving average of them.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.detection.retinanet import retinanet_resnet50_fpn, retinanet_resnet101_fpn
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.pretrained import Pretrained

NAME = "retinanet_{variant}_coco"
VARIANTS = {
    "resnet50_fpn": (retinanet_resnet50_fpn, "resnet50", 190_560, (117_268, 161_243)),
    "resnet101_fpn_3x": (retinanet_resnet101_fpn, "resnet101", 270_000, (210_000, 250_000)),
}
"""The network, torchvision's ImageNet weights, updates, and those at which the rate falls tenfold."""

WARMUP = 1000
CANVASES = Canvas(((800, 1344), (1344, 800)))
TEST = (ResizeShort(800, 1333), CANVASES)
SEVERAL = (ResizeShort((640, 672, 704, 736, 768, 800), 1333), CANVASES)


def recipe(variant: str = "resnet50_fpn") -> Recipe:
    """Sixteen images an update, at half the rate of two-stage detectors."""
    network, architecture, steps, falls = VARIANTS[variant]
    data = Data(
        train=Source("coco", "train", (*(SEVERAL if variant.endswith("3x") else TEST), RandomFlip())),
        val=Source("coco", "val", TEST),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area"),
        slots=100,
        workers=8,
    )
    things = data.facts().things
    stage = Stage(
        model=network(num_classes=len(things)),
        task=Detection(len(things), things),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, Milestones(0.01, tuple(step - WARMUP for step in falls)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((r"^backbone/(conv1|layer1_)", 0.0),),
        ),
        steps=steps,
        batch_size=16,
        eval_batch_size=2,
        eval_every=steps // 9,
        save_every=1000,
        keep_best="box_ap",
        init=Pretrained(
            "torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture=architecture
        ),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
