"""DeepLab v3 on Cityscapes: ResNet-101 from ImageNet, crops of 769, output stride 16.

Paper: Chen et al. 2017, arXiv:1706.05587, Table 9 (Cityscapes, fine annotations, output stride 16)
Published: mIoU 77.23 on the 500 validation images, single scale
Ours: not run yet
Hardware and time: not run yet; crops of 769 in batches of 16 need several GPUs
Command: jaxseg train experiments/deeplabv3_resnet101_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: as experiments/deeplabv3_resnet101_voc.py
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.deeplabv3 import deeplabv3_resnet101
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic


def recipe() -> Recipe:
    """VOC's training on larger crops, three times as long."""
    base = load_file(Path(__file__).with_name("deeplabv3_resnet101_voc.py"))
    augment = (RandomScale(0.5, 2.0), RandomCrop(769, 769), RandomFlip())
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    options = {"output_stride": 16, "multi_grid": (1, 2, 4), "rates": (6, 12, 18), "refinements": 0, "auxiliary": ""}
    stage = replace(
        base.stages[0],
        model=deeplabv3_resnet101(num_classes=19, **options),
        task=Semantic(num_classes=19, classes=data.facts().classes),
        data=data,
        steps=90_000,
        eval_batch_size=2,
        eval_every=5000,
    )
    return replace(base, stages=(stage,), name="deeplabv3_resnet101_cityscapes")
