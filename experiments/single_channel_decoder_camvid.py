"""SegNet-Basic-SingleChannelDecoder on CamVid, 11 classes at 360x480: SegNet-Basic with a depthwise decoder.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic-SingleChannelDecoder
Published: mIoU 46.1, class accuracy 60.7, pixel accuracy 81.2 on the 233 test images with median frequency balancing
Ours: mIoU 47.9 (47.0 with void counted), class accuracy 72.3, pixel accuracy 77.9, boundary F1 31.7 on the 101
  validation images, void ignored; computed in float32
Hardware and time: one NVIDIA H200 that up to three other runs used too: 93 seconds in updates
Command: jaxseg train experiments/single_channel_decoder_camvid.py, after jaxseg data prepare camvid --source DIR
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
