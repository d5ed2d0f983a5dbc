"""DeconvNet on VOC in two stages: single objects cut out of their images, then proposals with all that is in them.

Paper: Noh et al. 2015, arXiv:1505.04366, section 4
Published: mIoU 69.6 on the VOC 2012 test set, 70.5 with a dense CRF; from 50 proposals an image
Ours: not run yet
Hardware and time: not run yet; 60,000 updates of 64 crops need a GPU
Command: jaxseg train experiments/deconvnet_vgg16_voc.py, after jaxseg data prepare voc --source DIR with SBD in it
Departures: the data set has no proposals: in their place the boxes of objects are shaken until they overlap themselves
  by a half; an example is one object or box of an image, drawn anew each time, so that each image counts alike, where
  the authors list crops and repeat rare classes; trained on VOC's and SBD's training images, without VOC's validation;
  evaluation during training sees each image as one proposal. Prediction from proposals:
  jaxseg.models.semantic.deconvnet.proposal_scores.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import CropObject, CropProposal, RandomCrop, RandomFlip, Resize
from jaxseg.models.semantic.deconvnet import deconvnet_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, StepDecay
from jaxseg.weights.combine import Combined, Subset
from jaxseg.weights.pretrained import Pretrained

VGG16 = ("vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep")
WEIGHTS = Combined(
    (
        Subset(Pretrained(VGG16[0], vgg.CAFFE_NAMES, source=VGG16[1]), r"conv\d_\d/(kernel|bias)"),
        Subset(Pretrained(VGG16[0], vgg.CAFFE_CLASSIFIER, source=VGG16[1]), r"fc[67]/(kernel|bias)"),
    )
)


def recipe() -> Recipe:
    """Easy examples first; batches of 64, eight at a time."""

    def stage(name, augment, steps, every, init):
        whole = Source("voc", "val", (Resize(224, 224),))
        data = Data(train=Source("voc", "train_aug", augment), val=whole, keys=("image", "label", "instance_ids"))
        return Stage(
            name=name,
            model=deconvnet_vgg16(),
            task=Semantic(num_classes=21, classes=data.facts().classes),
            data=data,
            optimizer=SGD(
                StepDecay(0.01, every=every),
                momentum=0.9,
                weight_decay=5e-4,
                no_decay=(r"bias$",),
                lr_multipliers=((r"bias$", 2.0),),
            ),
            steps=steps,
            batch_size=64,
            accumulate=8,
            eval_batch_size=16,
            eval_every=2000,
            save_every=500,
            init=init,
        )

    easy = (CropObject(margin=1.2), Resize(250, 250), RandomCrop(224, 224), RandomFlip())
    hard = (CropProposal(overlap=0.5), Resize(224, 224), RandomFlip())
    return Recipe(
        name="deconvnet_vgg16_voc",
        stages=(stage("objects", easy, 20_000, 9000, WEIGHTS), stage("proposals", hard, 40_000, 10_000, "previous")),
    )
