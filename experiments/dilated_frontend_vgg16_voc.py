"""The front end of the dilated networks on VOC: VGG-16 from ImageNet without padding, crops of 500 pixels.

Paper: Yu and Koltun 2016, arXiv:1511.07122, Table 2 (front end without COCO)
Published: mIoU 67.6 on the VOC 2012 test set without COCO; with COCO 69.8 on the 1449 validation images (Table 3)
Ours: not run yet
Hardware and time: not run yet; batches of 14 crops need a GPU
Command: jaxseg train experiments/dilated_frontend_vgg16_voc.py, after jaxseg data prepare voc --source DIR
Departures: the network mirrors each crop of 500 pixels at its own edge and scores all of it, where the authors cut 500
  pixels out of the mirrored image, of which the middle 128 are scored; scores are enlarged to the labels, not labels
  taken at every eighth pixel; what a crop holds beyond the image is black and void.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip
from jaxseg.models.semantic.dilated import dilated_frontend_vgg16
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
    """60,000 updates at a fixed rate."""
    augment = (RandomCrop(500, 500), RandomFlip())
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(500, 500),)))
    stage = Stage(
        name="frontend",
        model=dilated_frontend_vgg16(),
        task=Semantic(num_classes=21, classes=data.facts().classes),
        data=data,
        optimizer=SGD(1e-3, momentum=0.9, weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=((r"bias$", 2.0),)),
        steps=60_000,
        batch_size=14,
        eval_batch_size=4,
        eval_every=5000,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="dilated_frontend_vgg16_voc")
