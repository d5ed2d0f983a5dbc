"""FCN-Basic-NoAddition on CamVid, 11 classes at 360x480: FCN-Basic without the sums.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic-NoAddition
Published: mIoU 44.1, class accuracy 58.6, pixel accuracy 80.5 on the 233 test images with median frequency balancing
Ours: mIoU 52.9 (51.7 with void counted), class accuracy 76.2, pixel accuracy 82.0, boundary F1 40.3 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 23 seconds in updates
Command: jaxseg train experiments/fcn_basic_noaddition_camvid.py, after jaxseg data prepare camvid --source DIR;
  bfloat16: --set stages.0.model.dtype=bfloat16 --set stages.0.model.decoder.dtype=bfloat16
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet_variants import fcn_basic_noaddition
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other decoder."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    stage = replace(base.stages[0], model=fcn_basic_noaddition(num_classes=11))
    return replace(base, stages=(stage,), name="fcn_basic_noaddition_camvid")
