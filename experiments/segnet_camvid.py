"""SegNet on CamVid: VGG16 and its mirror image, 11 classes at 360x480, on the 367 training images.

Paper: Badrinarayanan et al. 2017, arXiv:1511.00561, Table 2, trained there on some 3,400 images
Published: mIoU 60.1, class accuracy 71.2, pixel accuracy 90.4 on the 233 test images from 3,400 images; for 367 images
  earlier versions of the paper are quoted with mIoU 50.2, class accuracy 65.9, pixel accuracy 88.6
Ours: not run yet
Hardware and time: not run yet
Command: jaxseg train experiments/segnet_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: from He initialisation, where the authors start the encoder from VGG16 trained on ImageNet; median
  frequencies within the images that hold a class, where the released class weights follow no definition; the
  gradient's norm is clipped at 1
"""

from jaxseg.data import Data, Source
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.segnet import segnet_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD


def recipe() -> Recipe:
    """The released solver: a fixed rate of 0.001, batches of 4, doubled rate and no decay for biases."""
    data = Data(train=Source("camvid", "train"), val=Source("camvid", "val"))
    facts = data.facts()
    stage = Stage(
        model=segnet_vgg16(num_classes=11),
        task=Semantic(
            num_classes=11,
            losses=(CrossEntropy(weights=facts.weights["median_frequency"], normalize="count"),),
            classes=facts.classes,
        ),
        data=data,
        optimizer=SGD(
            0.001, momentum=0.9, weight_decay=5e-4, no_decay=(r"bias$",), lr_multipliers=((r"bias$", 2.0),), clip=1.0
        ),
        steps=40_000,
        batch_size=4,
        log_every=20,
        eval_every=1000,
        save_every=500,
        keep_best="pixel_accuracy",
        precise_bn=True,
    )
    return Recipe(stages=(stage,), name="segnet_camvid")
