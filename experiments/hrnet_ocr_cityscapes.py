"""HRNet with object-contextual representations on Cityscapes, VARIANT: HRNet from ImageNet, crops of 512x1024.

Paper: Yuan et al. 2020, arXiv:1909.11065, with the training of the authors' code (HRNet/HRNet-Semantic-Segmentation)
Published (w48): mIoU 81.6 on the 500 validation images, single scale
Published (w32): nothing by the authors on this data set
Published (w18): nothing by the authors on this data set
Ours: not run yet
Hardware and time: not run yet; crops of 512x1024 in batches of 12 need several GPUs
Command: jaxseg train experiments/hrnet_ocr_cityscapes.py:VARIANT, after jaxseg data prepare cityscapes --source DIR
Departures: the encoder starts from timm's classifier, which enlarges its maps by repetition
"""

from jaxseg.backbones import hrnet
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
from jaxseg.models.semantic.hrnet_ocr import hrnet_ocr_w18, hrnet_ocr_w32, hrnet_ocr_w48
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, Poly
from jaxseg.weights.pretrained import Pretrained

NAME = "hrnet_ocr_{variant}_cityscapes"
VARIANTS = {"w48": hrnet_ocr_w48, "w32": hrnet_ocr_w32, "w18": hrnet_ocr_w18}


def recipe(variant: str = "w48") -> Recipe:
    """484 epochs under polynomial decay; the auxiliary head counts 0.4."""
    augment = (RandomScale(0.5, 2.0), RandomCrop(512, 1024), RandomFlip())
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val"))
    stage = Stage(
        model=VARIANTS[variant](num_classes=19),
        task=Semantic(num_classes=19, classes=data.facts().classes, aux_weight=0.4),
        data=data,
        optimizer=SGD(Poly(0.01), momentum=0.9, weight_decay=5e-4),
        steps=484 * 2975 // 12,
        batch_size=12,
        eval_batch_size=1,
        eval_every=5000,
        save_every=1000,
        init=Pretrained(f"hf:timm/hrnet_{variant}.ms_in1k/model.safetensors", hrnet.TIMM_NAMES, part="backbone"),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
