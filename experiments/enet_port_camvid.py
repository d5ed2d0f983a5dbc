"""The ENet whose CamVid weights are public: 11 classes and void as a twelfth output, 360x480.

Paper: Paszke et al. 2016, arXiv:1606.02147, in the form of a PyTorch port (github.com/iArunava/ENet)
Published: weights without a figure; with their norms split and re-estimated the reference has mIoU 64.2 on the 101
  validation images and 48.3 on the 233 test images, void ignored
Ours: not trained here. Their weights after jaxseg import FILE --model enet_port --out DIR, by jaxseg evaluate
  experiments/enet_port_camvid.py --weights DIR: mIoU 64.31, with void counted as errors 63.26 (101 validation images)
Hardware and time: evaluation of 101 images takes a minute on two CPU cores
Command: jaxseg train experiments/enet_port_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: the training is that of experiments/enet_camvid.py, where the port was trained on 512x512 pixels without
  augmentation; void is learnt as a class of its own, as there.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxseg.losses import CrossEntropy, inverse_log
from jaxseg.models.semantic.enet import enet_port
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """ENet's two stages with the other network and a twelfth class weight, void's."""
    base = load_file(Path(__file__).with_name("enet_camvid.py"))
    fractions = base.stages[0].data.facts().fractions
    shares = np.asarray((*fractions, 1 - sum(fractions)))
    losses = (CrossEntropy(weights=inverse_log(shares), normalize="weights"),)

    def ported(stage):
        return replace(stage, model=enet_port(12), task=replace(stage.task, losses=losses, void_is_class=True))

    return replace(base, stages=tuple(ported(stage) for stage in base.stages), name="enet_port_camvid")
