"""Fast R-CNN on VOC with VGG16, VARIANT, tested on VOC 2007, with proposals by selective search.

Paper: Girshick 2015, arXiv:1504.08083, Table 1
Published (2007): mAP 66.9 on the 4952 test images of VOC 2007
Published (2007_2012): mAP 70.0
Ours: not run yet
Hardware and time: not run yet; two images of 600x1000 an update want a GPU, and selective search some seconds an image
  once, after which its boxes are in the cache
Command: jaxseg train experiments/fast_rcnn_vgg16_voc.py:VARIANT, after jaxseg data prepare voc --source DIR, DIR with
  the VOCdevkit of 2007 and 2012; needs pip install jaxseg[rcnn]
Departures: codes are scaled by fixed deviations, 0.1 and 0.2, where the authors take the data set's for each class;
  selective search is jaxseg's; images lie on one of two canvases. Truncation of the dense layers (section 3.1) is
  jaxseg.models.detection.fast_rcnn.truncated.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort, SelectiveSearch
from jaxseg.models.detection.fast_rcnn import fast_rcnn_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import FAST_RCNN_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

NAME = "fast_rcnn_vgg16_voc{variant}"
VARIANTS = {
    "2007": ("2007_train+2007_val", 40_000, 30_000),
    "2007_2012": ("2007_train+2007_val+2012_train+2012_val", 100_000, 75_000),
}
"""What is trained on, updates, and the one from which the rate is a tenth."""

FILE, SOURCE = "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep"
WEIGHTS = Combined(
    (
        Pretrained(FILE, vgg.CAFFE_NAMES, part="backbone", source=SOURCE),
        Pretrained(FILE, vgg.CAFFE_CLASSIFIER, part="box_head", source=SOURCE),
    )
)
GEOMETRY = (ResizeShort(600, 1000), Canvas(((600, 1000), (1000, 600))))


def recipe(variant: str = "2007") -> Recipe:
    """Two images an update, 64 regions of each; the first two blocks keep ImageNet's weights."""
    split, steps, fall = VARIANTS[variant]
    search = SelectiveSearch()
    data = Data(
        train=Source("voc", split, (search, *GEOMETRY, RandomFlip())),
        val=Source("voc", "2007_test", (search, *GEOMETRY)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "difficult", "proposals"),
        slots=60,
        proposal_slots=2000,
        workers=8,
    )
    things = data.facts().things
    stage = Stage(
        model=fast_rcnn_vgg16(num_classes=len(things)),
        task=Detection(len(things), things, region_loss=FAST_RCNN_REGION_LOSS, evaluation="voc2007"),
        data=data,
        optimizer=SGD(
            Milestones(1e-3, (fall,)),
            momentum=0.9,
            weight_decay=5e-4,
            no_decay=(r"bias$",),
            lr_multipliers=((r"bias$", 2.0),),
        ),
        steps=steps,
        batch_size=2,
        eval_every=10_000,
        save_every=1000,
        keep_best="voc_ap",
        freeze=(r"^backbone/conv[12]_",),
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
