"""Bilinear-Interpolation on CamVid, 11 classes at 360x480: fixed upsampling.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, Bilinear-Interpolation
Published: mIoU 43.3, class accuracy 61.1, pixel accuracy 77.9 on the 233 test images with median frequency balancing;
  43.8, 52.5, 82.7 with natural frequencies
Ours: as far as one CPU core takes it, 150 updates of 2 images at 90x120 under Adam(OneCycle(0.003))
  (docs/papers/segnet.md): mIoU 35.3 (34.5 with void counted), class accuracy 55.5, pixel accuracy 63.5 on the 101
  validation images at that size, void ignored
Hardware and time: one core of an AMD EPYC that others used too: 1 minute; the whole recipe needs a GPU
Command: jaxseg train experiments/bilinear_interpolation_camvid.py, after jaxseg data prepare camvid --source DIR;
  natural frequencies: --set "stages.0.task.losses.0.weights=()"
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
