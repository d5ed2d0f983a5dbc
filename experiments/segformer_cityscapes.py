"""SegFormer on Cityscapes, VARIANT: mix transformer from ImageNet, crops of 1024x1024.

Paper: Xie et al. 2021, arXiv:2105.15203, Table 3, with the training of mmsegmentation
Published (b0): mIoU 76.54 on the 500 validation images, single scale
Published (b1): mIoU 78.56 on the 500 validation images, single scale
Published (b2): mIoU 81.08 on the 500 validation images, single scale
Published (b3): mIoU 81.94 on the 500 validation images, single scale
Published (b4): mIoU 81.89 on the 500 validation images, single scale
Published (b5): mIoU 82.25 on the 500 validation images, single scale
Ours: not run yet
Hardware and time: not run yet; crops of 1024 in batches of 8 need several GPUs
Command: jaxseg train experiments/segformer_cityscapes.py:VARIANT, after jaxseg data prepare cityscapes --source DIR
Departures: in evaluation the whole image at once, not windows of 1024 at steps of 768.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.segformer import (
    segformer_b0,
    segformer_b1,
    segformer_b2,
    segformer_b3,
    segformer_b4,
    segformer_b5,
)
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic

NAME = "segformer_{variant}_cityscapes"
VARIANTS = {
    "b0": segformer_b0,
    "b1": segformer_b1,
    "b2": segformer_b2,
    "b3": segformer_b3,
    "b4": segformer_b4,
    "b5": segformer_b5,
}


def recipe(variant: str = "b0") -> Recipe:
    """ADE20K's training on larger crops in smaller batches."""
    base = load_file(f"{Path(__file__).with_name('segformer_ade20k.py')}:{variant}")
    light = base.stages[0].data.train.transforms[-1]
    augment = (RandomScale(0.5, 2.0), RandomCrop(1024, 1024), RandomFlip(), light)
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = replace(
        base.stages[0],
        model=VARIANTS[variant](num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes),
        data=data,
        batch_size=8,
    )
    return replace(base, stages=(stage,), name=NAME.format(variant=variant))
