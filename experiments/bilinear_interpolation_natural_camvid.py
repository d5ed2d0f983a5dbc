"""Bilinear-Interpolation on CamVid, natural frequencies: 11 classes at 360x480.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, Bilinear-Interpolation
Published: mIoU 43.8, class accuracy 52.5, pixel accuracy 82.7 on the 233 test images with natural frequencies
Ours: mIoU 33.4 (32.9 with void counted), class accuracy 43.0, pixel accuracy 76.3, boundary F1 13.7 on the 101
  validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same training: 38.8,
  62.3, 66.6
Hardware and time: one core of an AMD EPYC: 86 seconds in updates
Command: jaxseg train experiments/bilinear_interpolation_natural_camvid.py, after
  jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is but for the weights of the classes
"""

from pathlib import Path

from jaxseg.override import override
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The balanced row's training without its weights."""
    balanced = load_file(Path(__file__).with_name("bilinear_interpolation_camvid.py"))
    natural = override(balanced, "stages.0.task.losses.0.weights", ())
    return override(natural, "name", "bilinear_interpolation_natural_camvid")
