"""Transfer to CamVid at half size: LR-ASPP on a MobileNetV2 that was trained on ImageNet.

Paper: Howard et al. 2019, arXiv:1905.02244, section 6.4 (the head); Sandler et al. 2018, arXiv:1801.04381 (the
  backbone)
Published: nothing on this data set
Ours: mIoU 60.4 (58.9 with void counted), class accuracy 71.1, pixel accuracy 91.7 on the 101 validation images at
  180x240, void ignored; from random weights 43.1 (42.3), 52.9, 86.7: ImageNet gains 17.3
Hardware and time: one core of an AMD EPYC: 16 and 15 minutes
Command: jaxseg train experiments/camvid_transfer_mobilenet_v2.py, after jaxseg data prepare camvid --source DIR; the
  same from random weights: --set stages.0.init=None --workdir DIR
Departures: another backbone than the paper's, whose BatchNorm is folded into its convolutions, so that there is none to
  train with either; images at half size. ImageNet's share is the difference between the two commands, which agree in
  everything else.
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
    "mobilenetv2_imagenet/tf2_ptq_dequantised_bnfolded_fp16.npz",
    mobilenet.FOLDED_NAMES,
    part="backbone",
    source="the float weights of the MobileNetV2 1.0 of github.com/google-coral/test_data (Apache 2.0), as npz",
)


def recipe() -> Recipe:
    """One rate for backbone and head, so that both beginnings are trained alike; the gradient's norm is clipped."""
    half = Resize(180, 240)
    augment = (half, RandomFlip(), RandomScale(0.75, 1.5), RandomCrop(180, 240), Photometric(0.2, 0.2, 0.2))
    data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val", (half,)))
    facts = data.facts()
    backbone = mobilenet.mobilenet_v2_tensorflow(output_stride=16)
    stage = Stage(
        model=LRASPP(backbone=backbone, num_classes=facts.num_classes, features=128),
        task=Semantic(num_classes=facts.num_classes, losses=(CrossEntropy(),), classes=facts.classes),
        data=data,
        optimizer=AdamW(OneCycle(5e-4, warmup=0.1), weight_decay=1e-4, clip=1.0),
        steps=1500,
        batch_size=8,
        ema=0.995,
        eval_every=500,
        save_every=250,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="camvid_transfer_mobilenet_v2")
