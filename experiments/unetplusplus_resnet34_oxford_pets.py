"""UNet++ on Oxford-IIIT Pet: the animal against the rest at 256x256, ResNet-34 from ImageNet.

Paper: Zhou et al. 2018, arXiv:1807.10165, on a ResNet-34 as in segmentation-models-pytorch
Published: nothing on this data set
Ours: not run yet (3669 test images)
Hardware and time: not run yet
Command: jaxseg train experiments/unetplusplus_resnet34_oxford_pets.py, after jaxseg data prepare oxford_pets --source
  DIR
Departures: as experiments/unet_resnet34_oxford_pets.py, whose training this is
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.unetplusplus import unetplusplus_resnet34
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """U-Net's training with the nested decoder."""
    base = load_file(Path(__file__).with_name("unet_resnet34_oxford_pets.py"))
    stage = replace(base.stages[0], model=unetplusplus_resnet34(num_classes=2))
    return replace(base, stages=(stage,), name="unetplusplus_resnet34_oxford_pets")
