"""Bayesian SegNet on CamVid: SegNet with dropout in its deeper half, 11 classes, on the 367 training images.

Paper: Kendall, Badrinarayanan, Cipolla 2017, arXiv:1511.02680, CamVid test set
Published: mIoU 63.1, pixel accuracy 86.9 on the 233 test images, by Monte-Carlo samples
Ours: not run yet
Hardware and time: not run yet
Command: jaxseg train experiments/bayesian_segnet_camvid.py, after jaxseg data prepare camvid --source DIR; uncertainty:
  jaxseg predict runs/bayesian_segnet_camvid IMAGE --out DIR --samples 40
Departures: as experiments/segnet_camvid.py; evaluation during training is one pass without dropout, which stands for
  the average of the samples
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_vgg16
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """SegNet's training with dropout, half as long again, as in the released solver."""
    base = load_file(Path(__file__).with_name("segnet_camvid.py"))
    stage = replace(base.stages[0], model=bayesian_segnet_vgg16(num_classes=11), steps=60_000)
    return replace(base, stages=(stage,), name="bayesian_segnet_camvid")
