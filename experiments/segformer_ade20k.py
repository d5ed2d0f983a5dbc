"""SegFormer on ADE20K, VARIANT: mix transformer from ImageNet, crops of 512 (of 640 for b5).

Paper: Xie et al. 2021, arXiv:2105.15203, Table 1, with the training of mmsegmentation
Published (b0): mIoU 37.41 on the 2000 validation images, single scale (38.1 with sizes rounded to the stride)
Published (b1): mIoU 40.97 on the 2000 validation images, single scale (41.64 with sizes rounded to the stride)
Published (b2): mIoU 45.58 on the 2000 validation images, single scale (46.53 with sizes rounded to the stride)
Published (b3): mIoU 47.82 on the 2000 validation images, single scale (48.46 with sizes rounded to the stride)
Published (b4): mIoU 48.46 on the 2000 validation images, single scale (49.34 with sizes rounded to the stride)
Published (b5): mIoU 49.62 on the 2000 validation images, single scale, crops of 640 (50.58 with sizes rounded to the
  stride)
Ours: not run yet
Hardware and time: not run yet; crops of 512 in batches of 16 need several GPUs
Command: jaxseg train experiments/segformer_ade20k.py:VARIANT, after jaxseg data prepare ade20k --source DIR
Departures: in evaluation image and label are resized together, where mmsegmentation resizes scores back to the label.
"""

from jaxseg.backbones import mit
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadToMultiple, Photometric, RandomCrop, RandomFlip, RandomScale, ResizeWithin
from jaxseg.models.semantic.segformer import (
    segformer_b0,
    segformer_b1,
    segformer_b2,
    segformer_b3,
    segformer_b4,
    segformer_b5,
)
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, Poly, Warmup
from jaxseg.weights.pretrained import Pretrained

NAME = "segformer_{variant}_ade20k"
VARIANTS = {
    "b0": (segformer_b0, 512),
    "b1": (segformer_b1, 512),
    "b2": (segformer_b2, 512),
    "b3": (segformer_b3, 512),
    "b4": (segformer_b4, 512),
    "b5": (segformer_b5, 640),
}
"""The network and the side of its crops."""


def recipe(variant: str = "b0") -> Recipe:
    """The head learns ten times as fast, norms do not decay; images of evaluation come one by one."""
    network, side = VARIANTS[variant]
    shorter = ResizeWithin(2048, side)
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (shorter, RandomScale(0.5, 2.0), RandomCrop(side, side), RandomFlip(), light)
    data = Data(
        train=Source("ade20k", "train", augment),
        val=Source("ade20k", "val", (shorter, PadToMultiple(128))),
    )
    stage = Stage(
        model=network(num_classes=150),
        task=Semantic(num_classes=150, classes=data.facts().classes),
        data=data,
        optimizer=AdamW(
            Warmup(1500, Poly(6e-5, power=1.0)),
            weight_decay=0.01,
            no_decay=("norm",),
            lr_multipliers=((r"^(?!backbone/)", 10.0),),
        ),
        steps=160_000,
        batch_size=16,
        eval_batch_size=1,
        eval_every=16_000,
        save_every=1000,
        init=Pretrained(
            f"hf:nvidia/mit-{variant}/pytorch_model.bin",
            (*mit.HUB_NAMES, (r"classifier\..*", None)),
            part="backbone",
        ),
    )
    return Recipe(stages=(stage,), name=NAME.format(variant=variant))
