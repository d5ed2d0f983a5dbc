"""SSD on VOC, VARIANT: VGG-16 at 300 and 512 pixels, tested on VOC 2007, with the authors' training.

Paper: Liu et al. 2016, arXiv:1512.02325
Published (300): AP50 77.2 on the 4952 test images of VOC 2007, trained on 2007 and 2012 (authors' repository)
Published (512): AP50 79.8 likewise
Published (300_2007): AP50 68.0 likewise, trained on 2007 alone, without zooming out (the paper's first version)
Ours: not trained here
Hardware and time: not run yet; 32 images an update are a GPU's work of a day or two
Command: jaxseg train experiments/ssd_voc.py:VARIANT, after jaxseg data prepare voc --source DIR, DIR with the VOCdevkit
  of 2007 and 2012
Departures: torchvision's VGG-16 of ImageNet and its mean colours. AP50 is the mean of 11 points.
"""

from dataclasses import replace

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import IouCrop, PhotometricDistort, RandomFlip, Resize, ResizeByAny, ZoomOut
from jaxseg.models.detection.ssd import FC6_NAMES, FC7_NAMES, VOC300, VOC512, on_vgg
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.detection import Detection
from jaxseg.tasks.multibox import MultiboxLoss
from jaxseg.train.optim import SGD, Milestones
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

PARTS = (("backbone", vgg.torchvision_names(vgg.VGG16, "none")), ("neck/fc6", FC6_NAMES), ("neck/fc7", FC7_NAMES))
WEIGHTS = Combined(
    tuple(Pretrained("torchvision:IMAGENET1K_V1", rules, part=part, architecture="vgg16") for part, rules in PARTS)
)

NAME = "ssd{variant}_voc"
BOTH = "2007_train+2007_val+2012_train+2012_val"
VARIANTS = {
    "300": (300, BOTH, True, 120_000, (80_000, 100_000)),
    "512": (512, BOTH, True, 120_000, (80_000, 100_000)),
    "300_2007": (300, "2007_train+2007_val", False, 60_000, (40_000, 50_000)),
}
"""Pixels, training images, whether images are zoomed out, updates, and those at which the rate falls tenfold."""


def recipe(variant: str = "300") -> Recipe:
    """Thirty-two images an update; the default boxes are not clipped, as in the authors' Caffe."""
    size, images, zoom, steps, falls = VARIANTS[variant]
    augment = (PhotometricDistort(), *([ZoomOut()] if zoom else []), IouCrop(), ResizeByAny(size, size), RandomFlip())
    data = Data(
        train=Source("voc", images, augment),
        val=Source("voc", "2007_test", (Resize(size, size),)),
        keys=("image", "index", "size", "original_size", "boxes", "classes", "valid", "difficult"),
        slots=60,
        workers=8,
    )
    things = data.facts().things
    model = on_vgg(len(things), size=size, scales=VOC300 if size == 300 else VOC512)
    stage = Stage(
        model=model.clone(boxes=replace(model.boxes, clip=False)),
        task=Detection(len(things), things, anchor_loss=MultiboxLoss(), evaluation="voc2007"),
        data=data,
        optimizer=SGD(Milestones(1e-3, falls), momentum=0.9, weight_decay=5e-4),
        steps=steps,
        batch_size=32,
        eval_batch_size=8,
        eval_every=10_000,
        save_every=1000,
        keep_best="voc_ap",
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
