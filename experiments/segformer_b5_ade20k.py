"""SegFormer-B5 on ADE20K: mix transformer from ImageNet, crops of 640.

Paper: Xie et al. 2021, arXiv:2105.15203, Table 1, with the training of mmsegmentation
Published: mIoU 49.62 on the 2000 validation images, single scale, crops of 640 (50.58 with sizes rounded to the stride)
Ours: not run yet
Hardware and time: not run yet; it needs several GPUs
Command: jaxseg train experiments/segformer_b5_ade20k.py, after jaxseg data prepare ade20k --source DIR
Departures: as experiments/segformer_b0_ade20k.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Source
from jaxseg.data.transforms import PadToMultiple, RandomCrop, RandomFlip, RandomScale, ResizeWithin
from jaxseg.models.semantic.segformer import segformer_b5
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The smallest variant's training with the larger network and larger crops."""
    base = load_file(Path(__file__).with_name("segformer_b0_ade20k.py"))
    first = base.stages[0]
    shorter = ResizeWithin(2048, 640)
    light = first.data.train.transforms[-1]
    augment = (shorter, RandomScale(0.5, 2.0), RandomCrop(640, 640), RandomFlip(), light)
    data = replace(
        first.data,
        train=Source("ade20k", "train", augment),
        val=Source("ade20k", "val", (shorter, PadToMultiple(128))),
    )
    weights = replace(first.init, file="hf:nvidia/mit-b5/pytorch_model.bin")
    stage = replace(first, model=segformer_b5(num_classes=150), data=data, init=weights)
    return replace(base, stages=(stage,), name="segformer_b5_ade20k")
