"""DeepLab-LargeFOV (v1) on VOC: VGG-16 from ImageNet at output stride 8, crops of 321.

Paper: Chen et al. 2015, arXiv:1412.7062, Table 2 (DeepLab-LargeFOV)
Published: mIoU 62.25 on the 1449 validation images, 67.64 with a dense CRF
Ours: not run yet
Hardware and time: not run yet; batches of 30 crops need a GPU
Command: jaxseg train experiments/deeplab_largefov_vgg16_voc.py, after jaxseg data prepare voc --source DIR; with the
  CRF: jaxseg evaluate runs/deeplab_largefov_vgg16_voc --crf
Departures: fc6 and fc7 start afresh, where the authors take every so many of VGG's filters; scores are enlarged to the
  labels, not labels reduced to the scores; padding is black, not the mean.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip
from jaxseg.models.semantic.deeplab import deeplab_largefov_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, StepDecay
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel",
    vgg.CAFFE_NAMES,
    part="backbone",
    source="the authors' www.robots.ox.ac.uk/~vgg/research/very_deep",
)


def recipe() -> Recipe:
    """6,000 updates, a tenth of the rate every 2,000; the classifier learns ten times as fast."""
    augment = (RandomCrop(321, 321), RandomFlip())
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    stage = Stage(
        model=deeplab_largefov_vgg16(),
        task=Semantic(num_classes=21, classes=data.facts().classes),
        data=data,
        optimizer=SGD(
            StepDecay(1e-3, every=2000),
            momentum=0.9,
            weight_decay=5e-4,
            no_decay=(r"bias$",),
            lr_multipliers=((r"fc8/bias$", 20.0), (r"fc8/", 10.0), (r"bias$", 2.0)),
        ),
        steps=6000,
        batch_size=30,
        eval_batch_size=10,
        eval_every=1000,
        save_every=500,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="deeplab_largefov_vgg16_voc")
