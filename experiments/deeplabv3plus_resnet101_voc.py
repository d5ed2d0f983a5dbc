"""DeepLab v3+ on VOC 2012: ResNet-101 from ImageNet, decoder of two 3x3 convolutions, output stride 16.

Paper: Chen et al. 2018, arXiv:1802.02611, Table 3 (ResNet-101, decoder, output stride 16)
Published: mIoU 78.85 on the 1449 validation images, single scale, without COCO
Ours: not run yet
Hardware and time: not run yet; crops of 513 in batches of 16 need several GPUs
Command: jaxseg train experiments/deeplabv3plus_resnet101_voc.py, after jaxseg data prepare voc --source DIR
Departures: as experiments/deeplabv3_resnet101_voc.py, whose training this is.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.deeplabv3plus import deeplabv3plus_resnet101
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """Version 3's training with the decoder."""
    base = load_file(Path(__file__).with_name("deeplabv3_resnet101_voc.py"))
    stage = replace(base.stages[0], model=deeplabv3plus_resnet101(num_classes=21))
    return replace(base, stages=(stage,), name="deeplabv3plus_resnet101_voc")
