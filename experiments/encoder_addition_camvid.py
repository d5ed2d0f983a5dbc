"""SegNet-Basic-EncoderAddition on CamVid, 11 classes at 360x480: SegNet-Basic with the encoder's maps added.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic-EncoderAddition
Published: mIoU 48.5, class accuracy 63.6, pixel accuracy 83.4 on the 233 test images with median frequency balancing
Ours: mIoU 54.6 (53.2 with void counted), class accuracy 78.7, pixel accuracy 83.3, boundary F1 45.8 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 39 seconds in updates
Command: jaxseg train experiments/encoder_addition_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: as experiments/segnet_basic_camvid.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.segnet_variants import encoder_addition
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet-Basic's training with the other decoder."""
    base = load_file(Path(__file__).with_name("segnet_basic_camvid.py"))
    stage = replace(base.stages[0], model=encoder_addition(num_classes=11))
    return replace(base, stages=(stage,), name="encoder_addition_camvid")
