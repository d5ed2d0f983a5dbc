"""ENet on CamVid for the paper's 300 epochs: 11 classes at 360x480, from scratch on the 367 training images.

Paper: Paszke et al. 2016, arXiv:1606.02147, Table 5 (CamVid test set)
Published: mIoU 51.3 on the 233 test images
Ours: mIoU 63.1 on the 101 validation images, void ignored (61.4 with void counted as errors); class accuracy 80.4,
  pixel accuracy 90.5, boundary F1 57.8, when two thirds of the updates were made (7,340 of 11,010, 200 epochs)
Hardware and time: one NVIDIA H200 that three other runs used too for most of the time: nine and a half minutes
Command: jaxseg train experiments/enet_full_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: as experiments/enet_camvid.py, but for batches of 10 and 300 epochs, which are the paper's
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.recipe import Recipe, load_file

STEPS = 5505
"""Of each stage: 150 epochs of 367 images, ten at a time."""


def recipe() -> Recipe:
    """Both stages of the short schedule, longer and with the paper's batches."""
    base = load_file(Path(__file__).with_name("enet_camvid.py"))
    stages = tuple(
        replace(
            stage, data=replace(stage.data, workers=6), steps=STEPS, batch_size=10, eval_every=1835, save_every=1835
        )
        for stage in base.stages
    )
    return replace(base, stages=stages, name="enet_full_camvid")
