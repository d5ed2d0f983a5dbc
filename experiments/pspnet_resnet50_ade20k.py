"""PSPNet on ADE20K: ResNet-50 from ImageNet at output stride 8, pyramid pooling, crops of 473.

Paper: Zhao et al. 2017, arXiv:1612.01105, Table 1 and the authors' PyTorch code (hszhao/semseg)
Published: mIoU 41.68 and pixel accuracy 80.04 on the 2000 validation images, single scale (semseg 41.89; ResNet-101
  43.10)
Ours: not run yet
Hardware and time: not run yet; crops of 473 in batches of 16 need several GPUs
Command: jaxseg train experiments/pspnet_resnet50_ade20k.py, after jaxseg data prepare ade20k --source DIR; ResNet-101:
  --set stages.0.model.backbone.depths="(3, 4, 23, 3)" --set stages.0.init.file=resnet101_semseg/resnet101_v2.pth
Departures: as experiments/pspnet_resnet50_voc.py; in evaluation image and label are resized to a longer side of 512,
  where the authors resize scores back to the label.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Data, Source
from jaxseg.data.transforms import PadTo, ResizeWithin
from jaxseg.models.semantic.pspnet import pspnet_resnet50
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic


def recipe() -> Recipe:
    """VOC's training for 100 epochs."""
    base = load_file(Path(__file__).with_name("pspnet_resnet50_voc.py"))
    first = base.stages[0]
    small = (ResizeWithin(512, 512), PadTo(512, 512))
    data = Data(
        train=Source("ade20k", "train", first.data.train.transforms),
        val=Source("ade20k", "val", small),
    )
    stage = replace(
        first,
        model=pspnet_resnet50(num_classes=150),
        task=Semantic(num_classes=150, classes=data.facts().classes, aux_weight=0.4),
        data=data,
        steps=100 * 20210 // 16,
        eval_every=10_000,
    )
    return replace(base, stages=(stage,), name="pspnet_resnet50_ade20k")
