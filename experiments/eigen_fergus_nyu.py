"""Eigen and Fergus' three scales on NYU Depth v2, VARIANT: scales 1 and 2 first, then scale 3 on crops.

Paper: Eigen and Fergus 2015, arXiv:1411.4734; learning rates of the authors' release of 2014, arXiv:1406.2283
Published (vgg16, vgg16_joint): abs rel 0.158, RMSE 0.641, delta 0.769, 0.950, 0.988 on the 654 test images; normals
  20.9 degrees on average, median 13.2
Published (alexnet): abs rel 0.198, RMSE 0.753, delta 0.697, 0.912, 0.977
Published (vgg16_labels): 40 classes: pixel accuracy 65.6, mean accuracy 45.1, mIoU 34.1
Ours: not trained here
Hardware and time: not run yet; 156,000 updates of 32 and 16 images need a GPU
Command: jaxseg train experiments/eigen_fergus_nyu.py:VARIANT, after jaxseg data prepare nyu_depth_v2 --source DIR
  (vgg16, alexnet), jaxseg data prepare nyuv2 --source DIR (vgg16_labels), the same with --option normals=True
  (vgg16_joint)
Departures: depth is learnt on 47,584 frames of the training scenes instead of 120,000; normals and labels on the 795
  labelled images, normals fitted to their depth, labels without depth and normals as inputs; VGG-16 is its authors' of
  Caffe, AlexNet starts afresh and ten times as fast, since none of its public weights is without groups; figures on the
  Eigen crop at 480x640.
"""

from typing import Any

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.sets.nyuv2 import CLASSES
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomRotate, RandomZoom, Resize
from jaxseg.layers.standardize import Standardize
from jaxseg.metrics import DepthErrors
from jaxseg.models.depth.eigen_fergus import CROP, WHOLE, eigen_fergus_alexnet, eigen_fergus_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.maps import Cells
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Milestones
from jaxseg.weights.pretrained import Pretrained

NAME = "eigen_fergus_{variant}_nyu"
VARIANTS = {
    "vgg16": (eigen_fergus_vgg16, "nyu_depth_v2", ("depth",)),
    "alexnet": (eigen_fergus_alexnet, "nyu_depth_v2", ("depth",)),
    "vgg16_joint": (eigen_fergus_vgg16, "nyuv2", ("depth", "normals")),
    "vgg16_labels": (eigen_fergus_vgg16, "nyuv2", ("labels",)),
}
"""The network, the data set, and what is learnt."""

KEYS = {"depth": ("depth", "depth_valid"), "normals": ("normal", "normal_valid"), "labels": ("label",)}
BEST = {"depth": "delta1", "normals": "delta1", "labels": "miou"}

CAFFE = Standardize((103.939, 116.779, 123.68), order="bgr")
"""How the authors of VGG-16 trained their weights."""

VGG16 = Pretrained(
    "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel",
    vgg.CAFFE_NAMES,
    part="backbone",
    source="the authors' www.robots.ox.ac.uk/~vgg/research/very_deep",
)

RATES = (
    (r"^backbone/", 1e-3),
    (r"^full\d/", 0.1),
    (r"^scale\d/conv1/", 1e-3),
    (r"^scale\d/(depth|normals|labels)[234]/", 1e-2),
    (r"^scale\d/", 1e-3),
)


def recipe(variant: str = "vgg16") -> Recipe:
    """Two stages: 2 million examples, then 1.5 million with all but scale 3 at rest."""
    build, dataset, kinds = VARIANTS[variant]
    options = (("normals", True),) if "normals" in kinds else ()
    augmented = (
        Resize(*WHOLE),
        RandomZoom(1.0, 1.5),
        RandomRotate(5),
        RandomCrop(*CROP),
        RandomFlip(),
        Photometric(brightness=0.2, saturation=0.2),
    )
    held_out = "test" if dataset == "nyuv2" else "val"
    data = Data(
        train=Source(dataset, "train", augmented, options),
        val=Source(dataset, held_out, (), options),
        keys=("image", *(key for kind in kinds for key in KEYS[kind])),
    )
    model, first, rates = build(tasks=kinds), {}, ((r"^backbone/", 1e-2), *RATES)
    if build is eigen_fergus_vgg16:
        first, rates = {"init": VGG16}, RATES
        model = model.clone(backbone=model.backbone.clone(standardize=CAFFE))

    def stage(name: str, model: Any, step: int, examples: int, batch_size: int, **rest: Any) -> Stage:
        steps = examples // batch_size
        return Stage(
            name=name,
            model=model,
            task=task_of(kinds, step),
            data=data,
            optimizer=SGD(Milestones(1.0, at=(steps * 4 // 5,)), momentum=0.9, weight_decay=1e-4, lr_multipliers=rates),
            steps=steps,
            batch_size=batch_size,
            log_every=100,
            eval_every=5000,
            keep_best=f"{kinds[0]}/{BEST[kinds[0]]}" if len(kinds) > 1 else BEST[kinds[0]],
            save_every=1000,
            eval_batch_size=8,
            **rest,
        )

    fixed = (r"^backbone/", r"^full\d/", r"^scale2/")
    return Recipe(
        stages=(
            stage("scales_1_2", model.clone(scales=2), 4, 2_000_000, 32, **first),
            stage("scale_3", model.clone(crop=(55, 74)), 2, 1_500_000, 16, init="previous", freeze=fixed),
        ),
        name=NAME.format(variant=variant),
    )


def task_of(kinds: tuple[str, ...], step: int) -> Any:
    """Return the task on cells that are so many pixels apart."""
    cells = Cells(5, step, 6)
    known = {
        "depth": Depth(errors=DepthErrors(region="eigen", nearest=0.1, farthest=10.0), cells=cells),
        "normals": Normals(cells=cells),
        "labels": Semantic(len(CLASSES), classes=CLASSES),
    }
    tasks = {kind: known[kind] for kind in kinds}
    return tasks[kinds[0]] if len(kinds) == 1 else MultiTask(tasks)
