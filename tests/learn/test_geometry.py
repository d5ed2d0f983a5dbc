"""Depth and normals of four scenes are learnt by heart at once: a wrong sign, mask or head fails here."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxseg.data.sets.scenes import scene
from jaxseg.layers.dense_heads import DenseHeads, DepthHead, NormalHead
from jaxseg.losses import BerHu, L1Log, ScaleInvariant
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.normals import Normals
from tests.learn.test_semantic import Tiny, overfit

SIZE = 32


class Network(Tiny):
    """Four channels, as networks that label pixels are called."""

    def __call__(self, image: Any, *, train: bool = False) -> dict[str, Any]:
        return super().__call__(image)


def test_depth_and_normals_of_four_scenes_are_learnt_despite_holes():
    rooms = [scene("train", i, SIZE, SIZE) for i in range(4)]
    batch = {key: jnp.asarray(np.stack([room[key] for room in rooms])) for key in ("image", "depth", "normal")}
    known = jnp.asarray(np.random.default_rng(0).random((4, SIZE, SIZE)) < 0.7)
    holed = {
        "depth": jnp.where(known, batch["depth"], 50.0),
        "normal": jnp.where(known[..., None], batch["normal"], 1.0),
    }
    model = DenseHeads(Network((("logits", 4),)), (DepthHead(), NormalHead()))
    task = MultiTask({"depth": Depth((ScaleInvariant(), L1Log(), BerHu())), "normals": Normals()})
    batch = {**batch, **holed, "depth_valid": known, "normal_valid": known}
    figures = overfit(model, task, batch)
    assert figures["depth/delta1"] > 0.8, figures
    assert figures["normals/mean_angle"] < 30, figures
