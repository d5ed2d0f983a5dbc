"""ESPNet on CamVid: 11 classes and void as a twelfth output, 360x480, from scratch on the 367 training images.

Paper: Mehta et al. 2018, arXiv:1803.06815, CamVid test set
Published: mIoU 55.64 and class accuracy 68.30 on the 233 test images, void pixels counted as errors
Ours: not trained yet. The authors' weights after jaxseg import FILE --model espnet --out DIR, by jaxseg evaluate
  experiments/espnet_camvid.py --weights DIR: mIoU 69.99, with void counted as errors 68.56 (101 validation images)
Hardware and time: evaluation of 101 images takes a minute on two CPU cores
Command: jaxseg train experiments/espnet_camvid.py, after jaxseg data prepare camvid --source DIR
Departures: random scales around the published size where the authors pass over five fixed sizes of the training set in
  turn; one epoch here is one pass, so that 300 of them are a fifth of theirs; labels of the encoder's stage are not
  reduced to 1/8, its scores are enlarged.
"""

import numpy as np

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale
from jaxseg.losses import CrossEntropy, inverse_log
from jaxseg.models.semantic.espnet import espnet, espnet_c
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, StepDecay


def recipe() -> Recipe:
    """The encoder with its own classifier, then the decoder on top; the rate is halved after each third of a stage."""
    augment = (RandomFlip(), RandomScale(0.7, 1.6), RandomCrop(360, 480))
    data = Data(train=Source("camvid", "train", augment), val=Source("camvid", "val"))
    facts = data.facts()
    shares = np.asarray((*facts.fractions, 1 - sum(facts.fractions)))
    task = Semantic(
        num_classes=11,
        losses=(CrossEntropy(weights=inverse_log(shares, 1.1), normalize="weights"),),
        classes=facts.classes,
        void_is_class=True,
    )

    def stage(name, model, batch_size, **fields):
        steps = 300 * 367 // batch_size
        optimizer = Adam(StepDecay(5e-4, every=steps // 3, factor=0.5), weight_decay=5e-4)
        return Stage(
            name=name,
            model=model,
            task=task,
            data=data,
            optimizer=optimizer,
            steps=steps,
            batch_size=batch_size,
            **fields,
        )

    stages = (stage("encoder", espnet_c(12), 12), stage("decoder", espnet(12), 6, init="previous"))
    return Recipe(name="espnet_camvid", stages=stages)
