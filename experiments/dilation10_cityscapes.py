"""Dilation10 on Cityscapes: the front end, then the context module alone, then both together.

Paper: Yu and Koltun 2016, arXiv:1511.07122, appendix (Cityscapes)
Published: mIoU 68.7 on the 500 validation images, 67.1 on the test set
Ours: not run yet
Hardware and time: not run yet; whole images of 1024x2048 need a large GPU
Command: jaxseg train experiments/dilation10_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: the context module is trained in batches of 4 whole images, whose front end is computed anew, where the
  authors took 100 stored maps; the front end's crops, batches of 8 and rate are those of CamVid, since the source
  states its updates alone, and all of a crop is scored; scores are enlarged to the labels.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip
from jaxseg.models.semantic.dilated import CITYSCAPES, dilated_frontend_vgg16, dilation10
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

VGG16 = ("vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep")
WEIGHTS = Combined(
    (
        Pretrained(VGG16[0], vgg.CAFFE_NAMES, part="frontend/backbone", source=VGG16[1]),
        Pretrained(VGG16[0], vgg.CAFFE_CLASSIFIER, part="frontend/classifier", source=VGG16[1]),
    )
)


def recipe() -> Recipe:
    """Momentum 0.99 throughout; the module starts as the identity on a front end that rests."""

    def stage(name, model, size, rate, steps, batch_size, lr_multipliers=(), init: object = "previous"):
        augment = (RandomCrop(*size), RandomFlip())
        data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
        lr_multipliers = (*lr_multipliers, (r"bias$", 2.0))
        return Stage(
            name=name,
            model=model,
            task=Semantic(num_classes=19, classes=data.facts().classes),
            data=data,
            optimizer=SGD(rate, momentum=0.99, weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=lr_multipliers),
            steps=steps,
            batch_size=batch_size,
            eval_batch_size=1,
            eval_every=4000,
            save_every=500,
            init=init,
        )

    frontend = dilated_frontend_vgg16(num_classes=19, standardize=CITYSCAPES)
    return Recipe(
        name="dilation10_cityscapes",
        stages=(
            stage("frontend", frontend, (628, 628), 1e-4, 40_000, 8, init=WEIGHTS),
            stage("context", dilation10(), (1024, 2048), 1e-4, 24_000, 4, lr_multipliers=(("^frontend/", 0.0),)),
            stage("together", dilation10(), (1024, 1024), 1e-5, 60_000, 1),
        ),
    )
