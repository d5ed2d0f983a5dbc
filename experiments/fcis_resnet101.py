"""FCIS with ResNet-101 on COCO and on VOC 2012 with SBD's masks (SDS), VARIANT.

Paper: Li et al. 2017, arXiv:1611.07709
Published (coco): mask AP 29.2, AP50 50.8 on minival, 29.6 and 51.4 on test-dev (the authors' MXNet code); 29.2 and 49.5
  on test-dev as Mask R-CNN's paper tells it
Published (sds): mAP^r 66.0 at IoU 0.5 and 51.9 at 0.7 on VOC 2012 val (the authors' MXNet code); 65.7 and 52.1 in the
  paper
Ours: not trained here
Hardware and time: not run yet; eight images of 600x1000 an update need several GPUs
Command: jaxseg train experiments/fcis_resnet101.py:VARIANT, after jaxseg data prepare coco (or voc) --source DIR
Departures: images lie on one of two canvases; the authors sum gradients over eight images where the mean is taken here,
  at eight times their rate; masks are averaged on a grid over the boxes that vote, not at pixels.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.instance.fcis import fcis_resnet101
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.fcis import FCISLoss
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.regions import FASTER_RCNN_PROPOSAL_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.pretrained import Pretrained

NAME = "fcis_resnet101_{variant}"
VARIANTS = {"coco": (fcis_resnet101, 118_288, 78_859), "sds": (fcis_resnet101, 15_466, 9842)}
"""The network, updates, and that from which the rate is a tenth: 8 and 5.33 epochs of COCO, 22 and 14 of SDS."""

WARMUP = 250
GEOMETRY = (ResizeShort(600, 1000), Canvas(((600, 1000), (1000, 600))))
KEYS = ("image", "index", "size", "original_size", "boxes", "classes", "valid", "instance_ids", "hidden_ids", "rle")


def recipe(variant: str = "coco") -> Recipe:
    """Eight images an update; on COCO from all proposals the hardest, on SDS 128 samples."""
    (network, steps, fall), coco = VARIANTS[variant], variant == "coco"
    data = data_of(coco=coco)
    things = data.facts().things
    fields = {} if coco else {"ohem": False, "anchor_sizes": (128, 256, 512)}
    stage = Stage(
        model=network(num_classes=len(things), **fields),
        task=Instance(
            len(things),
            things,
            proposal_loss=FASTER_RCNN_PROPOSAL_LOSS,
            joint_loss=FCISLoss(),
            paste="detectron2",
            evaluation="coco" if coco else "voc2007",
        ),
        data=data,
        optimizer=SGD(
            Warmup(WARMUP, Milestones(4e-3, (fall - WARMUP,)), start=0.1),
            momentum=0.9,
            weight_decay=5e-4,
            lr_multipliers=((r"^conv_new_1/", 3.0),),
        ),
        steps=steps,
        batch_size=8,
        eval_batch_size=2,
        eval_every=steps // 8,
        save_every=1000,
        keep_best="mask_ap" if coco else "mask_apr50",
        freeze=(r"^backbone/(conv1|layer1_)",),
        init=Pretrained(
            "R-101.pkl", resnet.CAFFE2_NAMES, part="backbone", source="detectron2's ImageNetPretrained/MSRA"
        ),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def data_of(*, coco: bool) -> Data:
    """Return COCO, or SBD divided as SDS does, mirrored at random."""
    name, train, test = ("coco", "train", "val") if coco else ("voc", "sds_train", "sds_val")
    return Data(
        train=Source(name, train, (*GEOMETRY, RandomFlip())),
        val=Source(name, test, GEOMETRY),
        keys=(*KEYS, "crowd", "area") if coco else tuple(key for key in KEYS if key not in ("hidden_ids", "rle")),
        slots=100 if coco else 60,
        workers=8,
    )
