"""FCN-32s, then 16s, then 8s on VOC: VGG-16 from ImageNet, one skip after the other, whole images, heavy momentum.

Paper: Long et al. 2015, arXiv:1411.4038, with the training of the authors' public models (PAMI 2017, arXiv:1605.06211)
Published: mIoU 63.6 (32s), 65.0 (16s), 65.5 (8s) on seg11valid, 736 images, after SBD's 8498 training images; 8s on the
  VOC 2012 test set 67.2
Ours: not run yet
Hardware and time: not run yet; three times 100,000 updates of one image need a GPU
Command: jaxseg train experiments/fcn8s_vgg16_voc.py, after jaxseg data prepare voc --source DIR with VOC 2011, VOC 2012
  and SBD in it; without VOC 2011: --set stages.0.data.val.split=val and so on for stages 1 and 2
Departures: images are padded to 500x500 below and to the right, void there, so that one program serves all sizes.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.fcn import fcn8s_vgg16, fcn16s_vgg16, fcn32s_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

VGG16 = ("vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep")
WEIGHTS = Combined(
    (
        Pretrained(VGG16[0], vgg.CAFFE_NAMES, part="backbone", source=VGG16[1]),
        Pretrained(VGG16[0], vgg.CAFFE_CLASSIFIER, part="classifier", source=VGG16[1]),
    )
)


def recipe() -> Recipe:
    """The loss is a sum over pixels, hence the small lr_multipliers; each stage's is a hundredth of the one before."""
    whole = (PadTo(500, 500),)
    data = Data(train=Source("voc", "sbd_train", whole), val=Source("voc", "seg11valid", whole))

    def stage(name, model, rate, init="previous"):
        return Stage(
            name=name,
            model=model,
            task=Semantic(num_classes=21, losses=(CrossEntropy(normalize="images"),), classes=data.facts().classes),
            data=data,
            optimizer=SGD(
                rate, momentum=0.99, weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=((r"bias$", 2.0),)
            ),
            steps=100_000,
            batch_size=1,
            log_every=200,
            eval_every=20_000,
            save_every=5000,
            init=init,
        )

    return Recipe(
        name="fcn8s_vgg16_voc",
        stages=(
            stage("32s", fcn32s_vgg16(), 1e-10, init=WEIGHTS),
            stage("16s", fcn16s_vgg16(), 1e-12),
            stage("8s", fcn8s_vgg16(), 1e-14),
        ),
    )
