"""Fast R-CNN and R-CNN on the embedded scenes, proposals by selective search, VARIANT, from nothing on two CPU cores.

Paper: Girshick 2015, arXiv:1504.08083 (fast_rcnn); Girshick et al. 2014, arXiv:1311.2524 (rcnn)
Published: none, the scenes are jaxseg's own
Ours (fast_rcnn): AP50 58.9, AP 34.7 on the held-out scenes after 800 updates; 50.2 after 400
Ours (rcnn): AP50 59.0, AP 39.7 on the held-out scenes after 2400 updates; 53.5 after 1200
Hardware and time (fast_rcnn): 20 minutes of a core with both evaluations and the search for regions, of an AMD EPYC
Hardware and time (rcnn): 5 minutes of a core with both evaluations, of an AMD EPYC; regions were searched before
Command: jaxseg train experiments/fast_rcnn_scenes.py:VARIANT; needs pip install jaxseg[rcnn]
Departures: VGG16 of a quarter of its width with batch normalisation, or AlexNet of a sixth on crops of 67 pixels; dense
  layers of 256 units, the 300 first proposals; AdamW under a one-cycle schedule; 128x128 images of rooms with four
  classes of objects. R-CNN is the network alone, scored by softmax, without support vector machines and regression.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip, SelectiveSearch
from jaxseg.layers.standardize import IMAGENET
from jaxseg.models.detection.fast_rcnn import FastRCNN, fast_rcnn_vgg16
from jaxseg.models.detection.rcnn import rcnn_alexnet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.regions import FAST_RCNN_REGION_LOSS
from jaxseg.train.optim import AdamW, OneCycle

NAME = "{variant}_scenes"
VARIANTS = {"fast_rcnn": 800, "rcnn": 2400}
"""Updates."""

PROPOSALS = 300


def recipe(variant: str = "fast_rcnn") -> Recipe:
    """One stage of a few epochs; the boxes of selective search are kept in the cache."""
    search = SelectiveSearch(scales=(20, 50), min_width=6, most=PROPOSALS)
    data = Data(
        train=Source("scenes", "train", (search, RandomFlip())),
        val=Source("scenes", "val", (search,)),
        keys=("image", "index", "boxes", "classes", "valid", "proposals"),
        proposal_slots=PROPOSALS,
    )
    things = data.facts().things
    stage = Stage(
        model=small(variant, len(things)),
        task=Detection(len(things), things, region_loss=FAST_RCNN_REGION_LOSS),
        data=data,
        optimizer=AdamW(OneCycle(1e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=VARIANTS[variant],
        batch_size=8,
        ema=0.99,
        log_every=25,
        eval_every=VARIANTS[variant] // 2,
        keep_best="box_ap50",
        save_every=200,
        eval_batch_size=20,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))


def small(variant: str, count: int) -> FastRCNN:
    """Return the network for small images."""
    if variant == "rcnn":
        model = rcnn_alexnet(num_classes=count, widths=(16, 32, 64, 64, 64), dense=256, standardize=IMAGENET)
        return model.clone(crop=67, context=5, samples=16, detections=20)
    model = fast_rcnn_vgg16(num_classes=count, width=16, dense=256, standardize=IMAGENET)
    return model.clone(backbone=model.backbone.clone(norm="batch"), detections=20)
