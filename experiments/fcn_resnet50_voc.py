"""FCN on a ResNet-50 on VOC: torchvision's own training, on VOC 2012 and SBD instead of COCO.

Paper: Long et al. 2015, arXiv:1411.4038, with the network and the training of torchvision (references/segmentation)
Published: mIoU 60.5 on the VOC classes of COCO val2017, after COCO's images that show one; none on VOC, so that no
  figure of this recipe stands beside it
Ours: not run yet
Hardware and time: not run yet; crops of 480 in batches of 32 need several GPUs
Command: jaxseg train experiments/fcn_resnet50_voc.py, after jaxseg data prepare voc --source DIR
Departures: VOC's 10582 training images with SBD's labels, which the script offers as a data set too, where the
  published weights saw COCO's; images are resampled twice, to 520 pixels and by the random factor; evaluation at the
  images' own size, not at 520 pixels, black where they are padded.
"""

from jaxseg.backbones import resnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, RandomCrop, RandomFlip, RandomScale, ResizeWithin
from jaxseg.models.semantic.fcn import fcn_resnet50
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained("torchvision:IMAGENET1K_V1", resnet.TORCHVISION_NAMES, part="backbone", architecture="resnet50")


def recipe() -> Recipe:
    """30 epochs under polynomial decay; the auxiliary head counts half and learns ten times as fast."""
    augment = (ResizeWithin(4096, 520), RandomScale(0.5, 2.0), RandomFlip(), RandomCrop(480, 480))
    data = Data(train=Source("voc", "train_aug", augment), val=Source("voc", "val", (PadTo(513, 513),)))
    stage = Stage(
        model=fcn_resnet50(num_classes=21),
        task=Semantic(num_classes=21, classes=data.facts().classes, aux_weight=0.5),
        data=data,
        optimizer=SGD(Poly(0.02), momentum=0.9, weight_decay=1e-4, lr_multipliers=((r"^aux_head/", 10.0),)),
        steps=30 * (10582 // 32),
        batch_size=32,
        eval_batch_size=8,
        eval_every=10582 // 32,
        save_every=1000,
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="fcn_resnet50_voc")
