"""Human parsing of ten classes of garments and body parts: LR-ASPP on a MobileNetV2 that was trained on ImageNet.

Paper: Howard et al. 2019, arXiv:1905.02244, section 6.4 (the head); Sandler et al. 2018, arXiv:1801.04381 (the
  backbone)
Published: nothing on these classes
Ours: mIoU 48.4, pixel accuracy 92.1 on the validation photographs after 600 updates
Hardware and time: 9 minutes of a core of an AMD EPYC
Command: jaxseg train experiments/ccp_clothing.py, after jaxseg data prepare ccp_clothing --source DIR
Departures: another backbone than the paper's; photographs at 288x192 pixels, two thirds of the files' size.
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
    "mobilenet_v2-b0353104.pth",
    mobilenet.TORCHVISION_V2_NAMES,
    part="backbone",
    source="torchvision's MobileNet_V2_Weights.IMAGENET1K_V1 (BSD-3), from https://download.pytorch.org/models/",
)


def recipe() -> Recipe:
    """People stand upright: the same side up, mirrored or not."""
    small = Resize(288, 192)
    augment = (small, RandomFlip(), RandomScale(0.8, 1.25), RandomCrop(256, 176), Photometric(0.2, 0.2, 0.2, 0.02))
    data = Data(train=Source("ccp_clothing", "train", augment), val=Source("ccp_clothing", "val", (small,)))
    facts = data.facts()
    stage = Stage(
        model=LRASPP(mobilenet.mobilenet_v2(output_stride=16), num_classes=facts.num_classes, features=128),
        task=Semantic(num_classes=facts.num_classes, losses=(CrossEntropy(),), classes=facts.classes),
        data=data,
        optimizer=AdamW(OneCycle(1e-3, warmup=0.1), weight_decay=1e-2, clip=5.0),
        steps=600,
        batch_size=8,
        ema=0.99,
        log_every=25,
        eval_every=300,
        save_every=100,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="ccp_clothing")
