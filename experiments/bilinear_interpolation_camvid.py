"""Bilinear-Interpolation on CamVid, 11 classes at 360x480: fixed upsampling.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, Bilinear-Interpolation
Published: mIoU 43.3, class accuracy 61.1, pixel accuracy 77.9 on the 233 test images with median frequency balancing
Ours: mIoU 51.8 (50.8 with void counted), class accuracy 74.8, pixel accuracy 81.2, boundary F1 38.1 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 22 seconds in updates
Command: jaxseg train experiments/bilinear_interpolation_camvid.py, after jaxseg data prepare camvid --source DIR;
  bfloat16: --set stages.0.model.dtype=bfloat16 --set stages.0.model.decoder.dtype=bfloat16
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet_variants import bilinear_interpolation
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other decoder."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    stage = replace(base.stages[0], model=bilinear_interpolation(num_classes=11))
    return replace(base, stages=(stage,), name="bilinear_interpolation_camvid")
