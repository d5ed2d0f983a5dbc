"""A small MNC on the embedded scenes, trained from nothing on two CPU cores: the cascade of five stages.

Paper: Dai et al. 2016, arXiv:1512.04412
Published: none, the scenes are jaxseg's own
Ours: mask AP50 74.0, mask AP 47.3, box AP50 73.6 on the held-out scenes after 1200 updates; mask AP50 64.6 after 600
Hardware and time: 12 minutes of a core with both evaluations, of an AMD EPYC
Command: jaxseg train experiments/mnc_scenes.py
Departures: VGG-16 of three sixteenths of the width with batch normalisation, maps of stride 8, anchors of 8 to 64
  pixels, 64 proposals and 16 regions of an image; AdamW under a one-cycle schedule; 128x128 images of rooms with four
  classes of objects.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.layers.rpn import Proposing
from jaxseg.models.instance.mnc import mnc_vgg16
from jaxseg.ops.mask_voting import Voting
from jaxseg.override import override
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.mnc import MNCLoss
from jaxseg.tasks.regions import ProposalLoss
from jaxseg.train.optim import AdamW, OneCycle

SIZES = (8, 16, 32, 64)


def recipe() -> Recipe:
    """One stage of a few epochs."""
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid", "instance_ids"),
    )
    things = data.facts().things
    model = mnc_vgg16(len(things), width=12, dense=128, mask_features=64)
    model = model.clone(
        stride=8,
        anchor_sizes=SIZES,
        samples=16,
        train_proposing=Proposing(256, 64, min_size=2.0),
        test_proposing=Proposing(256, 64, min_size=2.0),
        voting=Voting(count=20),
    )
    changes = {"backbone.norm": "batch", "backbone.output_stride": 8, "rpn.anchors": 3 * len(SIZES)}
    for path, value in changes.items():
        model = override(model, path, value)
    stage = Stage(
        model=model,
        task=Instance(
            len(things),
            things,
            proposal_loss=ProposalLoss(samples=64, inside=True),
            joint_loss=MNCLoss(),
            paste="detectron2",
        ),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=1200,
        batch_size=4,
        ema=0.99,
        log_every=25,
        eval_every=600,
        save_every=200,
        eval_batch_size=20,
        keep_best="mask_ap50",
    )
    return Recipe(stages=(stage,), name="mnc_scenes")
