"""PSPNet on Cityscapes: ResNet-50 from ImageNet at output stride 8, pyramid pooling, crops of 713.

Paper: Zhao et al. 2017, arXiv:1612.01105, with the training of the authors' PyTorch code (hszhao/semseg)
Published: mIoU 77.30 on the 500 validation images, single scale; ResNet-101 78.63 (79.70 in the paper's repository)
Ours: not run yet
Hardware and time: not run yet; crops of 713 in batches of 16 need several GPUs
Command: jaxseg train experiments/pspnet_resnet50_cityscapes.py, after jaxseg data prepare cityscapes --source DIR;
  ResNet-101: --set stages.0.model.backbone.depths="(3, 4, 23, 3)" --set
  stages.0.init.file=resnet101_semseg/resnet101_v2.pth
Departures: as experiments/pspnet_resnet50_voc.py
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomRotate, RandomScale
from jaxseg.models.semantic.pspnet import pspnet_resnet50
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic


def recipe() -> Recipe:
    """VOC's training on larger crops for 200 epochs."""
    base = load_file(Path(__file__).with_name("pspnet_resnet50_voc.py"))
    augment = (RandomScale(0.5, 2.0), RandomRotate(10), RandomFlip(), RandomCrop(713, 713))
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = replace(
        base.stages[0],
        model=pspnet_resnet50(num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes, aux_weight=0.4),
        data=data,
        steps=200 * 2975 // 16,
        eval_batch_size=1,
        eval_every=5000,
    )
    return replace(base, stages=(stage,), name="pspnet_resnet50_cityscapes")
