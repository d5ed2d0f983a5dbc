"""ENet on Cityscapes at half size: 19 classes at 512x1024, from scratch.

Paper: Paszke et al. 2016, arXiv:1606.02147, Table 4 (Cityscapes test set)
Published: mIoU 58.3 on the test set (as generally quoted); a PyTorch port (davidtvs/PyTorch-ENet) has 59.5 on the 500
  validation images
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/enet_cityscapes.py, after jaxseg data prepare cityscapes --source DIR
Departures: encoder and decoder are trained together, not one after the other; labels are reduced with the images.
"""

from jaxseg.data import Data, Source
from jaxseg.data.transforms import RandomFlip, Resize
from jaxseg.losses import CrossEntropy
from jaxseg.models.semantic.enet import enet
from jaxseg.recipe import Recipe, Stage
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam, StepDecay


def recipe() -> Recipe:
    """300 epochs, a tenth of the rate after every 100."""
    half = Resize(512, 1024)
    data = Data(train=Source("cityscapes", "train", (half, RandomFlip())), val=Source("cityscapes", "val", (half,)))
    facts = data.facts()
    epoch = 2975 // 10
    losses = (CrossEntropy(weights=facts.weights["inverse_log"], normalize="weights"),)
    stage = Stage(
        model=enet(num_classes=19),
        task=Semantic(num_classes=19, losses=losses, classes=facts.classes),
        data=data,
        optimizer=Adam(StepDecay(5e-4, every=100 * epoch), weight_decay=2e-4),
        steps=300 * epoch,
        batch_size=10,
        eval_every=10 * epoch,
        save_every=500,
    )
    return Recipe(stages=(stage,), name="enet_cityscapes")
