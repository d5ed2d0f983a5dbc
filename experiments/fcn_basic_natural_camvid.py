"""FCN-Basic on CamVid, natural frequencies: 11 classes at 360x480.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic
Published: mIoU 45.0, class accuracy 55.6, pixel accuracy 83.9 on the 233 test images with natural frequencies
Ours: mIoU 37.8 (37.0 with void counted), class accuracy 49.6, pixel accuracy 78.5, boundary F1 22.9 on the 101
  validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same training: 40.7,
  64.3, 65.3
Hardware and time: one core of an AMD EPYC: 105 seconds in updates
Command: jaxseg train experiments/fcn_basic_natural_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is but for the weights of the classes
"""

from pathlib import Path

from jaxseg.override import override
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The balanced row's training without its weights."""
    balanced = load_file(Path(__file__).with_name("fcn_basic_camvid.py"))
    natural = override(balanced, "stages.0.task.losses.0.weights", ())
    return override(natural, "name", "fcn_basic_natural_camvid")
