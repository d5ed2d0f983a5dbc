"""FCN-AlexNet on VOC: Caffe's AlexNet from ImageNet as convolutions, scores enlarged by 32.

Paper: Long et al. 2015, arXiv:1411.4038, Table 1, with the training of the authors' public model
Published: mIoU 48.0 on seg11valid, 736 images, after SBD's 8498 training images (39.8 in the paper's older training)
Ours: not run yet
Hardware and time: not run yet; 100,000 updates of 20 images need a GPU
Command: jaxseg train experiments/fcn32s_alexnet_voc.py, after jaxseg data prepare voc --source DIR
Departures: images are padded to 500x500 below and to the right, void there, so that one program serves all sizes.
"""

from jaxseg.backbones import alexnet, vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo
from jaxseg.models.semantic.fcn import fcn32s_alexnet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

ALEXNET = ("alexnet_caffe/bvlc_reference_caffenet.caffemodel", "BVLC's model zoo, models/bvlc_reference_caffenet")
WEIGHTS = Combined(
    (
        Pretrained(ALEXNET[0], alexnet.CAFFE_NAMES, part="backbone", source=ALEXNET[1]),
        Pretrained(ALEXNET[0], vgg.CAFFE_CLASSIFIER, part="classifier", source=ALEXNET[1]),
    )
)


def recipe() -> Recipe:
    """The mean loss here, unlike for VGG-16, over 20 images an update, one at a time."""
    whole = (PadTo(500, 500),)
    data = Data(train=Source("voc", "sbd_train", whole), val=Source("voc", "seg11valid", whole))
    stage = Stage(
        model=fcn32s_alexnet(),
        task=Semantic(num_classes=21, classes=data.facts().classes),
        data=data,
        optimizer=SGD(1e-4, momentum=0.9, weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=((r"bias$", 2.0),)),
        steps=100_000,
        batch_size=20,
        accumulate=20,
        log_every=100,
        eval_batch_size=10,
        eval_every=10_000,
        save_every=2000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="fcn32s_alexnet_voc")
