"""Boundaries of the embedded scenes: HED on a narrow VGG-11 with batch normalisation, from nothing, on a CPU.

Paper: Xie and Tu 2015, arXiv:1504.06375
Published: none, the scenes are jaxseg's own
Ours: ODS 85.2, OIS 86.8 on 40 of the held-out scenes after 250 of the 500 updates
Hardware and time: not timed; two cores of an AMD EPYC, shared with much other work
Command: jaxseg train experiments/boundary_scenes.py
Departures: VGG-11 of a quarter of the width with batch normalisation, a 3x3 convolution of 8 channels before each side
  output, Adam under a one-cycle schedule.
"""

from jaxseg.backbones.vgg import VGG, VGG11
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.metrics import BoundaryODS
from jaxseg.models.boundary.hed import HED
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.train.optim import AdamW, OneCycle


def recipe() -> Recipe:
    """A few epochs; 40 of the held-out scenes choose the checkpoint."""
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val[:40]"),
        keys=("image", "index", "boundary"),
    )
    stage = Stage(
        model=HED(VGG(VGG11, width=16, norm="batch", ceil_mode=True, out_maps="before"), features=8),
        task=Boundary(metric=BoundaryODS(10)),
        data=data,
        optimizer=AdamW(OneCycle(4e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=500,
        batch_size=8,
        ema=0.98,
        log_every=20,
        eval_every=250,
        keep_best="ods",
        save_every=50,
        eval_batch_size=8,
    )
    return Recipe(stages=(stage,), name="boundary_scenes")
