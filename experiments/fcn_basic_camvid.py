"""FCN-Basic on CamVid: 11 classes at 360x480, class-balanced, from scratch on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic
Published: mIoU 47.3, class accuracy 62.4, pixel accuracy 81.7 on the 233 test images with median frequency balancing
Ours: mIoU 55.6 (54.2 with void counted), class accuracy 79.4, pixel accuracy 83.4, boundary F1 46.5 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 25 seconds in updates
Command: jaxseg train experiments/fcn_basic_camvid.py, after jaxseg data prepare camvid --source DIR;
  bfloat16: --set stages.0.model.dtype=bfloat16
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet import fcn_basic
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other network."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    return replace(base, stages=(replace(base.stages[0], model=fcn_basic(num_classes=11)),), name="fcn_basic_camvid")
