"""A small VARIANT on the embedded scenes, trained from nothing on two CPU cores.

Paper: He et al. 2017, arXiv:1703.06870 (mask_rcnn, keypoint_rcnn); Lin et al. 2017, arXiv:1708.02002 (retinanet);
  Kirillov et al. 2019, arXiv:1901.02446 (panoptic_fpn)
Published: none, the scenes are jaxseg's own
Ours (mask_rcnn): box AP50 82.0, AP 56.6, mask AP50 81.3, AP 58.2 on the 200 held-out scenes
Ours (keypoint_rcnn): keypoint AP50 35.7, 35.4, 35.9, box AP50 60.5, 59.9, 61.5 with the seeds 0, 1, 2; floors: 33, 57
Ours (retinanet): box AP50 35.2, AP 14.1
Ours (panoptic_fpn): PQ 61.9, 59.1, 58.7, mask AP50 61.4, 59.3, 58.6 with the seeds 0, 1, 2; floors: 56, 55
Hardware and time (mask_rcnn): two cores of an AMD EPYC, shared with other work: 18 minutes, 19 of a processor's
Hardware and time (keypoint_rcnn): one shared core of an AMD EPYC: 9 minutes of it
Hardware and time (retinanet): two cores of an AMD EPYC, shared with other work: 15 minutes, 7 of a processor's
Hardware and time (panoptic_fpn): one shared core of an AMD EPYC: 8 minutes of it
Command: jaxseg train experiments/mask_rcnn_scenes.py:VARIANT
Departures: a ResNet-18 of half the width with batch normalisation that learns, a pyramid of 64 channels, anchors from 8
  to 128 pixels, 64 regions of an image; AdamW under a one-cycle schedule; 128x128 images of rooms with four classes of
  objects.
"""

from typing import Any

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.layers.rpn import Proposing
from jaxseg.models.detection import retinanet
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.keypoints import keypoint_rcnn
from jaxseg.models.panoptic import panoptic_fpn
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.regions import ProposalLoss
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS = {
    "mask_rcnn": ("mask_rcnn", ("instance_ids",)),
    "keypoint_rcnn": ("keypoint_rcnn", ("keypoints",)),
    "retinanet": ("retinanet", ()),
    "panoptic_fpn": ("panoptic_fpn", ("instance_ids", "label", "panoptic")),
}
"""The network, and what of the scenes it learns besides boxes and classes."""

BEST = {
    "mask_rcnn": "mask_ap50",
    "keypoint_rcnn": "keypoint_ap50",
    "retinanet": "box_ap50",
    "panoptic_fpn": "pq",
}
"""The figure by which the best checkpoint is kept."""

STEPS = {"mask_rcnn": 800, "keypoint_rcnn": 400, "retinanet": 1600, "panoptic_fpn": 400}

ANCHORS = ((8,), (16,), (32,), (64,), (128,))


def recipe(variant: str = "mask_rcnn") -> Recipe:
    """One stage of a few epochs."""
    network, keys = VARIANTS[variant]
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val"),
        keys=("image", "index", "boxes", "classes", "valid", *keys),
    )
    facts = data.facts()
    model, task = pair(network, facts)
    stage = Stage(
        model=model,
        task=task,
        data=data,
        optimizer=AdamW(OneCycle(1e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=STEPS[network],
        batch_size=8,
        ema=0.99,
        log_every=25,
        eval_every=400,
        keep_best=BEST[network],
        save_every=200,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def pair(network: str, facts: Any) -> tuple[Any, Any]:
    """Return the network and its task."""
    count, loss = len(facts.things), ProposalLoss(samples=64)
    sizes = {"width": 32, "features": 64}
    small = {
        "anchor_sizes": ANCHORS,
        "samples": 64,
        "train_proposing": Proposing(256, 128),
        "test_proposing": Proposing(128, 64),
        "detections": 20,
    }
    if network == "retinanet":
        model = retinanet.on_resnet(18, count, **sizes).clone(smallest=8, candidates=200, detections=20)
        return learning(model), Detection(count, facts.things)
    if network == "keypoint_rcnn":
        model = keypoint_rcnn.on_resnet(18, count, len(facts.joints), dense=256, head=64, **sizes).clone(**small)
        return learning(model), Keypoints(count, facts.things, proposal_loss=loss, joints=facts.joints)
    if network == "panoptic_fpn":
        stuff = len(facts.classes) - count
        model = panoptic_fpn.on_resnet(18, count, stuff, dense=256, semantic=64, **sizes).clone(**small)
        task = Panoptic(count, facts.things, proposal_loss=loss, labels=facts.classes, stuff_area=64)
        return learning(model), task
    model = mask_rcnn.on_resnet(18, count, dense=256, **sizes).clone(**small)
    return learning(model), Instance(count, facts.things, proposal_loss=loss)


def learning(model: Any) -> Any:
    """Return the network with statistics of normalisation that are learnt, as those of nothing are not to be frozen."""
    return model.clone(backbone=model.backbone.clone(norm="batch"))
