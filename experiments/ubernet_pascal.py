"""UberNet on VOC: boundaries, salient objects, semantic segmentation and boundaries, and detection at once.

Paper: Kokkinos 2017, arXiv:1609.02132, Table 8 (seven tasks)
Published: semantic segmentation 68.7 mIoU on the test images of 2012 (72.4 alone)
Ours: not trained here
Hardware and time: not run; crops of 321 in batches of 10 need a GPU
Command: jaxseg train experiments/ubernet_pascal.py, after jaxseg data prepare voc --source DIR
Departures: the five tasks that VOC gives, without human parts and normals, whose labels are other data sets'; every
  image carries all of them, so that no task waits for another; boundaries and salient objects follow from the label
  maps, not from BSDS and MSRA-10K, and boxes from the masks of objects, not from VOC 2007 and 2012; no single-task
  networks to start from; crops of 321, not 641; the detector's dense layers learn at the full rate, not half of it.
"""

from dataclasses import replace

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import MapsOfLabel, PadTo, RandomCrop, RandomFlip
from jaxseg.models.multitask.ubernet import ubernet_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multitask import MultiTask
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

TASKS = {"edg": 10, "sal": 10, "seg": 10, "sbd": 10, "det": 2}
"""Effective batch of each task."""

OBJECTS = ("index", "boxes", "classes", "valid", "area", "original_size")


def recipe() -> Recipe:
    """5,000 updates of the trunk's 30 images each; each task's own parameters move every 10 of its images, or 2."""
    maps = (MapsOfLabel(),)
    keys = ("edg/boundary", "sal/saliency", "seg/label", "sbd/label")
    data = Data(
        train=Source("voc", "train_aug", (RandomCrop(321, 321), RandomFlip(), *maps)),
        val=Source("voc", "val", (PadTo(513, 513), *maps)),
        keys=("image", "size", *keys, *OBJECTS),
    )
    semantic = Semantic(num_classes=21, classes=data.facts().classes, aux_weight=1.0)
    things = data.facts().things
    detection = Detection(
        len(things),
        things,
        proposal_loss=replace(FASTER_RCNN_PROPOSAL_LOSS, weight=2.0),
        region_loss=replace(FASTER_RCNN_REGION_LOSS, weight=2.0),
        evaluation="voc2007",
    )
    tasks = {"edg": Boundary(), "sal": Saliency(), "seg": semantic, "sbd": semantic, "det": detection}
    stage = Stage(
        model=ubernet_vgg16(heads=tuple(TASKS)),
        task=MultiTask(tasks, weights=(1.0, 0.25, 1.0, 1.0, 1.0)),
        data=data,
        optimizer=Asynchronous(
            SGD(StepDecay(1e-3, every=3000), momentum=0.9, weight_decay=5e-4),
            images=30,
            groups=tuple(("^detector/" if name == "det" else f"^{name}_", name, n) for name, n in TASKS.items()),
        ),
        steps=15_000,
        batch_size=10,
        eval_batch_size=5,
        eval_every=1500,
        save_every=500,
        keep_best="seg/miou",
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="ubernet_pascal")
