"""LR-ASPP on Cityscapes: MobileNetV3-Large from ImageNet at output stride 16.

Paper: Howard et al. 2019, arXiv:1905.02244, section 6.4, with the training of mmsegmentation (320,000 updates)
Published: mIoU 69.54 on the 500 validation images, single scale, with a backbone of output stride 8 (mmsegmentation)
Ours: not run yet
Hardware and time: not run yet; crops of 512x1024 in batches of 16 need a GPU
Command: jaxseg train experiments/lraspp_mobilenet_v3_large_cityscapes.py, after jaxseg data prepare cityscapes --source
  DIR
Departures: output stride 16, as the paper and torchvision have it.
"""

from jaxseg.backbones import mobilenet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.lraspp import lraspp_mobilenet_v3_large
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "torchvision:IMAGENET1K_V1",
    mobilenet.TORCHVISION_V3_NAMES,
    part="backbone",
    architecture="mobilenet_v3_large",
)


def recipe() -> Recipe:
    """Whole images of 1024x2048 in evaluation."""
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (RandomScale(0.5, 2.0), RandomCrop(512, 1024), RandomFlip(), light)
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = Stage(
        model=lraspp_mobilenet_v3_large(num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes),
        data=data,
        optimizer=SGD(Poly(0.01, end=1e-4), momentum=0.9, weight_decay=5e-4),
        steps=320_000,
        batch_size=16,
        eval_batch_size=2,
        eval_every=16_000,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="lraspp_mobilenet_v3_large_cityscapes")
