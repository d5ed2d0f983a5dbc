"""VARIANT of the embedded scenes by one backbone: all tasks at once (everything), or one alone (depth_alone).

Paper: Kirillov et al. 2019, arXiv:1901.02446 (objects, labels and panoptic maps on one pyramid); Kendall et al. 2018,
  arXiv:1705.07115 (depth and labels by one network)
Published: none, the scenes are jaxseg's own
Ours (everything): mIoU 50.6, PQ 67.4, delta1 78.6, normals 16.3 degrees, boundary ODS 87.0, saliency max F 81.9, colour
  AuC 88.0 on 100 held-out scenes after 600 updates
Ours (semantic_alone): mIoU 52.1
Ours (panoptic_alone): PQ 70.8
Ours (depth_alone): delta1 78.2
Ours (normals_alone): 15.6 degrees
Ours (boundary_alone): ODS 89.5
Ours (saliency_alone): max F 81.8
Ours (color_alone): colour AuC 87.7
Hardware and time: 9 minutes of a core of an AMD EPYC for everything, 2 to 8 for each alone
Command: jaxseg train experiments/everything_scenes.py:VARIANT
Departures: a ResNet-18 of half the width with batch normalisation that learns, a pyramid of 64 channels, a branch of 32
  channels for maps of pixels; panoptic scores are those of the labels; colours are regressed from the lightness, which
  the same layers see in a second pass of the same batch; fixed weights of the losses; AdamW under a one-cycle schedule;
  128x128 images of rooms. Each variant has the same number of updates.
"""

from collections.abc import Callable
from typing import Any

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.layers.dense_heads import ColorHead, DepthHead, LabelHead, MapHead, NormalHead, ScoreHead
from jaxseg.layers.rpn import Proposing
from jaxseg.losses import L1Log, ScaleInvariant
from jaxseg.metrics import BoundaryODS
from jaxseg.models.instance import mask_rcnn
from jaxseg.models.multitask.pyramid_heads import PyramidHeads, with_heads
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.colorization import Colorization
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.protocol import Task
from jaxseg.tasks.regions import ProposalLoss
from jaxseg.tasks.saliency import Saliency
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"

TASKS: dict[str, tuple[Callable[[Any], Task], float, str, tuple[str, ...]]] = {
    "semantic": (lambda facts: Semantic(len(facts.classes), classes=facts.classes), 1.0, "miou", ("label",)),
    "panoptic": (
        lambda facts: Panoptic(
            len(facts.things),
            facts.things,
            proposal_loss=ProposalLoss(samples=64),
            labels=facts.classes,
            stuff_area=64,
        ),
        1.5,
        "pq",
        ("boxes", "classes", "valid", "instance_ids", "label", "panoptic"),
    ),
    "depth": (lambda facts: Depth((ScaleInvariant(), L1Log())), 1.0, "delta1", ("depth", "depth_valid")),
    "normals": (lambda facts: Normals(), 3.0, "mean_angle", ("normal", "normal_valid")),
    "boundary": (lambda facts: Boundary(metric=BoundaryODS(10)), 12.0, "ods", ("boundary",)),
    "saliency": (lambda facts: Saliency(), 1.0, "max_f", ("saliency",)),
    "color": (lambda facts: Colorization(class_weight=0.0, color_weight=1.0), 1.0, "auc", ()),
}
"""Each task, the weight of its losses, its first figure, and what it reads of the scenes."""

VARIANTS = {
    "everything": ("semantic", "panoptic", "depth", "normals", "boundary", "saliency", "color"),
    "semantic_alone": ("semantic",),
    "panoptic_alone": ("panoptic",),
    "depth_alone": ("depth",),
    "normals_alone": ("normals",),
    "boundary_alone": ("boundary",),
    "saliency_alone": ("saliency",),
    "color_alone": ("color",),
}
"""Tasks of each variant."""

ANCHORS = ((8,), (16,), (32,), (64,), (128,))


def recipe(variant: str = "everything") -> Recipe:
    """One stage of a few epochs."""
    names = VARIANTS[variant]
    keys = dict.fromkeys(key for name in names for key in TASKS[name][3])
    data = Data(
        train=Source("scenes", "train", (RandomFlip(),)),
        val=Source("scenes", "val[:100]"),
        keys=("image", "index", *keys),
    )
    facts, best = data.facts(), "panoptic" if "panoptic" in names else names[0]
    stage = Stage(
        model=network(names, facts),
        task=MultiTask({name: TASKS[name][0](facts) for name in names}, tuple(TASKS[name][1] for name in names)),
        data=data,
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=600,
        batch_size=8,
        ema=0.98,
        log_every=25,
        eval_every=600,
        keep_best=f"{best}/{TASKS[best][2]}",
        save_every=100,
        eval_batch_size=10,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def network(names: tuple[str, ...], facts: Any) -> PyramidHeads:
    """Return the network with the heads of these tasks; the panoptic task reads those of labels and of objects."""
    heads: dict[str, MapHead] = {
        "semantic": LabelHead(len(facts.classes), task="semantic"),
        "depth": DepthHead(shift=1.0, scale=0.5, task="depth"),
        "normals": NormalHead(task="normals"),
        "boundary": ScoreHead("boundary_logits", task="boundary"),
        "saliency": ScoreHead("saliency_logits", task="saliency"),
    }
    read = {*names, *(("semantic",) if "panoptic" in names else ())}
    detector = mask_rcnn.on_resnet(18, len(facts.things), width=32, features=64, dense=128)
    small = detector.clone(
        backbone=detector.backbone.clone(norm="batch"),
        mask_head=detector.mask_head.clone(convs=(64, 64), upsampled=32),
        anchor_sizes=ANCHORS,
        samples=32,
        train_proposing=Proposing(128, 64),
        test_proposing=Proposing(128, 64),
        detections=20,
    )
    return with_heads(
        small,
        tuple(head for name, head in heads.items() if name in read),
        grey_heads=(ColorHead(task="color"),) * ("color" in names),
        finds="panoptic" in names,
        thing_labels=tuple(map(facts.classes.index, facts.things)) * ("panoptic" in names),
        features=32,
        own=16,
    )
