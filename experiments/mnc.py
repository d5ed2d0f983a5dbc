"""MNC on VOC 2012 with SBD's masks (SDS) and on COCO, VARIANT: the cascade of five stages.

Paper: Dai et al. 2016, arXiv:1512.04412
Published (vgg16_sds): mAP^r 65.0 at IoU 0.5 and 46.3 at 0.7 on VOC 2012 val (the released model); 63.5 and 41.5 in the
  paper
Published (resnet101_c4_coco): mask AP 24.6, AP50 44.3 on test-dev, as Mask R-CNN's paper tells it
Ours: not trained here
Hardware and time: not run yet; images of 600x1000 want a GPU
Command: jaxseg train experiments/mnc.py:VARIANT, after jaxseg data prepare voc (or coco) --source DIR
Departures: images lie on one of two canvases; corners of regions are not rounded where they are warped, so that the
  gradient for them is exact; boxes are decoded as they are coded, without one pixel more; masks are averaged on a grid
  over the boxes that vote, not at pixels. The authors' schedule on COCO is not known: it is that on SDS, longer.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.detection.faster_rcnn_c4 import CAFFE2_BACKBONE, CAFFE2_SHARED_HEAD
from jaxseg.models.instance.mnc import mnc_resnet101_c4, mnc_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.mnc import MNCLoss
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS
from jaxseg.train.optim import SGD, Milestones
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

NAME = "mnc_{variant}"
VARIANTS = {
    "vgg16_sds": (mnc_vgg16, 30_000, (20_000, 25_000)),
    "resnet101_c4_coco": (mnc_resnet101_c4, 160_000, (120_000, 150_000)),
}
"""The network, updates, and those at which the rate falls tenfold."""

GEOMETRY = (ResizeShort(600, 1000), Canvas(((600, 1000), (1000, 600))))
KEYS = ("image", "index", "size", "original_size", "boxes", "classes", "valid", "instance_ids")

FILE, SOURCE = "vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep"
VGG = Combined(
    (
        Pretrained(FILE, vgg.CAFFE_NAMES, part="backbone", source=SOURCE),
        Pretrained(FILE, vgg.CAFFE_CLASSIFIER, part="box_head/dense", source=SOURCE),
        Pretrained(FILE, vgg.CAFFE_CLASSIFIER, part="mask_box_head/dense", source=SOURCE),
    )
)
"""ImageNet's weights for the map and, twice, for the dense layers."""

MSRA = "detectron2's ImageNetPretrained/MSRA/R-101.pkl"
RESNET = Combined(
    (
        Pretrained("R-101.pkl", CAFFE2_BACKBONE, part="backbone", source=MSRA),
        Pretrained("R-101.pkl", CAFFE2_SHARED_HEAD, part="box_head/stage", source=MSRA),
        Pretrained("R-101.pkl", CAFFE2_SHARED_HEAD, part="mask_box_head/stage", source=MSRA),
    )
)
"""The same for the residual network, whose last stage takes the dense layers' place."""


def recipe(variant: str = "vgg16_sds") -> Recipe:
    """Eight images an update, one a pass; biases learn twice as fast and do not decay."""
    (network, steps, falls), coco = VARIANTS[variant], variant == "resnet101_c4_coco"
    name, train, test = ("coco", "train", "val") if coco else ("voc", "sds_train", "sds_val")
    data = Data(
        train=Source(name, train, (*GEOMETRY, RandomFlip())),
        val=Source(name, test, GEOMETRY),
        keys=(*KEYS, "hidden_ids", "rle", "crowd", "area") if coco else KEYS,
        slots=100 if coco else 60,
        workers=8,
    )
    things = data.facts().things
    stage = Stage(
        model=network(num_classes=len(things)),
        task=Instance(
            len(things),
            things,
            proposal_loss=FASTER_RCNN_PROPOSAL_LOSS,
            joint_loss=MNCLoss(),
            paste="detectron2",
            evaluation="coco" if coco else "voc2007",
        ),
        data=data,
        optimizer=SGD(
            Milestones(1e-3, falls),
            momentum=0.9,
            weight_decay=5e-4,
            no_decay=(r"bias$",),
            lr_multipliers=((r"bias$", 2.0),),
        ),
        steps=steps,
        batch_size=8,
        accumulate=8,
        eval_batch_size=2,
        eval_every=steps // 6,
        save_every=1000,
        keep_best="mask_ap" if coco else "mask_apr50",
        freeze=(r"^backbone/(conv1|layer1_)",) if coco else (r"^backbone/conv[12]_",),
        init=RESNET if coco else VGG,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
