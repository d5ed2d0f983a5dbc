"""FCN on a ResNet-101 on VOC: torchvision's own training, on VOC 2012 and SBD instead of COCO.

Paper: Long et al. 2015, arXiv:1411.4038, with the network and the training of torchvision (references/segmentation)
Published: mIoU 63.7 on the VOC classes of COCO val2017, after COCO's images that show one; none on VOC, so that no
  figure of this recipe stands beside it
Ours: not run yet
Hardware and time: not run yet; crops of 480 in batches of 32 need several GPUs
Command: jaxseg train experiments/fcn_resnet101_voc.py, after jaxseg data prepare voc --source DIR
Departures: as experiments/fcn_resnet50_voc.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.fcn import fcn_resnet101
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The smaller network's training with the larger one."""
    base = load_file(Path(__file__).with_name("fcn_resnet50_voc.py"))
    first = base.stages[0]
    weights = replace(first.init, architecture="resnet101")
    stage = replace(first, model=fcn_resnet101(num_classes=21), init=weights)
    return replace(base, stages=(stage,), name="fcn_resnet101_voc")
