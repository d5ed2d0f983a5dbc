"""VARIANT on the embedded scenes, by a small U-Net trained from nothing on two CPU cores.

Paper: Ronneberger et al. 2015, arXiv:1505.04597 (the network); Eigen and Fergus 2015, arXiv:1411.4734 (the losses)
Published: none, the scenes are jaxseg's own
Ours (depth): delta1 83.2, AbsRel 0.136 on the held-out scenes under a schedule of 1000 updates instead of 2500
Ours (normals): not trained here
Hardware and time (depth): 12 minutes of a core for those, of an AMD EPYC
Hardware and time (normals): not run
Command: jaxseg train experiments/depth_scenes.py:VARIANT
Departures: the classifier of a U-Net read as log depth or as a vector; blocks of 2x2 pixels enter as channels; AdamW
  under a one-cycle schedule; 128x128 images of rooms. The scenes' focal length varies and no network is told it.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.layers.dense_heads import DenseHeads, DepthHead, NormalHead
from jaxseg.losses import L1Log, NormalCosine, ScaleInvariant
from jaxseg.models.semantic.unet import unet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.normals import Normals
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS = {
    "depth": (("depth", "depth_valid"), DepthHead(shift=1.0, scale=0.5), Depth((ScaleInvariant(), L1Log())), "delta1"),
    "normals": (("normal", "normal_valid"), NormalHead(), Normals((NormalCosine(),)), "mean_angle"),
}
"""What of the scenes is learnt, how the channels are read, the task, and the figure by which a checkpoint is best."""


def recipe(variant: str = "depth") -> Recipe:
    """One stage of some epochs."""
    keys, head, task, best = VARIANTS[variant]
    stage = Stage(
        model=DenseHeads(unet(num_classes=head.channels, depth=5, width=16, patch=2), (head,)),
        task=task,
        data=Data(train=Source("scenes", "train", (RandomFlip(),)), val=Source("scenes", "val"), keys=("image", *keys)),
        optimizer=AdamW(OneCycle(3e-3), weight_decay=1e-2, clip=5.0),
        steps=2500,
        batch_size=8,
        ema=0.99,
        log_every=25,
        eval_every=500,
        keep_best=best,
        save_every=250,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
