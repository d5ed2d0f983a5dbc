"""Panoptic FPN on Cityscapes, ResNet-101, with the paper's training.

Paper: Kirillov et al. 2019, arXiv:1901.02446, section 5
Published: PQ 58.1, things 52.0, stuff 62.5, mIoU 75.7 on the 500 validation images
Ours: not run yet
Hardware and time: not run yet; 32 crops of 512x1024 an update need several GPUs
Command: jaxseg train experiments/panoptic_fpn_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: the backbone's normalisation keeps ImageNet's statistics.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.panoptic.panoptic_fpn import panoptic_fpn_resnet101
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.pretrained import Pretrained


def recipe() -> Recipe:
    """65,000 updates, the rate falls at 40,000 and 55,000; whole images of 1024x2048 in evaluation."""
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (RandomScale(0.5, 2.0), RandomCrop(512, 1024), RandomFlip(), light)
    data = Data(
        train=Source("cityscapes", "train", augment),
        val=Source("cityscapes", "val"),
        keys=("image", "index", "boxes", "classes", "valid", "crowd", "area", "instance_ids", "label", "panoptic"),
        slots=150,
        workers=8,
    )
    facts = data.facts()
    stage = Stage(
        model=panoptic_fpn_resnet101(num_classes=len(facts.things), num_stuff=len(facts.classes) - len(facts.things)),
        task=Panoptic(
            len(facts.things),
            facts.things,
            proposal_loss=DETECTRON2_PROPOSAL_LOSS,
            region_loss=DETECTRON2_REGION_LOSS,
            mask_targets="binary",
            paste="detectron2",
            labels=facts.classes,
            semantic_weight=1.0,
            stuff_area=2048,
        ),
        data=data,
        optimizer=SGD(
            Warmup(1000, Milestones(0.01, (39_000, 54_000)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((r"^backbone/(conv1|layer1_)", 0.0),),
        ),
        steps=65_000,
        batch_size=32,
        eval_batch_size=1,
        eval_every=5000,
        save_every=1000,
        keep_best="pq",
        init=Pretrained(
            "R-101.pkl",
            resnet.CAFFE2_NAMES,
            part="backbone",
            source="detectron2's ImageNetPretrained/MSRA/R-101.pkl",
        ),
    )
    return Recipe(stages=(stage,), name="panoptic_fpn_cityscapes")
