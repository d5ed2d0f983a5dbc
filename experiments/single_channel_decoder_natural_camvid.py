"""SegNet-Basic-SingleChannelDecoder on CamVid, natural frequencies: 11 classes at 360x480.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic-SingleChannelDecoder
Published: mIoU 45.2, class accuracy 53.9, pixel accuracy 83.5 on the 233 test images with natural frequencies
Ours: mIoU 28.2 (27.9 with void counted), class accuracy 38.2, pixel accuracy 71.0, boundary F1 14.9 on the 101
  validation images, void ignored, after 250 updates of 6 images at 90x120; balanced, in the same training: 27.6,
  48.1, 55.3
Hardware and time: one core of an AMD EPYC: 9 minutes in updates
Command: jaxseg train experiments/single_channel_decoder_natural_camvid.py, after
  jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is but for the weights of the classes
"""

from pathlib import Path

from jaxseg.override import override
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The balanced row's training without its weights."""
    balanced = load_file(Path(__file__).with_name("single_channel_decoder_camvid.py"))
    natural = override(balanced, "stages.0.task.losses.0.weights", ())
    return override(natural, "name", "single_channel_decoder_natural_camvid")
