"""CRF-RNN on VOC: FCN-8s in its three stages, and then both together, five mean-field iterations a pass.

Paper: Zheng et al. 2015, arXiv:1502.03240, with the solver of the authors' public model
Published: mIoU 74.7 on the VOC 2012 test set and 73.0 on a reduced validation set of 346 images, both with COCO
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/crfrnn_vgg16_voc.py, after jaxseg data prepare voc --source DIR
Departures: no images of COCO; the last stage's length is ours, the source states none; images of all stages as in
  experiments/fcn8s_vgg16_voc.py.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.crfrnn import CRFRNN
from jaxseg.recipe import Recipe, load_file
from jaxseg.weights.combine import Combined
from jaxseg.weights.pretrained import Pretrained


def recipe() -> Recipe:
    """FCN's stages run under a CRF of no iterations, so that every path is that of the last stage, whose matrices learn
    a thousand to ten thousand times as fast as the network.
    """
    base = load_file(Path(__file__).with_name("fcn8s_vgg16_voc.py"))
    first = base.stages[0].init
    moved = Combined(tuple(_inside("network", start) for start in first.starts))
    stages = [replace(stage, model=CRFRNN(stage.model, iterations=(0, 0))) for stage in base.stages]
    stages[0] = replace(stages[0], init=moved)
    last = base.stages[-1]
    lr_multipliers = (
        ("(spatial|bilateral)/kernel", 1e4),
        ("compatibility/kernel", 1e3),
        *last.optimizer.lr_multipliers,
    )
    together = replace(
        last,
        name="crf",
        model=CRFRNN(last.model, iterations=(5, 10)),
        data=replace(last.data, train=replace(last.data.train, split="train_aug")),
        optimizer=replace(last.optimizer, learning_rate=1e-13, lr_multipliers=lr_multipliers),
    )
    return Recipe(name="crfrnn_vgg16_voc", stages=(*stages, together))


def _inside(module: str, start: Pretrained) -> Pretrained:
    return replace(start, part=f"{module}/{start.part}")
