"""ENet on CamVid: 11 classes at 360x480, from scratch on the 367 training images.

Paper: Paszke et al. 2016, arXiv:1606.02147, Table 5 (CamVid test set)
Published: mIoU 51.3 on the 233 test images
Ours: mIoU 59.4 on the 101 validation images, void ignored (58.0 with void counted as errors); class accuracy 78.7,
  pixel accuracy 87.5. Pole 3.1, sign 21.9 and pedestrian 29.7 are still the weakest
Hardware and time: one core (AVX-512) of a CPU with two, within two hours, interrupted once and resumed
Command: jaxseg train experiments/enet_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: encoder and decoder are trained together, not one after the other; 78 epochs in two stages under one-cycle
  and polynomial decay instead of 300 epochs at 5e-4, so that the schedule fits one CPU core; most of it on crops of
  240x320; changes of scale and light; a Dice loss beside the cross-entropy, which is divided by the sum of the weights;
  L2 of 2e-5; the moving average of the parameters is what is evaluated.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale
from jaxseg.losses import CrossEntropy, Dice, inverse_log
from jaxseg.models.semantic.enet import enet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, OneCycle, Poly

PIXELS = (10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967)
"""Training pixels of each class, sky to bicyclist."""


def recipe() -> Recipe:
    """Crops first, at less than half the price of whole images; then those. The class weights are the paper's
    throughout: with milder ones (k = 1.1) poles, signs and bicyclists were still at an IoU of 0 after 2,000 updates.
    """
    classes = Data(train=Source("camvid", "train"), val=Source("camvid", "val")).facts().classes

    def stage(name, scale, size, optimizer, **fields):
        augment = (RandomFlip(), RandomScale(*scale), RandomCrop(*size), Photometric(0.2, 0.2, 0.2))
        losses = (CrossEntropy(weights=inverse_log(PIXELS), normalize="weights"), Dice(0.5))
        return Stage(
            name=name,
            model=enet(num_classes=11),
            task=Semantic(num_classes=11, losses=losses, classes=classes),
            data=Data(train=Source("camvid", "train", augment), val=Source("camvid", "val")),
            optimizer=optimizer,
            ema=0.998,
            log_every=20,
            save_every=200,
            eval_every=1000,
            eval_batch_size=8,
            **fields,
        )

    def adam(schedule):
        return Adam(schedule, weight_decay=2e-5)

    return Recipe(
        name="enet_camvid",
        stages=(
            stage("crops", (0.7, 1.4), (240, 320), adam(OneCycle(2e-3, warmup=0.1)), steps=6000, batch_size=4),
            stage("whole", (1.0, 1.2), (360, 480), adam(Poly(8e-4)), steps=1200, batch_size=4, init="previous"),
        ),
    )
