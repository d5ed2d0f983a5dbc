"""LinkNet on Cityscapes at half size: ResNet-18 from ImageNet, 19 classes at 512x1024.

Paper: Chaurasia and Culurciello 2017, arXiv:1707.03718, section IV (Cityscapes)
Published: mIoU 76.44 on the 500 validation images (the authors' repository, e-lab/LinkNet)
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/linknet_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: AdamW under a one-cycle schedule for RMSProp at 5e-4; changes of scale; ENet's class weights as published
  for Cityscapes, in a loss that is divided by their sum; labels are reduced with the images.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale, Resize
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.linknet import linknet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet18")


def recipe() -> Recipe:
    """Some 200 epochs."""
    half = Resize(512, 1024)
    augment = (half, RandomScale(0.75, 1.5), RandomCrop(512, 1024), RandomFlip())
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val", (half,)))
    facts = data.facts()
    losses = (CrossEntropy(weights=facts.weights["inverse_log"], normalize="weights"),)
    stage = Stage(
        model=linknet(num_classes=19),
        task=Semantic(num_classes=19, losses=losses, classes=facts.classes),
        data=data,
        optimizer=AdamW(OneCycle(5e-4), weight_decay=1e-2),
        steps=74_000,
        batch_size=8,
        ema=0.999,
        eval_every=3700,
        save_every=500,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="linknet_cityscapes")
