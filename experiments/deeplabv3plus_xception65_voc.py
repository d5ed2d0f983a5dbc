"""DeepLab v3+ on VOC 2012: Xception-65 from ImageNet, separable convolutions, output stride 16.

Paper: Chen et al. 2018, arXiv:1802.02611 (decoder, separable convolutions, output stride 16)
Published: mIoU 79.79 on the 1449 validation images, single scale, without COCO
Ours: not run yet
Hardware and time: not run yet; crops of 513 in batches of 16 need several GPUs
Command: jaxseg train experiments/deeplabv3plus_xception65_voc.py, after jaxseg data prepare voc --source DIR
Departures: BatchNorm keeps 0.9 of its running statistics per update, not 0.9997; padding in evaluation is black.
"""

from jaxseg.backbones import xception
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.deeplabv3plus import deeplabv3plus_xception65
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "timm:xception65.tf_in1k",
    xception.TIMM_NAMES,
    part="backbone",
)


def recipe() -> Recipe:
    """Crops of 513 and polynomial decay over 30,000 updates."""
    augment = (RandomScale(0.5, 2.0), RandomCrop(513, 513), RandomFlip())
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    stage = Stage(
        model=deeplabv3plus_xception65(num_classes=21),
        task=Semantic(num_classes=21, classes=data.facts().classes),
        data=data,
        optimizer=SGD(Poly(0.007), momentum=0.9, weight_decay=4e-5),
        steps=30_000,
        batch_size=16,
        eval_every=2500,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="deeplabv3plus_xception65_voc")
