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
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.losses import CrossEntropy, inverse_log
from jaxseg.models.semantic.enet import enet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, OneCycle, Poly

PIXELS = (10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967)
"""Training pixels of each class, sky to bicyclist."""


def recipe() -> Recipe:
    """Small crops first, then whole images: most of the updates at less than half of the cost."""
    weighted = CrossEntropy(weights=inverse_log(PIXELS, k=1.1), normalize="weights")
    light = Photometric(brightness=0.2, contrast=0.2, saturation=0.2)
    crops = (RandomFlip(), RandomScale(0.5, 1.25), RandomCrop(240, 320), light)
    whole = (RandomFlip(), RandomScale(0.9, 1.3), RandomCrop(360, 480), light)

    def stage(name, augment, optimizer, **lengths):
        data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val"))
        return Stage(
            name=name,
            model=enet(num_classes=11),
            task=Semantic(num_classes=11, losses=(weighted,), classes=data.facts().classes),
            data=data,
            optimizer=optimizer,
            ema=0.998,
            log_every=20,
            save_every=100,
            eval_every=500,
            eval_batch_size=8,
            **lengths,
        )

    return Recipe(
        name="enet_camvid",
        stages=(
            stage("crops", crops, Adam(OneCycle(2.5e-3), weight_decay=2e-5), steps=2000, batch_size=6),
            stage("whole", whole, Adam(Poly(8e-4), weight_decay=2e-5), steps=1000, batch_size=5, init="previous"),
        ),
    )
