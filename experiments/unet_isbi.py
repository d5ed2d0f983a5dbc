"""U-Net on ISBI 2012: cells and membranes in electron microscopy, trained on 20 slices, judged on 4.

Paper: Ronneberger et al. 2015, arXiv:1505.04597, Table 1 (ISBI test set, 30 training slices)
Published: warping error 0.000353, Rand error 0.0382 on the test volume
Ours: IoU of the cells 90.5, of the membranes 67.9, mIoU 79.2, pixel accuracy 92.1, Rand error 0.1225, V-Rand of thinned
  membranes 0.906, warping error 0.00321 (all pixels that still differ: see docs/papers/unet.md), pixel error 0.0497, on
  the 4 held-out slices of the training volume, 3,000 steps
Hardware and time: one core (AVX-512) of an AMD EPYC that was shared with others, 70 minutes; 0.37 s a step at best
Command: jaxseg train experiments/unet_isbi.py, after jaxseg data prepare isbi_em --source DIR
Departures: 16 channels at the first level instead of 64 and tiles of 380 pixels instead of 572, so that one CPU core is
  enough; 20 training slices instead of 30; Adam instead of SGD with momentum 0.99; a schedule of our own, since the
  paper states none; class weights that make up for what the separation term adds to membranes; weights averaged over
  steps; one prediction, not the mean of seven rotated ones (the mean of eight, jaxseg evaluate --tta turns: cells
  90.9, membranes 68.8, warping error 0.00281). The paper's size on an accelerator:
  --set stages.0.model.width=64 --set stages.0.steps=6000
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import Elastic, MirrorPad, Photometric, RandomCrop, RandomRotate90, SeparationWeights
from jaxseg.metrics import Rand, Warping
from jaxseg.models.semantic.unet import unet_original
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, OneCycle

BORDER = 92
"""Pixels that the valid convolutions eat on each side."""

TILE = 380
"""Side of a training tile; the paper's 572 takes 2.3 times as long."""


def recipe() -> Recipe:
    """One tile a step out of the mirrored slice, as in the paper; validation sees whole slices, mirrored to the 700
    pixels that the network takes.

    The separation term alone makes a pixel of a membrane weigh 3.3 more on average than its class. The class weights
    make up for that: they leave membranes 1.2 times the weight of cells, thin ones more and thick ones less.
    """
    tile = (MirrorPad(BORDER), RandomCrop(TILE, TILE), SeparationWeights(class_weights=(1.5, 4.0)))
    turns = (RandomRotate90(), Elastic(), Photometric(brightness=0.2, contrast=0.2))
    data = Data(
        train=Source("isbi_em", "train", (*tile, *turns)),
        val=Source("isbi_em", "val", (MirrorPad(BORDER + 2),)),
        keys=("image", "label", "weight"),
    )
    classes = data.facts().classes
    stage = Stage(
        model=unet_original(num_classes=len(classes), width=16),
        task=Semantic(num_classes=len(classes), classes=classes, extra_metrics=(Rand(), Warping())),
        data=data,
        optimizer=Adam(OneCycle(1e-3)),
        steps=3000,
        batch_size=1,
        ema=0.995,
        log_every=20,
        eval_every=500,
        save_every=100,
    )
    return Recipe(stages=(stage,), name="unet_isbi")
