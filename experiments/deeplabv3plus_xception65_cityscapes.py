"""DeepLab v3+ on Cityscapes: Xception-65 from ImageNet, crops of 769, output stride 16.

Paper: Chen et al. 2018, arXiv:1802.02611 (Xception-65, pyramid with image pooling, decoder)
Published: mIoU 78.79 on the 500 validation images, single scale
Ours: not run yet
Hardware and time: not run yet; crops of 769 in batches of 16 need several GPUs
Command: jaxseg train experiments/deeplabv3plus_xception65_cityscapes.py, after jaxseg data prepare cityscapes
  --source DIR
Departures: BatchNorm keeps 0.9 of its running statistics per update, not 0.9997.
"""

from jaxseg.backbones import xception
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
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
    """Whole images of 1024x2048 in evaluation; 90,000 updates under polynomial decay."""
    augment = (RandomScale(0.5, 2.0), RandomCrop(769, 769), RandomFlip())
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = Stage(
        model=deeplabv3plus_xception65(num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes),
        data=data,
        optimizer=SGD(Poly(0.007), momentum=0.9, weight_decay=4e-5),
        steps=90_000,
        batch_size=16,
        eval_batch_size=2,
        eval_every=5000,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="deeplabv3plus_xception65_cityscapes")
