"""PSPNet on VOC: ResNet-50 from ImageNet at output stride 8, pyramid pooling, crops of 473.

Paper: Zhao et al. 2017, arXiv:1612.01105, with the training of the authors' PyTorch code (hszhao/semseg)
Published: mIoU 77.05 on the 1449 validation images, single scale; ResNet-101 79.07
Ours: not run yet
Hardware and time: not run yet; crops of 473 in batches of 16 need several GPUs
Command: jaxseg train experiments/pspnet_resnet50_voc.py, after jaxseg data prepare voc --source DIR; ResNet-101: --set
  stages.0.model.backbone.depths="(3, 4, 23, 3)" --set stages.0.init.file=resnet101_semseg/resnet101_v2.pth
Departures: no blur; in evaluation the whole image at once, not crops of it; padding is black, not the mean.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip, RandomRotate, RandomScale
from jaxseg.models.semantic.pspnet import pspnet_resnet50
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "resnet50_semseg/resnet50_v2.pth",
    resnet.TORCHVISION_NAMES,
    part="backbone",
    source="resnet50_v2.pth of the folder initmodel that github.com/hszhao/semseg links to",
)


def recipe() -> Recipe:
    """50 epochs under polynomial decay; everything but the backbone learns ten times as fast."""
    augment = (RandomScale(0.5, 2.0), RandomRotate(10), RandomFlip(), RandomCrop(473, 473))
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    stage = Stage(
        model=pspnet_resnet50(num_classes=21),
        task=Semantic(num_classes=21, classes=data.facts().classes, aux_weight=0.4),
        data=data,
        optimizer=SGD(Poly(0.01), momentum=0.9, weight_decay=1e-4, lr_multipliers=((r"^(?!backbone/)", 10.0),)),
        steps=50 * 10582 // 16,
        batch_size=16,
        eval_every=2500,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="pspnet_resnet50_voc")
