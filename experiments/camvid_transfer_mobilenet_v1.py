"""Transfer to CamVid at half size: LR-ASPP on a MobileNetV1 x0.25 that was trained on ImageNet.

Paper: Howard et al. 2019, arXiv:1905.02244, section 6.4 (the head); Howard et al. 2017, arXiv:1704.04861 (the backbone)
Published: nothing on this data set
Ours: mIoU 56.5 (55.0 with void counted as errors), class accuracy 66.8, pixel accuracy 90.1 on the 101 validation
  images at 180x240, void ignored; from random weights 42.5 (41.8), 52.7, 84.3: ImageNet gains 14.0
Hardware and time: one core of an AMD EPYC that others used too: 11 minutes, from random weights 8
Command: jaxseg train experiments/camvid_transfer_mobilenet_v1.py, after jaxseg data prepare camvid --source DIR; the
  same from random weights: --set stages.0.init=None --workdir DIR
Departures: another backbone than the paper's; images at half size. ImageNet's share is the difference between the two
  commands, which agree in everything else.
"""

from jaxseg.backbones import mobilenet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import Photometric, RandomCrop, RandomFlip, RandomScale, Resize
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.lraspp import LRASPP
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, OneCycle
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "mobilenetv1_025_imagenet/weights.npz",
    mobilenet.RETINAFACE_NAMES,
    part="backbone",
    source="the backbone of the first commit of github.com/biubug6/Pytorch_Retinaface (MIT), its state dict as npz",
)


def recipe() -> Recipe:
    """One rate for backbone and head, so that both beginnings are trained alike."""
    half = Resize(180, 240)
    augment = (half, RandomFlip(), RandomScale(0.75, 1.5), RandomCrop(180, 240), Photometric(0.2, 0.2, 0.2))
    data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val", (half,)))
    facts = data.facts()
    backbone = mobilenet.mobilenet_v1(width=0.25, activation="leaky_relu", output_stride=16)
    stage = Stage(
        model=LRASPP(backbone=backbone, num_classes=facts.num_classes, features=64),
        task=Semantic(num_classes=facts.num_classes, losses=(CrossEntropy(),), classes=facts.classes),
        data=data,
        optimizer=AdamW(OneCycle(3e-3, warmup=0.1), weight_decay=1e-4),
        steps=1500,
        batch_size=8,
        ema=0.995,
        eval_every=500,
        save_every=250,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="camvid_transfer_mobilenet_v1")
