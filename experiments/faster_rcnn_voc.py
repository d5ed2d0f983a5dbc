"""Faster R-CNN on VOC 2007 and 2012, ResNet-50 on one map, tested on VOC 2007, with detectron2's training.

Paper: Ren et al. 2015, arXiv:1506.01497; He et al. 2016, arXiv:1512.03385, appendix A
Published: AP50 80.3, AP 51.9 on the 4952 test images of VOC 2007 (detectron2); 76.4 for ResNet-101 in the paper
Ours: not run yet
Hardware and time: not run yet; 16 images of 800x1344 an update need several GPUs
Command: jaxseg train experiments/faster_rcnn_voc.py, after jaxseg data prepare voc --source DIR, DIR with the VOCdevkit
  of 2007 and 2012
Departures: all images of a batch lie on one of two canvases. The figure is the area under the curve at IoU 0.5.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import Canvas, RandomFlip, ResizeShort
from jaxseg.models.detection.faster_rcnn_c4 import CAFFE2_BACKBONE, CAFFE2_SHARED_HEAD, faster_rcnn_resnet50_c4
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import DETECTRON2_PROPOSAL_LOSS, DETECTRON2_REGION_LOSS
from jaxseg.train.optim import SGD, Milestones, Warmup
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

CANVASES = Canvas(((800, 1344), (1344, 800)))
SOURCE = "detectron2's ImageNetPretrained/MSRA/R-50.pkl"
WEIGHTS = Combined(
    (
        Pretrained("R-50.pkl", CAFFE2_BACKBONE, part="backbone", source=SOURCE),
        Pretrained("R-50.pkl", CAFFE2_SHARED_HEAD, part="shared_head", source=SOURCE),
    )
)


def recipe() -> Recipe:
    """18,000 updates of sixteen images; the rate falls at 12,000 and 16,000."""
    several = ResizeShort(tuple(range(480, 801, 32)), 1333)
    data = Data(
        train=Source("voc", "2007_train+2007_val+2012_train+2012_val", (several, CANVASES, RandomFlip())),
        val=Source("voc", "2007_test", (ResizeShort(800, 1333), CANVASES)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "difficult"),
        slots=60,
        workers=8,
    )
    things = data.facts().things
    stage = Stage(
        model=faster_rcnn_resnet50_c4(num_classes=len(things)),
        task=Detection(
            len(things),
            things,
            proposal_loss=DETECTRON2_PROPOSAL_LOSS,
            region_loss=DETECTRON2_REGION_LOSS,
            evaluation="voc",
        ),
        data=data,
        optimizer=SGD(
            Warmup(100, Milestones(0.02, (11_900, 15_900)), start=0.001),
            momentum=0.9,
            weight_decay=1e-4,
            lr_multipliers=((r"^backbone/(conv1|layer1_)", 0.0),),
        ),
        steps=18_000,
        batch_size=16,
        eval_batch_size=2,
        eval_every=3000,
        save_every=500,
        keep_best="voc_ap",
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="faster_rcnn_voc")
