"""SegFormer-B0 on ADE20K: mix transformer from ImageNet, crops of 512.

Paper: Xie et al. 2021, arXiv:2105.15203, Table 1, with the training of mmsegmentation
Published: mIoU 37.41 on the 2000 validation images, single scale (38.1 with sizes rounded to the stride)
Ours: not run yet
Hardware and time: not run yet; crops of 512 in batches of 16 need several GPUs
Command: jaxseg train experiments/segformer_b0_ade20k.py, after jaxseg data prepare ade20k --source DIR
Departures: in evaluation image and label are resized together, where mmsegmentation resizes scores back to the label.
"""

from jaxseg.backbones import mit
from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadToMultiple, Photometric, RandomCrop, RandomFlip, RandomScale, ResizeWithin
from jaxseg.models.semantic.segformer import segformer_b0
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import AdamW, Poly, Warmup
from jaxseg.weights.pretrained import Pretrained

WEIGHTS = Pretrained(
    "hf:nvidia/mit-b0/pytorch_model.bin",
    (*mit.HUB_NAMES, (r"classifier\..*", None)),
    part="backbone",
)


def recipe() -> Recipe:
    """The head learns ten times as fast, norms do not decay; images of evaluation come one by one."""
    shorter = ResizeWithin(2048, 512)
    light = Photometric(brightness=0.125, contrast=0.5, saturation=0.5, hue=0.1)
    augment = (shorter, RandomScale(0.5, 2.0), RandomCrop(512, 512), RandomFlip(), light)
    data = Data(
        train=Source("ade20k", "train", augment),
        val=Source("ade20k", "val", (shorter, PadToMultiple(128))),
    )
    stage = Stage(
        model=segformer_b0(num_classes=150),
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
        init=WEIGHTS,
    )
    return Recipe(stages=(stage,), name="segformer_b0_ade20k")
