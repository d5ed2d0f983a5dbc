"""DeepLab v2 on VOC: ResNet-101 from ImageNet, three scales fused by their maximum, a loss for each and one for all.

Paper: Chen et al. 2017, arXiv:1606.00915, Table 4 (ResNet-101, MSC, augmentation, ASPP)
Published: mIoU 76.35 on the 1449 validation images with COCO, 77.69 with a dense CRF; 79.7 on the test set with it
Ours: not run yet
Hardware and time: not run yet; ten crops of 321 an update at three scales need a GPU
Command: jaxseg train experiments/deeplabv2_resnet101_voc.py, after jaxseg data prepare voc --source DIR; with the CRF:
  jaxseg evaluate runs/deeplabv2_resnet101_voc --crf
Departures: no images of COCO; torchvision's ResNet-101 with its pixel statistics and its stride on the 3x3
  convolutions; the scale is any between 0.5 and 1.5, not one of five; all scores are enlarged to the labels, where the
  authors reduce labels by 8 and, for the smallest scale, by 16.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.deeplab import deeplabv2_resnet101
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet101")


def recipe() -> Recipe:
    """BatchNorm rests altogether, its statistics and its affine part; classifiers learn ten times as fast."""
    augment = (RandomScale(0.5, 1.5), RandomCrop(321, 321), RandomFlip())
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    backbone = resnet.resnet(101, output_stride=8, ceil_mode=True)
    stage = Stage(
        model=deeplabv2_resnet101(num_classes=21).clone(backbone=backbone),
        task=Semantic(num_classes=21, classes=data.facts().classes, aux_weight=1.0),
        data=data,
        optimizer=SGD(
            Poly(2.5e-4),
            momentum=0.9,
            weight_decay=5e-4,
            no_decay=(r"bias$", r"/norm"),
            lr_multipliers=((r"(^|/)norm", 0.0), (r"^head/.*bias$", 20.0), (r"^head/", 10.0)),
        ),
        steps=20_000,
        batch_size=10,
        accumulate=10,
        eval_batch_size=2,
        eval_every=2500,
        save_every=500,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="deeplabv2_resnet101_voc")
