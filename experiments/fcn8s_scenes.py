"""FCN-32s, then 16s, then 8s on the embedded scenes: the paper's way through the strides, in small.

Paper: Long et al. 2015, arXiv:1411.4038, section 4.2 (skips are added one after the other)
Published: none, the scenes are jaxseg's own
Ours: not run yet (200 held-out scenes)
Hardware and time: not run yet
Command: jaxseg train experiments/fcn8s_scenes.py
Departures: a quarter of VGG16's width and from scratch, since no ImageNet weights are at hand; Adam instead of SGD;
  batches of 8.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip
from jaxseg.models.semantic.fcn import fcn8s_vgg16, fcn16s_vgg16, fcn32s_vgg16
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, Cosine, OneCycle


def recipe() -> Recipe:
    """Three stages, each from the weights of the one before."""
    data = Data(train=Source("scenes", "train", (RandomFlip(),)), val=Source("scenes", "val"))
    classes = data.facts().classes
    size = {"num_classes": len(classes), "width": 16, "fc_features": 512}

    def stage(name, model, rate, steps, init="previous"):
        return Stage(
            model=model,
            task=Semantic(num_classes=len(classes), classes=classes),
            data=data,
            optimizer=Adam(rate),
            steps=steps,
            batch_size=8,
            name=name,
            log_every=25,
            eval_every=250,
            save_every=250,
            eval_batch_size=20,
            init=init,
        )

    return Recipe(
        stages=(
            stage("32s", fcn32s_vgg16(**size), OneCycle(5e-4), 1000, init=None),
            stage("16s", fcn16s_vgg16(**size), Cosine(2e-4), 500),
            stage("8s", fcn8s_vgg16(**size), Cosine(2e-4), 500),
        ),
        name="fcn8s_scenes",
    )
