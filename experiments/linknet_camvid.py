"""LinkNet on CamVid: 11 classes at 360x480, from scratch on the 367 training images.

Paper: Chaurasia and Culurciello 2017, arXiv:1707.03718, section IV (CamVid)
Published: nothing at this resolution and from scratch
Ours: not run yet (101 validation images, void ignored)
Hardware and time: not run yet
Command: jaxseg train experiments/linknet_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: no weights from ImageNet to start with; 360x480 pixels; AdamW under a one-cycle schedule; changes of scale
  and light; ENet's class weights, in a loss that is divided by their sum; the moving average is what is evaluated.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.losses import CrossEntropy, inverse_log
from jaxseg.models.semantic.linknet import linknet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, OneCycle

PIXELS = (10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967)
"""Training pixels of each class, sky to bicyclist."""


def recipe() -> Recipe:
    """One stage of some 200 epochs."""
    augment = (RandomFlip(), RandomScale(0.7, 1.4), RandomCrop(352, 480), Photometric(0.2, 0.2, 0.2))
    data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val"))
    stage = Stage(
        model=linknet(num_classes=11),
        task=Semantic(
            num_classes=11,
            losses=(CrossEntropy(weights=inverse_log(PIXELS), normalize="weights"),),
            classes=data.facts().classes,
        ),
        data=data,
        optimizer=AdamW(OneCycle(1e-3), weight_decay=1e-2),
        steps=9000,
        batch_size=8,
        ema=0.998,
        log_every=20,
        eval_every=500,
        save_every=250,
    )
    return Recipe(stages=(stage,), name="linknet_camvid")
