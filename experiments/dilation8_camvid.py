"""Dilation8 on CamVid: the front end with VGG-16 from ImageNet, then front end and context module together.

Paper: Yu and Koltun 2016, arXiv:1511.07122, appendix (CamVid)
Published: mIoU 65.3 on the 233 test images at 640x480
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/dilation8_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: whole images of 480x360, the size that the data set is shared at, where the authors cut 628x628 out of
  mirrored ones of 640x480, of which the middle 256x256 are scored, and 852x852 with 480x480 in the second stage; that
  stage's length, which the source does not state, is that of the first; scores are enlarged to the labels.
"""

from jaxseg.backbones import vgg
from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.models.semantic.dilated import CAMVID, dilated_frontend_vgg16, dilation8
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import SGD
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained

VGG16 = ("vgg16_caffe/VGG_ILSVRC_16_layers.caffemodel", "the authors' www.robots.ox.ac.uk/~vgg/research/very_deep")
WEIGHTS = Combined(
    (
        Pretrained(VGG16[0], vgg.CAFFE_NAMES, part="frontend/backbone", source=VGG16[1]),
        Pretrained(VGG16[0], vgg.CAFFE_CLASSIFIER, part="frontend/classifier", source=VGG16[1]),
    )
)


def recipe() -> Recipe:
    """Heavy momentum for the front end; then everything together, one image a step."""
    data = Data(train=Source("camvid", "train", (RandomFlip(),)), val=Source("camvid", "val"))
    biases = {"weight_decay": 5e-4, "no_decay": (r"bias$",), "lr_multipliers": ((r"bias$", 2.0),)}

    def stage(name, model, optimizer, batch_size, init):
        return Stage(
            name=name,
            model=model,
            task=Semantic(num_classes=11, classes=data.facts().classes),
            data=data,
            optimizer=optimizer,
            steps=20_000,
            batch_size=batch_size,
            eval_batch_size=4,
            eval_every=2000,
            save_every=500,
            init=init,
        )

    frontend = dilated_frontend_vgg16(num_classes=11, standardize=CAMVID)
    return Recipe(
        name="dilation8_camvid",
        stages=(
            stage("frontend", frontend, SGD(1e-4, momentum=0.99, **biases), 8, WEIGHTS),
            stage("together", dilation8(), SGD(1e-5, momentum=0.9, **biases), 1, "previous"),
        ),
    )
