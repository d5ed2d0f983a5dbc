"""Models of ours in Flax NNX: the same paths for the whole registry, the same numbers, and they train."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, traverse_util

from jaxseg.export.nnx import from_nnx, to_nnx
from jaxseg.models.semantic.unet import unet
from jaxseg.registry import create_model, entries
from tests.inference.test_predict import picture

SNAPSHOTS = Path(__file__).parents[1] / "contracts" / "snapshots"


@pytest.mark.parametrize("name", entries())
def test_every_model_keeps_its_paths(name):
    """A path that NNX could not hold, such as one with the name of a method, would be lost or changed."""
    lines = (SNAPSHOTS / f"{name}.txt").read_text().splitlines()
    flat = {tuple(line.split()[0].split("/")): np.float32(i) for i, line in enumerate(lines)}
    module = to_nnx(create_model(name), traverse_util.unflatten_dict(flat))
    assert traverse_util.flatten_dict(from_nnx(module)) == flat
    kinds = nnx.Param, nnx.BatchStat
    assert len(jax.tree.leaves(nnx.state(module, nnx.Any(*kinds)))) == len(flat)


def test_the_numbers_are_the_same_and_it_trains():
    model, image = unet(3, depth=1, width=2), jnp.asarray(picture(2, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), image)
    module = to_nnx(model, variables)
    wanted, updated = jax.jit(lambda v: model.apply(v, image, train=True, mutable=["batch_stats"]))(variables)

    @nnx.jit
    def step(module, optimizer):
        def loss(module):
            logits = module(image, train=True, mutable=["batch_stats"])["logits"]
            return jnp.square(logits).mean(), logits

        (value, logits), gradient = nnx.value_and_grad(loss, has_aux=True)(module)
        optimizer.update(module, gradient)
        return value, logits

    optimizer = nnx.Optimizer(module, optax.sgd(0.05), wrt=nnx.Param)
    first, logits = step(module, optimizer)
    np.testing.assert_allclose(logits, wanted["logits"], rtol=0, atol=1e-5)
    now = from_nnx(module)
    for a, b in zip(jax.tree.leaves(now["batch_stats"]), jax.tree.leaves(updated["batch_stats"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert step(module, optimizer)[0] < first
