"""UberNet on VOC: boundaries, salient objects, semantic segmentation and semantic boundaries at once.

Paper: Kokkinos 2017, arXiv:1609.02132, Table 8 (seven tasks)
Published: semantic segmentation 68.7 mIoU on the test images of 2012 (72.4 alone)
Ours: not trained here
Hardware and time: not run; crops of 321 in batches of 10 need a GPU
Command: jaxseg train experiments/ubernet_pascal.py, after jaxseg data prepare voc --source DIR
Departures: the four tasks that VOC's label maps give, without human parts, normals and detection, whose labels are
  other data sets'; every image carries all of them, so that no task waits for another; boundaries and salient
  objects follow from the label maps, not from BSDS and MSRA-10K; no single-task networks to start from; crops of
  321, not 641.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import MapsOfLabel, PadTo, RandomCrop, RandomFlip
from jaxseg.models.multitask.ubernet import ubernet_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.multitask import MultiTask
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

TASKS = ("edg", "sal", "seg", "sbd")


def recipe() -> Recipe:
    """5,000 updates of the trunk's 30 images each; each task's own parameters move every 10 of its images."""
    maps = (MapsOfLabel(),)
    keys = ("edg/boundary", "sal/saliency", "seg/label", "sbd/label")
    data = Data(
        train=Source("voc", "train_aug", (RandomCrop(321, 321), RandomFlip(), *maps)),
        val=Source("voc", "val", (PadTo(513, 513), *maps)),
        keys=("image", "size", *keys),
    )
    semantic = Semantic(num_classes=21, classes=data.facts().classes, aux_weight=1.0)
    tasks = {"edg": Boundary(), "sal": Saliency(), "seg": semantic, "sbd": semantic}
    stage = Stage(
        model=ubernet_vgg16(heads=TASKS),
        task=MultiTask(tasks, weights=(1.0, 0.25, 1.0, 1.0)),
        data=data,
        optimizer=Asynchronous(
            SGD(StepDecay(1e-3, every=3000), momentum=0.9, weight_decay=5e-4),
            images=30,
            groups=tuple((f"^{name}_", name, 10) for name in TASKS),
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
