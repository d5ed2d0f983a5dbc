"""SegNet-Basic-SingleChannelDecoder on CamVid, 11 classes at 360x480: SegNet-Basic with a depthwise decoder.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic-SingleChannelDecoder
Published: mIoU 46.1, class accuracy 60.7, pixel accuracy 81.2 on the 233 test images with median frequency balancing;
  45.2, 53.9, 83.5 with natural frequencies
Ours: not run yet
Hardware and time: not run yet
Command: jaxseg train experiments/single_channel_decoder_camvid.py, after jaxseg data prepare camvid --source DIR;
  natural frequencies: --set "stages.0.task.losses.0.weights=()"
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet_variants import single_channel_decoder
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other decoder."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    stage = replace(base.stages[0], model=single_channel_decoder(num_classes=11))
    return replace(base, stages=(stage,), name="single_channel_decoder_camvid")
