"""DeepLab v2 on VOC: VGG-16 from ImageNet, ASPP-L, crops of 321, polynomial decay.

Paper: Chen et al. 2017, arXiv:1606.00915, Table 3 (ASPP-L)
Published: mIoU 68.96 on the 1449 validation images, 71.57 with a dense CRF; 72.6 on the test set with it
Ours: not run yet
Hardware and time: not run yet; batches of 10 crops need a GPU
Command: jaxseg train experiments/deeplabv2_vgg16_voc.py, after jaxseg data prepare voc --source DIR; ASPP-S: --set
  stages.0.model.rates="(2, 4, 8, 12)"; with the CRF: jaxseg evaluate runs/deeplabv2_vgg16_voc --crf
Departures: as experiments/deeplab_largefov_vgg16_voc.py.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.deeplab import deeplabv2_vgg16
from jaxseg.recipe import Recipe, load_file
from jaxseg.train.optim import Poly


def recipe() -> Recipe:
    """LargeFOV's training with the pyramid, the other schedule and smaller batches."""
    base = load_file(Path(__file__).with_name("deeplab_largefov_vgg16_voc.py"))
    first = base.stages[0]
    lr_multipliers = ((r"fc8_\d/bias$", 20.0), (r"fc8_\d/", 10.0), (r"bias$", 2.0))
    stage = replace(
        first,
        model=deeplabv2_vgg16(),
        optimizer=replace(first.optimizer, learning_rate=Poly(1e-3), lr_multipliers=lr_multipliers),
        steps=20_000,
        batch_size=10,
        eval_every=2500,
    )
    return replace(base, stages=(stage,), name="deeplabv2_vgg16_voc")
