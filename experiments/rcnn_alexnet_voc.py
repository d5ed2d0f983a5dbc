"""R-CNN on VOC 2007: AlexNet fine-tuned on warped proposals, then support vector machines and box regressors.

Paper: Girshick et al. 2014, arXiv:1311.2524, Table 2
Published: mAP 58.5 on the 4952 test images of VOC 2007, 54.2 without box regression
Ours: not run yet
Hardware and time: not run yet; two thousand passes of AlexNet an image; features take 200 GB of disk
Command: jaxseg train experiments/rcnn_alexnet_voc.py, after jaxseg data prepare voc --source DIR, DIR with the
  VOCdevkit of 2007; needs pip install jaxseg[rcnn]
Departures: 64 regions of each of two images an update, not 128 of any; the mean colour is subtracted, not a mean image;
  detections of an image are its best hundred, not those above thresholds of each class; machines and regressors are
  fitted in one stage, whose single update changes nothing.
"""

from dataclasses import replace

from jaxseg.backbones import alexnet, vgg
from jaxseg.conversion.region_svms import RegionSVMs
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, SelectiveSearch
from jaxseg.models.detection.rcnn import rcnn_alexnet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import FAST_RCNN_REGION_LOSS
from jaxseg.train.optim import SGD, StepDecay
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

FILE, SOURCE = "bvlc_reference_caffenet.caffemodel", "Caffe's model zoo, http://dl.caffe.berkeleyvision.org"
WEIGHTS = Combined(
    (
        Pretrained(FILE, alexnet.CAFFE_NAMES, part="backbone", source=SOURCE),
        Pretrained(FILE, vgg.CAFFE_CLASSIFIER, part="box_head", source=SOURCE),
    )
)


def recipe() -> Recipe:
    """70,000 updates of fine-tuning, fc8 ten times as fast; then what is linear."""
    search, canvas = SelectiveSearch(), Canvas(((375, 500), (500, 375), (500, 500)))
    data = Data(
        train=Source("voc", "2007_train+2007_val", (search, canvas, RandomFlip())),
        val=Source("voc", "2007_test", (search, canvas)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "difficult", "proposals"),
        slots=60,
        proposal_slots=2000,
        workers=8,
    )
    things = data.facts().things
    tuning = Stage(
        name="finetune",
        model=rcnn_alexnet(num_classes=len(things)),
        task=Detection(len(things), things, region_loss=FAST_RCNN_REGION_LOSS, evaluation="voc2007"),
        data=data,
        optimizer=SGD(
            StepDecay(1e-3, every=20_000),
            momentum=0.9,
            weight_decay=5e-4,
            lr_multipliers=((r"^logits/bias$", 20.0), (r"^logits/", 10.0), (r"bias$", 2.0)),
        ),
        steps=70_000,
        batch_size=2,
        eval_every=35_000,
        save_every=1000,
        keep_best="voc_ap",
        init=WEIGHTS,
    )
    fitting = replace(
        tuning,
        name="machines",
        model=rcnn_alexnet(num_classes=len(things), scorer="svm"),
        optimizer=SGD(0.0),
        steps=1,
        eval_every=1,
        save_every=1,
        init=RegionSVMs(),
    )
    return Recipe(stages=(tuning, fitting), name="rcnn_alexnet_voc")
