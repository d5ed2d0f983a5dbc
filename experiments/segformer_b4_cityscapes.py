"""SegFormer-B4 on Cityscapes: mix transformer from ImageNet, crops of 1024x1024.

Paper: Xie et al. 2021, arXiv:2105.15203, Table 3, with the training of mmsegmentation
Published: mIoU 81.89 on the 500 validation images, single scale
Ours: not run yet
Hardware and time: not run yet; it needs several GPUs
Command: jaxseg train experiments/segformer_b4_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: as experiments/segformer_b0_cityscapes.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segformer import segformer_b4
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The smallest variant's training with the larger network."""
    base = load_file(Path(__file__).with_name("segformer_b0_cityscapes.py"))
    first = base.stages[0]
    weights = replace(first.init, file="hf:nvidia/mit-b4/pytorch_model.bin")
    stage = replace(first, model=segformer_b4(num_classes=19), init=weights)
    return replace(base, stages=(stage,), name="segformer_b4_cityscapes")
