"""Mask R-CNN on COCO, VARIANT: with torchvision's and detectron2's training.

Paper: He et al. 2017, arXiv:1703.06870; the variant lsj: Ghiasi et al. 2021, arXiv:2012.07177
Published (resnet50_fpn): box AP 37.9, mask AP 34.6 on the 5000 validation images (torchvision)
Published (resnet50_fpn_lsj): box AP 44.6, mask AP 40.3, 100 epochs from nothing (detectron2)
Published (resnet50_fpn_1x): box AP 38.6, mask AP 35.2 (detectron2)
Published (resnet50_fpn_3x): box AP 41.0, mask AP 37.2 (detectron2)
Published (resnet101_fpn_3x): box AP 42.9, mask AP 38.6 (detectron2)
Published (resnext101_32x8d_fpn_3x): box AP 44.3, mask AP 39.5 (detectron2)
Published (resnext101_64x4d_fpn_1x): box AP 42.4, mask AP 37.5 (Detectron)
Published (resnet50_c4_1x): box AP 36.8, mask AP 32.2 (detectron2)
Published (resnet50_c4_3x): box AP 39.8, mask AP 34.4 (detectron2)
Published (resnet101_c4_3x): box AP 42.6, mask AP 36.7 (detectron2); 33.1 mask AP on test-dev in the paper
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/mask_rcnn_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: images without objects stay in; all images of a batch lie on one of two canvases; lsj trains torchvision's
  second version, detectron2 its own network.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, LargeScaleJitter, RandomFlip, ResizeShort
from jaxseg.models.detection.faster_rcnn_c4 import CAFFE2_BACKBONE, CAFFE2_SHARED_HEAD
from jaxseg.models.instance.mask_rcnn import (
    mask_rcnn_resnet50_c4,
    mask_rcnn_resnet50_fpn,
    mask_rcnn_resnet50_fpn_v2,
    mask_rcnn_resnet101_c4,
    mask_rcnn_resnet101_fpn,
    mask_rcnn_resnext101_32x8d_fpn,
    mask_rcnn_resnext101_64x4d_fpn,
    on_resnet,
)
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

NAME = "mask_rcnn_{variant}_coco"
VARIANTS = {
    "resnet50_fpn": (mask_rcnn_resnet50_fpn, "torchvision", "26 epochs"),
    "resnet50_fpn_lsj": (mask_rcnn_resnet50_fpn_v2, "lsj", "100 epochs"),
    "resnet50_fpn_1x": (on_resnet, "R-50", "1x"),
    "resnet50_fpn_3x": (on_resnet, "R-50", "3x"),
    "resnet101_fpn_3x": (mask_rcnn_resnet101_fpn, "R-101", "3x"),
    "resnext101_32x8d_fpn_3x": (mask_rcnn_resnext101_32x8d_fpn, "X-101-32x8d", "3x"),
    "resnext101_64x4d_fpn_1x": (mask_rcnn_resnext101_64x4d_fpn, "X-101-64x4d", "1x"),
    "resnet50_c4_1x": (mask_rcnn_resnet50_c4, "R-50", "1x"),
    "resnet50_c4_3x": (mask_rcnn_resnet50_c4, "R-50", "3x"),
    "resnet101_c4_3x": (mask_rcnn_resnet101_c4, "R-101", "3x"),
}
"""The network, whose training or which of detectron2's ImageNet weights, and how long."""

SCHEDULES = {
    "1x": (90_000, (60_000, 80_000)),
    "3x": (270_000, (210_000, 250_000)),
    "26 epochs": (190_560, (117_268, 161_243)),
    "100 epochs": (184_375, (163_889, 177_546)),
}
"""Updates, and those at which the rate falls tenfold; images in batches of 16, of 64 for 100 epochs."""

WARMUP = 1000

CANVASES = Canvas(((800, 1344), (1344, 800)))
TEST = (ResizeShort(800, 1333), CANVASES)
KEYS = ("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area")
MASKS = ("instance_ids", "hidden_ids", "rle")


def recipe(variant: str = "resnet50_fpn") -> Recipe:
    """Sixteen images an update, or 64; the rate falls tenfold twice, near the end."""
    network, whose, schedule = VARIANTS[variant]
    (steps, falls), jitter = SCHEDULES[schedule], whose == "lsj"
    data = coco(whose)
    things = data.facts().things
    build = {"conventions": "detectron2", "layers": 50} if network is on_resnet else {}
    losses = {"proposal_loss": DETECTRON2_PROPOSAL_LOSS, "region_loss": DETECTRON2_REGION_LOSS}
    detectron2 = {**losses, "mask_targets": "binary", "paste": "detectron2"}
    conventions = detectron2 if whose not in ("torchvision", "lsj") else {}
    rate = Milestones(0.1 if jitter else 0.02, tuple(step - WARMUP for step in falls))
    stage = Stage(
        model=network(num_classes=len(things), **build),
        task=Instance(len(things), things, **conventions),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, rate, start=0.001),
            momentum=0.9,
            weight_decay=4e-5 if jitter else 1e-4,
            lr_multipliers=frozen(whose),
        ),
        steps=steps,
        batch_size=64 if jitter else 16,
        eval_batch_size=2,
        eval_every=steps // 9,
        save_every=1000,
        keep_best="mask_ap",
        init=backbone(whose, one_map="c4" in variant),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def coco(whose: str) -> Data:
    """Return COCO with masks, scaled as they train: several short sides, or large-scale jitter."""
    scaled = (ResizeShort((640, 672, 704, 736, 768, 800), 1333), CANVASES)
    if whose == "torchvision":
        scaled = TEST
    elif whose == "lsj":
        scaled = (LargeScaleJitter((0.1, 2.0), (1024, 1024)),)
    return Data(
        train=Source("coco", "train", (*scaled, RandomFlip())),
        val=Source("coco", "val", TEST),
        keys=(*KEYS, *MASKS),
        slots=100,
        workers=8,
    )


def frozen(whose: str) -> tuple[tuple[str, float], ...]:
    """Return that the stem and the first stage keep ImageNet's weights, where there are any."""
    return () if whose == "lsj" else ((r"^backbone/(conv1|layer1_)", 0.0),)


def backbone(whose: str, *, one_map: bool = False) -> Combined | Pretrained | None:
    """Return where the backbone begins; on one map its last stage is part of the head."""
    if whose == "lsj":
        return None
    if whose == "torchvision":
        return Pretrained(
            "torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet50"
        )
    file, source = f"{whose}.pkl", f"detectron2's ImageNetPretrained, {whose}.pkl"
    if not one_map:
        return Pretrained(file, resnet.CAFFE2_NAMES, part="backbone", source=source)
    return Combined(
        (
            Pretrained(file, CAFFE2_BACKBONE, part="backbone", source=source),
            Pretrained(file, CAFFE2_SHARED_HEAD, part="shared_head", source=source),
        )
    )
