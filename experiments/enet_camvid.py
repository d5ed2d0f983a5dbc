"""ENet on CamVid: 11 classes at 360x480, from scratch on the 367 training images.

Paper: Paszke et al. 2016, arXiv:1606.02147, Table 5 (CamVid test set)
Published: mIoU 51.3 on the 233 test images
Ours: not run yet (101 validation images, void ignored)
Hardware and time: not run yet
Command: jaxseg train experiments/enet_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: encoder and decoder are trained together, not one after the other; 6,000 updates of 10 images (163 epochs)
  under polynomial decay from 1e-3 instead of 300 epochs from 5e-4; random flips, and crops of images enlarged up to
  1.5 times; the moving average of the parameters is what is evaluated.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
from jaxseg.losses import CrossEntropy, inverse_log
from jaxseg.models.semantic.enet import enet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, Poly

PIXELS = (10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967)
"""Training pixels of each class, sky to bicyclist."""


def recipe() -> Recipe:
    """ENet with the paper's class weights, 1 / ln(1.02 + share of the class)."""
    augment = (RandomFlip(), RandomScale(1.0, 1.5), RandomCrop(360, 480))
    data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val"))
    weighted = CrossEntropy(weights=inverse_log(PIXELS))
    stage = Stage(
        model=enet(num_classes=11),
        task=Semantic(num_classes=11, losses=(weighted,), classes=data.facts().classes),
        data=data,
        optimizer=Adam(Poly(1e-3), weight_decay=2e-4),
        steps=6000,
        batch_size=10,
        ema=0.999,
        log_every=20,
        eval_every=250,
        save_every=100,
    )
    return Recipe(stages=(stage,), name="enet_camvid")
