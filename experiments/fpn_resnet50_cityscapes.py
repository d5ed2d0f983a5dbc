"""Semantic FPN on Cityscapes: ResNet-50 from ImageNet, a feature pyramid summed at a quarter of the size.

Paper: Kirillov et al. 2019, arXiv:1901.02446, section 3.1, with the training of mmsegmentation (80,000 updates)
Published: mIoU 74.52 on the 500 validation images, single scale; ResNet-101 75.80
Ours: not run yet
Hardware and time: not run yet; crops of 512x1024 in batches of 8 need several GPUs
Command: jaxseg train experiments/fpn_resnet50_cityscapes.py, after jaxseg data prepare cityscapes --source DIR;
  ResNet-101: --set stages.0.model.backbone.depths="(3, 4, 23, 3)" --set
  stages.0.init.architecture=resnet101
Departures: the decoder of segmentation-models-pytorch, with GroupNorm and dropout.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.fpn import fpn_resnet50
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet50")


def recipe() -> Recipe:
    """Whole images of 1024x2048 in evaluation."""
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (RandomScale(0.5, 2.0), RandomCrop(512, 1024), RandomFlip(), light)
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = Stage(
        model=fpn_resnet50(num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes),
        data=data,
        optimizer=SGD(Poly(0.01, end=1e-4), momentum=0.9, weight_decay=5e-4),
        steps=80_000,
        batch_size=8,
        eval_batch_size=1,
        eval_every=8000,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="fpn_resnet50_cityscapes")
