"""FCN-8s at once on VOC: all skips from the first update on, their pools scaled down, VGG-16 from ImageNet.

Paper: Shelhamer et al. 2017, arXiv:1605.06211, with the training of the authors' public model
Published: mIoU 65.4 on seg11valid, 736 images, after SBD's 8498 training images
Ours: not run yet
Hardware and time: not run yet; 300,000 updates of one image need a GPU
Command: jaxseg train experiments/fcn8s_atonce_vgg16_voc.py, after jaxseg data prepare voc --source DIR
Departures: as experiments/fcn8s_vgg16_voc.py, whose first stage this is with another network, three times as long
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.fcn import fcn8s_atonce_vgg16
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """The training of FCN-32s with the skips."""
    base = load_file(Path(__file__).with_name("fcn8s_vgg16_voc.py"))
    stage = replace(base.stages[0], model=fcn8s_atonce_vgg16(), steps=300_000, name="main")
    return replace(base, stages=(stage,), name="fcn8s_atonce_vgg16_voc")
