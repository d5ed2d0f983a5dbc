"""A small run on real data in a process of its own, to be killed: ``python -m tests.train.real_run DATA WORKDIR N``."""

import sys

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.log import Console
from jaxseg.train.loop import fit
from jaxseg.train.optim import Adam, Poly

STEPS = 40
OPTIONS = (("size", 32), ("train", 13), ("val", 5))


def recipe(workers: int) -> Recipe:
    """Batches of four from thirteen images: every epoch ends within a batch, most checkpoints within an epoch."""
    augment = (RandomFlip(), RandomCrop(24, 24))
    train, val = Source("scenes", "train", augment, OPTIONS), Source("scenes", "val", (), OPTIONS)
    stage = Stage(
        model=unet(num_classes=7, depth=1, width=4, dropout=0.1),
        task=Semantic(num_classes=7),
        data=Data(train=train, val=val, workers=workers),
        optimizer=Adam(Poly(1e-2), weight_decay=1e-4, clip=1.0),
        steps=STEPS,
        batch_size=4,
        ema=0.9,
        log_every=1,
        eval_every=STEPS,
        save_every=7,
        pictures=0,
    )
    return Recipe(stages=(stage,), seed=4)


if __name__ == "__main__":
    fit(recipe(int(sys.argv[3])), sys.argv[2], data_dir=sys.argv[1], log=Console(quiet=True))
