"""SegNet-Basic on CamVid: 11 classes at 360x480, class-balanced, from scratch on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic
Published: mIoU 47.7, class accuracy 62.0, pixel accuracy 82.7 on the 233 test images with median frequency balancing;
  46.3, 54.6, 84.0 with natural frequencies
Ours: as far as one CPU core takes it, 150 updates of 2 images at 90x120 under Adam(OneCycle(0.003))
  (docs/papers/segnet.md): mIoU 21.0 (20.7 with void counted), class accuracy 40.8, pixel accuracy 50.6 on the 101
  validation images at that size, void ignored
Hardware and time: one core of an AMD EPYC that others used too: 4 minutes; the whole recipe needs a GPU
Command: jaxseg train experiments/segnet_basic_camvid.py, after jaxseg data prepare camvid --source DIR;
  natural frequencies: --set "stages.0.task.losses.0.weights=()"
Departures: local response normalisation of the input, as the released model has it, for the paper's local contrast
  normalisation; 10,000 updates, as in the released solver, where the paper trains until the loss has converged.
  The gradient's norm is clipped at 1: without that FCN-Basic's loss grows without bound within ten updates.
"""

from jaxseg.data import Data, Source
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.segnet import segnet_basic
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD


def recipe() -> Recipe:
    """The paper's fixed rate of 0.1; weights are medians of the frequencies within the images that hold a class."""
    data = Data(train=Source("camvid", "train"), val=Source("camvid", "val"))
    facts = data.facts()
    stage = Stage(
        model=segnet_basic(num_classes=11),
        task=Semantic(
            num_classes=11,
            losses=(CrossEntropy(weights=facts.weights["median_frequency"], normalize="count"),),
            classes=facts.classes,
        ),
        data=data,
        optimizer=SGD(0.1, momentum=0.9, weight_decay=5e-4, clip=1.0),
        steps=10_000,
        batch_size=12,
        log_every=20,
        eval_every=500,
        save_every=250,
        keep_best="pixel_accuracy",
        reestimate=True,
    )
    return Recipe(stages=(stage,), name="segnet_basic_camvid")
