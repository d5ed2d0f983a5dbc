"""UPerNet on ADE20K: ResNet-50 from ImageNet, pyramid pooling over a feature pyramid, crops of 512.

Paper: Xiao et al. 2018, arXiv:1807.10221, with the training of mmsegmentation (160,000 updates)
Published: mIoU 42.05 on the 2000 validation images, single scale; ResNet-101 43.82
Ours: not run yet
Hardware and time: not run yet; crops of 512 in batches of 16 need several GPUs
Command: jaxseg train experiments/upernet_resnet50_ade20k.py, after jaxseg data prepare ade20k --source DIR; ResNet-101:
  --set stages.0.model.backbone.depths="(3, 4, 23, 3)" --set stages.0.init.architecture=resnet101
Departures: torchvision's ResNet-50, whose stem is one 7x7 convolution; in evaluation image and label are resized
  together, where mmsegmentation resizes scores back to the label.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadToMultiple, Photometric, RandomCrop, RandomFlip, RandomScale, ResizeWithin
from jaxseg.models.semantic.upernet import upernet_resnet50
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet50")


def recipe() -> Recipe:
    """The shorter side becomes 512 before it is scaled by 0.5 to 2; images of evaluation come one by one."""
    shorter = ResizeWithin(2048, 512)
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (shorter, RandomScale(0.5, 2.0), RandomCrop(512, 512), RandomFlip(), light)
    data = Data(
        train=Source("ade20k", "train", augment),
        val=Source("ade20k", "val", (shorter, PadToMultiple(128))),
    )
    stage = Stage(
        model=upernet_resnet50(num_classes=150),
        task=Semantic(num_classes=150, classes=data.facts().classes, aux_weight=0.4),
        data=data,
        optimizer=SGD(Poly(0.01, end=1e-4), momentum=0.9, weight_decay=5e-4),
        steps=160_000,
        batch_size=16,
        eval_batch_size=1,
        eval_every=16_000,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="upernet_resnet50_ade20k")
