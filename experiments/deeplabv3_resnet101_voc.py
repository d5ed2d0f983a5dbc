"""DeepLab v3 on VOC 2012: ResNet-101 from ImageNet, multi-grid, image pooling, output stride 16.

Paper: Chen et al. 2017, arXiv:1706.05587 (multi-grid (1, 2, 4), image pooling, output stride 16)
Published: mIoU 77.21 on the 1449 validation images, single scale, without COCO
Ours: not run yet
Hardware and time: not run yet; crops of 513 in batches of 16 need several GPUs
Command: jaxseg train experiments/deeplabv3_resnet101_voc.py, after jaxseg data prepare voc --source DIR
Departures: torchvision's ResNet-101, whose stem is one 7x7 convolution, and its ImageNet weights; BatchNorm keeps 0.9
  of its running statistics per update, not 0.9997; padding in evaluation is black.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.deeplabv3 import deeplabv3_resnet101
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet101")


def recipe() -> Recipe:
    """The paper's options, crops of 513 and polynomial decay over 30,000 updates."""
    augment = (RandomScale(0.5, 2.0), RandomCrop(513, 513), RandomFlip())
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    stage = Stage(
        model=deeplabv3_resnet101(
            num_classes=21, output_stride=16, multi_grid=(1, 2, 4), rates=(6, 12, 18), refinements=0, auxiliary=""
        ),
        task=Semantic(num_classes=21, classes=data.facts().classes),
        data=data,
        optimizer=SGD(Poly(0.007), momentum=0.9, weight_decay=1e-4),
        steps=30_000,
        batch_size=16,
        eval_every=2500,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="deeplabv3_resnet101_voc")
