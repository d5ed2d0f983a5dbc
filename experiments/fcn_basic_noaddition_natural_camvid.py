"""FCN-Basic-NoAddition on CamVid, natural frequencies: 11 classes at 360x480.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic-NoAddition
Published: mIoU 44.2, class accuracy 53.9, pixel accuracy 82.3 on the 233 test images with natural frequencies
Ours: mIoU 34.5 (33.9 with void counted), class accuracy 44.9, pixel accuracy 76.9, boundary F1 15.7 on the 101
  validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same training: 34.6,
  55.4, 61.4
Hardware and time: one core of an AMD EPYC: 105 seconds in updates
Command: jaxseg train experiments/fcn_basic_noaddition_natural_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is but for the weights of the classes
"""

from pathlib import Path

from jaxseg.override import override
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The balanced row's training without its weights."""
    balanced = load_file(Path(__file__).with_name("fcn_basic_noaddition_camvid.py"))
    natural = override(balanced, "stages.0.task.losses.0.weights", ())
    return override(natural, "name", "fcn_basic_noaddition_natural_camvid")
