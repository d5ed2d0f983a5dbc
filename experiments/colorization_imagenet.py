"""Colorful image colorization on ImageNet, as published.

Paper: Zhang et al. 2016, arXiv:1603.08511
Published: AuC 89.5, rebalanced 67.3, VGG-16's top-1 56.0 on 10,000 recoloured validation images
Ours: not trained here
Hardware and time: not run; 450,000 updates of 40 images need a GPU for days
Command: jaxseg train experiments/colorization_imagenet.py, in a directory whose folder imagenet holds train/ and val/
Departures: He's initialisation instead of the data-dependent one; images are scaled to a short side of 256 and cropped;
  the prior is that of 200 photographs of BSDS500 unless one measures ImageNet's (jaxseg.ops.color.prior_of).
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import CentreCrop, RandomCrop, RandomFlip, ResizeShort
from jaxseg.models.colorization.colorization import colorization_eccv16
from jaxseg.ops.color_priors import PHOTOGRAPHS
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.colorization import Colorization
from jaxseg.train.optim import Adam, StepDecay

IMAGES = (("masks", "none"), ("channels", 3))


def recipe() -> Recipe:
    """One stage; five neighbours as in the paper, ten in the authors' program. The centres of the bins stay."""
    short = ResizeShort(256)
    data = Data(
        train=Source("folder:imagenet", "train", (short, RandomCrop(176, 176), RandomFlip()), options=IMAGES),
        val=Source("folder:imagenet", "val", (short, CentreCrop(256, 256)), options=IMAGES),
        keys=("image", "index"),
    )
    stage = Stage(
        model=colorization_eccv16(temperature=0.38),
        task=Colorization(PHOTOGRAPHS),
        data=data,
        optimizer=Adam(StepDecay(3e-5, every=225_000), b1=0.9, b2=0.99, weight_decay=1e-3),
        steps=450_000,
        batch_size=40,
        log_every=100,
        eval_every=10_000,
        keep_best="auc_rebalanced",
        save_every=5000,
        freeze=(r"decode/",),
    )
    return Recipe(stages=(stage,), name="colorization_imagenet")
