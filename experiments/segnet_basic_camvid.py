"""SegNet-Basic on CamVid: 11 classes at 360x480, class-balanced, from scratch on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 1, SegNet-Basic
Published: mIoU 47.7, class accuracy 62.0, pixel accuracy 82.7 on the 233 test images with median frequency balancing
Ours: mIoU 52.0 (51.0 with void counted), class accuracy 75.8, pixel accuracy 81.4, boundary F1 40.6 on the 101
  validation images, void ignored; computed in bfloat16
Hardware and time: one NVIDIA H200 that up to three other runs used too: 46 seconds in updates
Command: jaxseg train experiments/segnet_basic_camvid.py, after jaxseg data prepare camvid --source DIR;
  bfloat16: --set stages.0.model.dtype=bfloat16
Departures: local response normalisation of the input, as the released model has it, for the paper's local contrast
  normalisation; 33 epochs under a one-cycle rate whose highest value is the paper's fixed 0.1, where the paper trains
  until the loss has converged (that: --set stages.0.optimizer.learning_rate=0.1 --set stages.0.steps=10000).
  The gradient's norm is clipped at 1: without that FCN-Basic's loss grows without bound within ten updates.
"""

from jaxseg.data import Data, Source
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.segnet import segnet_basic
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD, OneCycle


def recipe() -> Recipe:
    """The paper's rate of 0.1 at its highest; weights are medians of the frequencies within the images that hold a
    class."""
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
        optimizer=SGD(OneCycle(0.1), momentum=0.9, weight_decay=5e-4, clip=1.0),
        steps=1000,
        batch_size=12,
        log_every=20,
        eval_every=500,
        save_every=250,
        keep_best="pixel_accuracy",
        precise_bn=True,
    )
    return Recipe(stages=(stage,), name="segnet_basic_camvid")
