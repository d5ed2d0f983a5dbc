"""U-Net on Oxford-IIIT Pet: the animal against the rest at 256x256, ResNet-34 from ImageNet.

Paper: Ronneberger et al. 2015, arXiv:1505.04597, on a ResNet-34 as in segmentation-models-pytorch
Published: nothing on this data set
Ours: not run yet (3669 test images)
Hardware and time: not run yet
Command: jaxseg train experiments/unet_resnet34_oxford_pets.py, after jaxseg data prepare oxford_pets --source DIR
Departures: a training of our own: AdamW under a one-cycle schedule, cross-entropy and Dice loss, flips and changes of
  scale and light.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale, Resize
from jaxseg.losses import CrossEntropy, Dice
from jaxseg.models.semantic.unet import unet_resnet34
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet34")


def recipe() -> Recipe:
    """Some 20 epochs."""
    square = Resize(256, 256)
    augment = (square, RandomScale(0.75, 1.5), RandomCrop(256, 256), RandomFlip(), Photometric(0.2, 0.2, 0.2))
    data = Data(train=Source("oxford_pets", "trainval", augment), val=Source("oxford_pets", "test", (square,)))
    stage = Stage(
        model=unet_resnet34(num_classes=2),
        task=Semantic(num_classes=2, losses=(CrossEntropy(), Dice(0.5)), classes=data.facts().classes),
        data=data,
        optimizer=AdamW(OneCycle(3e-4), weight_decay=1e-2),
        steps=4600,
        batch_size=16,
        eval_batch_size=32,
        eval_every=460,
        save_every=230,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="unet_resnet34_oxford_pets")
