"""Colours for photographs of a folder (folder) or of BSDS500 (bsds500), by a quarter of the network's width, on a CPU.

Paper: Zhang et al. 2016, arXiv:1603.08511
Published: none on these photographs
Ours (folder): not trained here
Ours (bsds500): colour AuC 90.4, rebalanced 67.9, PSNR 24.3 on the 100 validation images after 300 updates (grey: 88.8,
  66.0, 22.9; the prior's mean colour: 90.1, 66.6, 24.0)
Hardware and time (folder): not run
Hardware and time (bsds500): 7.5 minutes of a core of an AMD EPYC
Command: jaxseg train experiments/colorization_folder.py:VARIANT, in a directory that holds the folder photographs
Departures: a quarter of the width, crops of 128 pixels, AdamW under a one-cycle schedule; no rebalancing, plain mean
  of the colours' shares, and a Huber loss on it with the factor of 2017 (arXiv:1705.02999): few photographs teach
  which colours are likely where, and not which are rare.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RequireColor, Resize
from jaxseg.models.colorization.colorization import colorization_eccv16
from jaxseg.ops.color_priors import PHOTOGRAPHS
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.colorization import Colorization
from jaxseg.train.optim import AdamW, OneCycle

NAME = "colorization_{variant}"
VARIANTS = {"folder": ("folder:photographs", (("masks", "none"), ("channels", 3))), "bsds500": ("bsds500", ())}
"""The data set and its options."""


def recipe(variant: str = "folder") -> Recipe:
    """One stage. Every image must have colours, from which alone it can be learnt and judged."""
    name, options = VARIANTS[variant]
    data = Data(
        train=Source(name, "train", (RequireColor(), Resize(160, 160), RandomCrop(128, 128), RandomFlip()), options),
        val=Source(name, "val", (RequireColor(), Resize(128, 128)), options),
        keys=("image", "index"),
    )
    stage = Stage(
        model=colorization_eccv16(width=16),
        task=Colorization(PHOTOGRAPHS, mix=1.0, color_weight=10.0),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-3, clip=5.0),
        steps=300,
        batch_size=16,
        ema=0.99,
        log_every=20,
        eval_every=100,
        keep_best="auc",
        save_every=50,
        eval_batch_size=10,
        freeze=(r"decode/",),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
