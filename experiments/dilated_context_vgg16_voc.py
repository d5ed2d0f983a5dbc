"""The dilated networks on VOC: the front end first, then a context module on top of it while the front end rests.

Paper: Yu and Koltun 2016, arXiv:1511.07122, Table 3
Published: mIoU 72.1 with the large module, 71.3 with the basic one, on the 1449 validation images, with COCO (the front
  end alone 69.8)
Ours: not run yet
Hardware and time: not run yet; it needs a GPU
Command: jaxseg train experiments/dilated_context_vgg16_voc.py, after jaxseg data prepare voc --source DIR; the basic
  module: --set stages.1.model.context.widths="(1, 1, 1, 1, 1, 1, 1)" --set stages.1.model.context.noise=0
Departures: as experiments/dilated_frontend_vgg16_voc.py, and no COCO; the module sees the scores of whole crops in
  batches of 14, computed anew, where the authors stored 66x66 maps and took 60 at a time; 24,000 updates, the length
  that they give for Cityscapes.
"""

from dataclasses import replace
from pathlib import Path

from jaxseg.models.semantic.dilated import dilated_large_vgg16
from jaxseg.recipe import Recipe, load_file
from jaxseg.train.optim import SGD


def recipe() -> Recipe:
    """The front end's rate is 0 in the second stage; the module starts as the identity."""
    frontend = load_file(Path(__file__).with_name("dilated_frontend_vgg16_voc.py")).stages[0]
    context = replace(
        frontend,
        name="context",
        model=dilated_large_vgg16(),
        optimizer=SGD(1e-3, momentum=0.9, lr_multipliers=(("^frontend/", 0.0), (r"bias$", 2.0))),
        steps=24_000,
        init="previous",
    )
    return Recipe(stages=(frontend, context), name="dilated_context_vgg16_voc")
