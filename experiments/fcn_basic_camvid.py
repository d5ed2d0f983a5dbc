"""FCN-Basic on CamVid: 11 classes at 360x480, class-balanced, from scratch on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, FCN-Basic
Published: mIoU 47.3, class accuracy 62.4, pixel accuracy 81.7 on the 233 test images with median frequency balancing;
  45.0, 55.6, 83.9 with natural frequencies
Ours: as far as two CPU cores take it, 1,000 updates of 4 images (11 of 327 epochs): mIoU 17.2, class accuracy 42.6,
  pixel accuracy 37.1 on the 101 validation images, void ignored; after 500 updates 24.3, 47.9, 53.9. The loss still
  falls (1.1 to 0.44) while at this constant rate the validation figures swing. Another run, 150 updates of 2 images at
  90x120 under Adam(OneCycle(0.003)) (docs/papers/segnet.md): mIoU 28.3 (27.7 with void counted), class accuracy 49.0,
  pixel accuracy 54.8 on the 101 validation images at that size, void ignored
Hardware and time: one core of an AMD EPYC: 80 minutes, 0.85 images a second; the other run a minute, while others used
  it; the whole recipe needs a GPU
Command: jaxseg train experiments/fcn_basic_camvid.py, after jaxseg data prepare camvid --source DIR;
  natural frequencies: --set "stages.0.task.losses.0.weights=()"
Departures: local response normalisation of the input, as the released SegNet-Basic has it, for the paper's local
  contrast normalisation; 10,000 updates, as in the released solver of SegNet-Basic, where the paper trains until the
  loss has converged.
  The gradient's norm is clipped at 1: without that FCN-Basic's loss grows without bound within ten updates.
"""

from jaxseg.data import Data, Source
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.segnet import fcn_basic
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD


def recipe() -> Recipe:
    """The paper's fixed rate of 0.1; weights are medians of the frequencies within the images that hold a class."""
    data = Data(train=Source("camvid", "train"), val=Source("camvid", "val"))
    facts = data.facts()
    stage = Stage(
        model=fcn_basic(num_classes=11),
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
    return Recipe(stages=(stage,), name="fcn_basic_camvid")
