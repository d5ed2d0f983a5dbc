"""Faster R-CNN on COCO, VARIANT: with torchvision's and detectron2's training.

Paper: Ren et al. 2015, arXiv:1506.01497; Lin et al. 2017, arXiv:1612.03144 (the pyramid)
Published (resnet50_fpn): box AP 37.0 on the 5000 validation images (torchvision)
Published (mobilenet_v3_large_fpn): box AP 32.8 (torchvision)
Published (resnet101_fpn_3x): box AP 42.0 (detectron2)
Published (resnet50_c4_1x): box AP 35.7 (detectron2)
Published (resnet50_c4_3x): box AP 38.4 (detectron2)
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/faster_rcnn_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: images without objects stay in; all images of a batch lie on one of two canvases.
"""

from typing import Any

from jaxseg.backbones import mobilenet, resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.detection.faster_rcnn import faster_rcnn_resnet50_fpn, faster_rcnn_resnet101_fpn
from jaxseg.models.detection.faster_rcnn_c4 import CAFFE2_BACKBONE, CAFFE2_SHARED_HEAD, faster_rcnn_resnet50_c4
from jaxseg.models.detection.faster_rcnn_mobilenet import faster_rcnn_mobilenet_v3_large_fpn
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

NAME = "faster_rcnn_{variant}_coco"
VARIANTS = {
    "resnet50_fpn": (faster_rcnn_resnet50_fpn, "resnet50", "26 epochs"),
    "mobilenet_v3_large_fpn": (faster_rcnn_mobilenet_v3_large_fpn, "mobilenet_v3_large", "26 epochs"),
    "resnet101_fpn_3x": (faster_rcnn_resnet101_fpn, "R-101", "3x"),
    "resnet50_c4_1x": (faster_rcnn_resnet50_c4, "R-50", "1x"),
    "resnet50_c4_3x": (faster_rcnn_resnet50_c4, "R-50", "3x"),
}
"""The network, torchvision's or detectron2's ImageNet weights, and how long."""

SCHEDULES = {
    "1x": (90_000, (60_000, 80_000)),
    "3x": (270_000, (210_000, 250_000)),
    "26 epochs": (190_560, (117_268, 161_243)),
}
"""Updates, and those at which the rate falls tenfold."""

WARMUP = 1000
CANVASES = Canvas(((800, 1344), (1344, 800)))
TEST = (ResizeShort(800, 1333), CANVASES)
SEVERAL = (ResizeShort((640, 672, 704, 736, 768, 800), 1333), CANVASES)


def recipe(variant: str = "resnet50_fpn") -> Recipe:
    """Sixteen images an update; the rate falls tenfold twice, near the end."""
    network, start, schedule = VARIANTS[variant]
    steps, falls = SCHEDULES[schedule]
    detectron2 = schedule != "26 epochs"
    data = Data(
        train=Source("coco", "train", (*(SEVERAL if detectron2 else TEST), RandomFlip())),
        val=Source("coco", "val", TEST),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area"),
        slots=100,
        workers=8,
    )
    things = data.facts().things
    losses: dict[str, Any] = {}
    if detectron2:
        losses = {"proposal_loss": DETECTRON2_PROPOSAL_LOSS, "region_loss": DETECTRON2_REGION_LOSS}
    still = r"^backbone/(conv1|layer1_)" if start != "mobilenet_v3_large" else r"^backbone/(stem|block[0-9]_)"
    stage = Stage(
        model=network(num_classes=len(things)),
        task=Detection(len(things), things, **losses),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, Milestones(0.02, tuple(step - WARMUP for step in falls)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((still, 0.0),),
        ),
        steps=steps,
        batch_size=16,
        eval_batch_size=2,
        eval_every=steps // 9,
        save_every=1000,
        keep_best="box_ap",
        init=backbone(start, one_map="c4" in variant),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def backbone(start: str, *, one_map: bool) -> Combined | Pretrained:
    """Return where the backbone begins; on one map its last stage is part of the head."""
    if start == "mobilenet_v3_large":
        rules = mobilenet.TORCHVISION_V3_NAMES
        return Pretrained("torchvision:IMAGENET1K_V1", rules, part="backbone", architecture=start)
    if start == "resnet50":
        rules = resnet.TORCHVISION_NAMES
        return Pretrained("torchvision:IMAGENET1K_V1", rules, part="backbone", architecture=start)
    file, source = f"{start}.pkl", f"detectron2's ImageNetPretrained/MSRA/{start}.pkl"
    if not one_map:
        return Pretrained(file, resnet.CAFFE2_NAMES, part="backbone", source=source)
    return Combined(
        (
            Pretrained(file, CAFFE2_BACKBONE, part="backbone", source=source),
            Pretrained(file, CAFFE2_SHARED_HEAD, part="shared_head", source=source),
        )
    )
