"""VARIANT on the embedded scenes, by a small pyramid trained from nothing on two CPU cores.

Paper: Kirillov et al. 2019, arXiv:1901.02446 (maps of pixels from a pyramid); Eigen and Fergus 2015, arXiv:1411.4734
  (the losses)
Published: none, the scenes are jaxseg's own
Ours (depth): delta1 92.0, AbsRel 0.102 on the held-out scenes after 4000 updates; 89.2 after 2000
Ours (normals): mean angle 13.2 degrees, median 7.6 on the held-out scenes after 1000 updates; 15.2 after 500
Hardware and time (depth): 21 minutes of a core of an AMD EPYC, making the rooms included
Hardware and time (normals): 5 minutes of a core of an AMD EPYC, without making the rooms
Command: jaxseg train experiments/depth_scenes.py:VARIANT
Departures: a ResNet-18 of half the width with batch normalisation, a pyramid of 64 channels, a branch of 32 channels,
  the network of everything_scenes with one head; AdamW under a one-cycle schedule; 3000 training images of rooms of
  128x128 pixels, which take two minutes of a core to make. Their focal length varies and no network is told it.
"""

from typing import Any

from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomFlip
from jaxseg.layers.dense_heads import DepthHead, MapHead, NormalHead
from jaxseg.losses import L1Log, ScaleInvariant
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.multitask.pyramid_heads import PyramidHeads, with_heads
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS: dict[str, tuple[Any, ...]] = {
    "depth": (
        ("depth", "depth_valid"),
        DepthHead(shift=1.0, scale=0.5, task="depth"),
        Depth((ScaleInvariant(), L1Log())),
        "delta1",
        4000,
    ),
    "normals": (("normal", "normal_valid"), NormalHead(task="normals"), Normals(), "mean_angle", 1000),
}
"""What of the scenes is learnt, how the channels are read, the task, its first figure, and the number of updates."""


def recipe(variant: str = "depth") -> Recipe:
    """One stage of some epochs."""
    keys, head, task, best, steps = VARIANTS[variant]
    rooms = (("train", 3000),)
    data = Data(
        train=Source("scenes", "train", (RandomFlip(), Photometric(0.2, 0.2, 0.2)), rooms),
        val=Source("scenes", "val"),
        keys=("image", "index", *keys),
    )
    stage = Stage(
        model=network(head),
        task=MultiTask({variant: task}),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=steps,
        batch_size=8,
        ema=0.99,
        log_every=50,
        eval_every=steps // 4,
        keep_best=f"{variant}/{best}",
        save_every=250,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def network(head: MapHead) -> PyramidHeads:
    """Return a backbone, a pyramid and one head."""
    detector = mask_rcnn.on_resnet(18, 1, width=32, features=64)
    batch = detector.clone(backbone=detector.backbone.clone(norm="batch"))
    return with_heads(batch, (head,), finds=False, features=32, own=16)
