"""FCN-Basic-NoAddition-NoDimReduction on CamVid, 11 classes at 360x480: FCN-Basic on 64 channels, no sums.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic-NoAddition-NoDimReduction
Published: mIoU 45.9, class accuracy 61.6, pixel accuracy 80.5 on the 233 test images with median frequency balancing
Ours: mIoU 53.2 (52.1 with void counted), class accuracy 76.7, pixel accuracy 82.6, boundary F1 39.0 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 27 seconds in updates
Command: jaxseg train experiments/fcn_basic_noaddition_nodimreduction_camvid.py, after jaxseg data prepare camvid
  --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet_variants import fcn_basic_noaddition_nodimreduction
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other decoder."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    stage = replace(base.stages[0], model=fcn_basic_noaddition_nodimreduction(num_classes=11))
    return replace(base, stages=(stage,), name="fcn_basic_noaddition_nodimreduction_camvid")
