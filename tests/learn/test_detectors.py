"""A small detector of every kind learns four rendered scenes by heart: boxes, masks, joints and panoptic maps.

The whole path is gone: sampled regions, matching, losses, detections, evaluation. It runs with ``-m slow``.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.data.records import to_batch_row
from jaxseg.data.sets.scenes import FACTS, scene
from jaxseg.data.transforms import SelectiveSearch
from jaxseg.forward import forward
from jaxseg.override import override
from jaxseg.tasks.detection import Detection, named_loss
from jaxseg.tasks.instance import Instance, NamesLoss
from jaxseg.tasks.keypoints import Keypoints
from jaxseg.tasks.panoptic import Panoptic
from jaxseg.tasks.regions import STAGE_LOSSES, ProposalLoss
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.train.state import create, variables
from jaxseg.train.step import make_train_step

SIZE = (96, 128)
COARSE = {"faster_rcnn_mobilenet_v3_large_320_fpn": 2, "faster_rcnn_mobilenet_v3_large_fpn": 2}
"""Networks whose finest map has a stride of 32 see larger scenes, or objects share their anchors."""
KEYS = ("image", "label", "boxes", "classes", "valid", "instance_ids", "keypoints", "panoptic")
THINGS = len(FACTS.things)
FEW = ProposalLoss(samples=64)

TASKS = {
    "detection": Detection(THINGS, FACTS.things, proposal_loss=FEW),
    "instance": Instance(THINGS, FACTS.things, proposal_loss=FEW),
    "keypoints": Keypoints(THINGS, FACTS.things, proposal_loss=FEW, joints=FACTS.joints),
    "panoptic": Panoptic(THINGS, FACTS.things, proposal_loss=FEW, labels=FACTS.classes, stuff_area=64),
}
WANTED = {
    "detection": {"box_ap50": 0.9},
    "instance": {"box_ap50": 0.9, "mask_ap50": 0.9},
    "keypoints": {"box_ap50": 0.9, "keypoint_ap50": 0.9},
    "panoptic": {"pq": 0.8},
}
NAMES = [name for kind in TASKS for name in registry.list_models(task=kind) if name != "rcnn_alexnet"]
"""All but R-CNN, whose machines and regressors learn in tests/conversion/test_region_svms.py."""
SEARCH = SelectiveSearch(scales=(10, 30), min_width=4, most=500, cached=False)


def four_scenes(times=1, *, proposals=False):
    height, width = SIZE
    scenes = [scene("train", i, times * height, times * width) for i in range(4)]
    keys = (*KEYS, "proposals") if proposals else KEYS
    if proposals:
        scenes = [SEARCH(record, np.random.default_rng(0)) for record in scenes]
    rows = [to_batch_row(record, keys=keys, slots=8, proposal_slots=500) for record in scenes]
    return {key: jnp.asarray(np.stack([row[key] for row in rows])) for key in rows[0]}


def small(entry):
    """The small variant with a backbone that stands for one: its frozen statistics would be those of nothing."""
    fields = {"num_classes": THINGS}
    if entry.task == "keypoints":
        fields["joints"] = len(FACTS.joints)
    if "num_stuff" in entry.fields:
        fields["num_stuff"] = len(FACTS.classes) - THINGS
    model = registry.create_small(entry.name, **fields)
    return override(model, "backbone.norm", "batch") if hasattr(model.backbone, "norm") else model


def with_losses_of(model, task):
    """The task with the losses that go with the network's outputs and how it codes boxes."""
    if isinstance(model, NamesLoss):
        own = Instance.for_model(model, FACTS.things)
        return replace(own, proposal_loss=replace(own.proposal_loss, samples=FEW.samples))
    task = replace(task, anchor_loss=named_loss(model))
    if not hasattr(model, "coding"):
        return task
    losses = dict(STAGE_LOSSES[model.coding])
    if "proposal_loss" in losses:
        losses["proposal_loss"] = replace(losses["proposal_loss"], samples=FEW.samples)
    return replace(task, **losses)


def learnt(name, steps=400):
    """Figures of the scenes that a small network was taught."""
    entry = registry.find(name)
    model, batch = small(entry), four_scenes(COARSE.get(name, 1), proposals=name == "fast_rcnn_vgg16")
    task = with_losses_of(model, TASKS[entry.task])
    tx = AdamW(OneCycle(4e-3, warmup=0.1), weight_decay=0.0, clip=5.0).build(steps)
    state = create(jax.random.key(0), model, task, tx, batch, ema=True)
    with jax.numpy_dtype_promotion("standard"):
        step = jax.jit(make_train_step(model, task, tx, ema=0.9), donate_argnums=0)
        for _ in range(steps):
            state, told = step(state, batch)
    found = jax.jit(forward(model, task))(variables(state), batch)
    figures = {}
    for metric in task.metrics().values():
        seen = jax.device_get(metric.observe(found, batch))
        figures |= metric.result(metric.fold(metric.init(), seen))
    return figures, {key: float(value) for key, value in told.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_learns_four_scenes(name):
    figures, told = learnt(name)
    wanted = WANTED[registry.find(name).task]
    print({key: round(figures[key], 3) for key in wanted}, told)
    for key, least in wanted.items():
        assert figures[key] >= least, (figures, told)
