"""Pictures of a training: those of images of several sizes stand on one sheet."""

from types import SimpleNamespace

import jax
import numpy as np
from PIL import Image

from jaxseg.data.facts import Facts
from jaxseg.models.semantic.unet import unet
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import visuals

FACTS = Facts("toy", "all black", ("a", "b"), ((0, 0, 0), (255, 0, 0)), {"val": 2})


class Several:
    """Validation images of these sizes, which no batch can hold together."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def eval_batches(self, *, batch_size, limit, data_dir):
        del data_dir
        assert batch_size == 1, "they cannot be stacked"
        for height, width in self.sizes[:limit]:
            yield {"image": np.zeros((1, height, width, 3), np.uint8), "label": np.zeros((1, height, width), np.int32)}

    def facts(self, data_dir=None):
        return FACTS


def test_images_of_several_sizes_are_drawn_below_one_another(tmp_path):
    model = unet(num_classes=2, depth=1, width=1)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))
    heights = {}
    for name, data in (("one", Several((48, 64))), ("two", Several((48, 64), (64, 48)))):
        stage = SimpleNamespace(model=model, task=Semantic(2), data=data, pictures=4)
        visuals.samples(tmp_path / name, 1, stage=stage, variables=variables, data_dir=None)
        (path,) = (tmp_path / name).iterdir()
        with Image.open(path) as sheet:
            heights[name] = sheet.height
    assert heights["two"] >= heights["one"] + 64
