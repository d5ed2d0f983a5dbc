"""UberNet on four data sets: boundaries, normals, salient objects, semantic segmentation and boundaries, people's parts
and objects at once.

Paper: Kokkinos 2017, arXiv:1609.02132, Table 8 (seven tasks)
Published: semantic segmentation 68.7 mIoU on the test images of 2012 (72.4 alone)
Ours: not trained here
Hardware and time: not run; crops of 321 in batches of 10 need a GPU
Command: jaxseg train experiments/ubernet_pascal.py, after jaxseg data prepare NAME --source DIR of voc, bsds500,
  pascal_parts and nyuv2
Departures: boundaries come from BSDS500 alone and salient objects are those of VOC's label maps, not MSRA-10K's;
  detection learns from the boxes around masks, not from VOC 2007 and 2012; normals are planes fitted to NYU's depth; no
  single-task networks to start from; crops of 321, not 641; the detector's dense layers learn at the full rate, not
  half of it.
"""

from dataclasses import replace

from jaxseg.backbones import vgg
from jaxseg.data import Data, Mixture, Part, Source
from jaxseg.data.transforms import MapsOfLabel, PadTo, RandomCrop, RandomFlip
from jaxseg.models.multitask.ubernet import ubernet_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS, FASTER_RCNN_REGION_LOSS
from jaxseg.tasks.saliency import Saliency
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.asynchronous import Asynchronous
from jaxseg.train.optim import SGD, StepDecay
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel",
    vgg.CAFFE_NAMES,
    part="trunk/backbone",
    source="the authors' www.robots.ox.ac.uk/~vgg/research/very_deep",
)

IMAGES = {"edg": 10, "nrm": 10, "sal": 10, "seg": 10, "sbd": 10, "prt": 10, "det": 2}
"""Effective batch of each task."""

KEYS = (
    *("image", "index", "size", "original_size", "edg/boundary", "edg/boundary_marks", "nrm/normal", "sal/saliency"),
    *("seg/label", "sbd/label", "prt/label", "det/boxes", "det/classes", "det/valid", "det/area"),
)


def mixture(train: bool) -> Mixture:
    """Return the data sets, each with the tasks that it has labels of."""
    how = (RandomCrop(321, 321), RandomFlip()) if train else (PadTo(640, 640),)
    split = "train" if train else "val"
    return Mixture(
        (
            Part(Source("voc", "train_aug" if train else "val", (*how, MapsOfLabel())), ("sal", "seg", "sbd", "det")),
            Part(Source("bsds500", split, how), ("edg",), times=10),
            Part(Source("pascal_parts", split, how), ("prt",)),
            Part(Source("nyuv2", "train" if train else "test", how, (("normals", True),)), ("nrm",), times=2),
        )
    )


def recipe() -> Recipe:
    """5,000 updates of the trunk's 30 images each; each task's own parameters move every 10 of its images, or 2."""
    data = Data(train=mixture(train=True), val=mixture(train=False), keys=KEYS)
    facts = data.facts()
    things, parts = facts.things, facts.tables["prt"]
    semantic = Semantic(len(facts.classes), classes=facts.classes, aux_weight=1.0)
    detection = Detection(
        len(things),
        things,
        proposal_loss=replace(FASTER_RCNN_PROPOSAL_LOSS, weight=2.0),
        region_loss=replace(FASTER_RCNN_REGION_LOSS, weight=2.0),
        evaluation="voc2007",
    )
    tasks = {
        "edg": Boundary(),
        "nrm": Normals(),
        "sal": Saliency(),
        "seg": semantic,
        "sbd": semantic,
        "prt": Semantic(len(parts), classes=parts, aux_weight=1.0),
        "det": detection,
    }
    stage = Stage(
        model=ubernet_vgg16(heads=tuple(IMAGES)),
        task=MultiTask(tasks, weights=tuple({"sal": 0.25}.get(name, 1.0) for name in tasks)),
        data=data,
        optimizer=Asynchronous(
            SGD(StepDecay(1e-3, every=3000), momentum=0.9, weight_decay=5e-4),
            images=30,
            groups=tuple(("^detector/" if name == "det" else f"^{name}_", name, n) for name, n in IMAGES.items()),
        ),
        steps=15_000,
        batch_size=10,
        eval_batch_size=2,
        eval_every=1500,
        save_every=500,
        keep_best="seg/miou",
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="ubernet_pascal")
