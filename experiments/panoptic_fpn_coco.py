"""Panoptic FPN on COCO, VARIANT: with detectron2's training.

Paper: Kirillov et al. 2019, arXiv:1901.02446
Published (resnet50_1x): PQ 39.4, box AP 37.6, mask AP 34.7 on the 5000 validation images (detectron2)
Published (resnet50_3x): PQ 41.5, box AP 40.0, mask AP 36.5 (detectron2)
Published (resnet101_3x): PQ 43.0, box AP 42.4, mask AP 38.5 (detectron2); PQ 40.9 on test-dev in the paper
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/panoptic_fpn_coco.py:VARIANT, after jaxseg data prepare coco --source DIR
Departures: images without objects stay in; all images of a batch lie on one of two canvases, on which the quality is
  measured.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.panoptic.panoptic_fpn import panoptic_fpn_resnet50, panoptic_fpn_resnet101
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.pretrained import Pretrained

NAME = "panoptic_fpn_{variant}_coco"
VARIANTS = {
    "resnet50_1x": (panoptic_fpn_resnet50, "R-50", 90_000, (60_000, 80_000)),
    "resnet50_3x": (panoptic_fpn_resnet50, "R-50", 270_000, (210_000, 250_000)),
    "resnet101_3x": (panoptic_fpn_resnet101, "R-101", 270_000, (210_000, 250_000)),
}
"""The network, detectron2's ImageNet weights, updates, and those at which the rate falls tenfold."""

WARMUP = 1000
CANVASES = Canvas(((800, 1344), (1344, 800)))


def recipe(variant: str = "resnet50_1x") -> Recipe:
    """Mask R-CNN's training; the labels of stuff weigh half."""
    network, start, steps, falls = VARIANTS[variant]
    several = ResizeShort((640, 672, 704, 736, 768, 800), 1333)
    data = Data(
        train=Source("coco", "train", (several, CANVASES, RandomFlip())),
        val=Source("coco", "val", (ResizeShort(800, 1333), CANVASES)),
        keys=(
            *("image", "index", "size", "original_size", "boxes", "classes", "valid", "crowd", "area"),
            *("instance_ids", "hidden_ids", "rle", "label", "panoptic"),
        ),
        slots=100,
        workers=8,
    )
    facts = data.facts()
    stage = Stage(
        model=network(num_classes=len(facts.things), num_stuff=len(facts.classes) - len(facts.things)),
        task=Panoptic(
            len(facts.things),
            facts.things,
            proposal_loss=DETECTRON2_PROPOSAL_LOSS,
            region_loss=DETECTRON2_REGION_LOSS,
            mask_targets="binary",
            paste="detectron2",
            labels=facts.classes,
        ),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, Milestones(0.02, tuple(step - WARMUP for step in falls)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((r"^backbone/(conv1|layer1_)", 0.0),),
        ),
        steps=steps,
        batch_size=16,
        eval_batch_size=2,
        eval_every=steps // 9,
        save_every=1000,
        keep_best="pq",
        init=Pretrained(
            f"{start}.pkl",
            resnet.CAFFE2_NAMES,
            part="backbone",
            source=f"detectron2's ImageNetPretrained/MSRA/{start}.pkl",
        ),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
