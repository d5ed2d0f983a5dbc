"""ESPNet on Cityscapes at half size: 19 classes at 512x1024, from scratch.

Paper: Mehta et al. 2018, arXiv:1803.06815, Cityscapes test set
Published: mIoU 60.3 on the test set
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/espnet_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: as experiments/espnet_camvid.py, whose two stages these are; void pixels teach nothing, where the authors
  have a twentieth output for them; ENet's class weights as published for Cityscapes.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomCrop, RandomFlip, RandomScale, Resize
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.espnet import espnet, espnet_c
from jaxseg.recipe import Recipe, load_file
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import StepDecay


def recipe() -> Recipe:
    """The encoder with its own classifier, then the decoder on top, 300 epochs each."""
    base = load_file(Path(__file__).with_name("espnet_camvid.py"))
    half = Resize(512, 1024)
    augment = (half, RandomFlip(), RandomScale(0.7, 1.6), RandomCrop(512, 1024))
    data = Data(train=Source("cityscapes", "train", augment), val=Source("cityscapes", "val", (half,)))
    facts = data.facts()
    losses = (CrossEntropy(weights=facts.weights["inverse_log"], normalize="weights"),)
    task = Semantic(num_classes=19, losses=losses, classes=facts.classes)

    def widened(stage, model):
        steps = 300 * 2975 // stage.batch_size
        optimizer = replace(stage.optimizer, learning_rate=StepDecay(5e-4, every=steps // 3, factor=0.5))
        return replace(stage, model=model, task=task, data=data, optimizer=optimizer, steps=steps, eval_every=2500)

    encoder, decoder = base.stages
    return replace(
        base, stages=(widened(encoder, espnet_c(19)), widened(decoder, espnet(19))), name="espnet_cityscapes"
    )
