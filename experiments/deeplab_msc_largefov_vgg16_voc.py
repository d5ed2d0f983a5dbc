"""DeepLab-MSc-LargeFOV (v1) on VOC: LargeFOV first, then perceptrons on the image and the pools beside it.

Paper: Chen et al. 2015, arXiv:1412.7062, Table 2 (DeepLab-MSc-LargeFOV)
Published: mIoU 64.21 on the 1449 validation images, 68.70 with a dense CRF; 71.6 on the test set with it
Ours: not run yet
Hardware and time: not run yet; batches of 30 crops need a GPU
Command: jaxseg train experiments/deeplab_msc_largefov_vgg16_voc.py, after jaxseg data prepare voc --source DIR
Departures: as experiments/deeplab_largefov_vgg16_voc.py; the second stage's length is the first's.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.deeplab import deeplab_msc_largefov_vgg16
from jaxseg.recipe import Recipe, load_file


def recipe() -> Recipe:
    """Subset what is new learns in the second stage: the perceptrons, and the classifier, which sees more channels."""
    first = load_file(Path(__file__).with_name("deeplab_largefov_vgg16_voc.py")).stages[0]
    frozen = replace(first.optimizer, lr_multipliers=((r"^(backbone|fov)/", 0.0), *first.optimizer.lr_multipliers))
    second = replace(first, name="perceptrons", model=deeplab_msc_largefov_vgg16(), optimizer=frozen, init="previous")
    return Recipe(stages=(replace(first, name="largefov"), second), name="deeplab_msc_largefov_vgg16_voc")
