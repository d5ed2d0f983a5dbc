"""SegNet-Basic on CamVid, natural frequencies: 11 classes at 360x480.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic
Published: mIoU 46.3, class accuracy 54.6, pixel accuracy 84.0 on the 233 test images with natural frequencies
Ours: mIoU 32.2 (31.6 with void counted), class accuracy 42.5, pixel accuracy 76.1, boundary F1 15.2 on the 101
  validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same training: 35.9,
  58.3, 60.5
Hardware and time: one core of an AMD EPYC: 6 minutes in updates
Command: jaxseg train experiments/segnet_basic_natural_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is but for the weights of the classes
"""

from pathlib import Path

from jaxseg.override import override
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The balanced row's training without its weights."""
    balanced = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    natural = override(balanced, "stages.0.task.losses.0.weights", ())
    return override(natural, "name", "segnet_basic_natural_camvid")
