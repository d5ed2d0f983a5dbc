"""Each family's small variant learns four rendered scenes: soon it is far better than any constant answer.

A wrong sign, a gradient that is stopped somewhere or scores that are misplaced, unseen by shape tests, fail here.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.data.sets.scenes import scene
from jaxseg.layers.encoder_decoder import EncoderDecoder
from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic
from jaxseg.models.semantic.deeplabv3 import DeepLabV3
from jaxseg.models.semantic.manet import MANetDecoder
from jaxseg.models.semantic.pan import PANDecoder
from jaxseg.models.semantic.unetplusplus import UNetPlusPlusDecoder
from jaxseg.ops.crop import centre_crop
from jaxseg.tasks.semantic import Semantic
from tests.contracts.zoo import SMALL, sizes, tiny_resnet

SMALLER = (16, 16, 8, 8, 8)
"""Channels of a decoder's five steps."""


def on_resnet(decoder, **fields):
    backbone = tiny_resnet(jnp.float32)
    return lambda dtype: EncoderDecoder(backbone=backbone, decoder=decoder, num_classes=3, **fields)


LEARNERS = {
    **SMALL,
    "bayesian_segnet_basic": lambda dtype: bayesian_segnet_basic(3, width=8, dtype=dtype),
    "deeplabv3_resnet50": lambda dtype: DeepLabV3(
        backbone=tiny_resnet(dtype, output_stride=8), num_classes=3, rates=(1, 2), features=8, dropout=0.1
    ),
    "manet_resnet34": on_resnet(MANetDecoder(features=SMALLER, attention=8, reduction=4)),
    "pan_resnet50": on_resnet(PANDecoder(features=8), least=128),
    "unetplusplus_resnet34": on_resnet(UNetPlusPlusDecoder(features=SMALLER)),
}


CLASSES = 3
"""Wall, floor, and all the rest as one."""

RATES = {"crfrnn_vgg16": 1e-3}
"""Of Adam, where they are not 1e-2: mean-field inference multiplies the scores by eight."""


@functools.cache
def four_scenes(size, crop):
    rooms = [scene("train", i, *size) for i in range(4)]
    label = np.stack([np.minimum(room["label"], CLASSES - 1) for room in rooms]).astype(np.int32)
    image = jnp.asarray(np.stack([room["image"] for room in rooms]))
    return {"image": image, "label": centre_crop(jnp.asarray(label), *crop)}


def constant_loss(label):
    """The entropy of the labels: what an answer that does not look at the image costs at best, in nats."""
    share = np.bincount(np.asarray(label).ravel()) / label.size
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def learned(model, batch, rate, steps=30):
    """The cross-entropy before the first and before the last of so many steps of Adam on one batch, as one program."""
    task = Semantic(model.num_classes)
    variables = jax.jit(model.init)(jax.random.key(0), batch["image"][:1])
    tx = optax.adam(rate)

    def loss(params, state, key):
        outputs, state = model.apply(
            {"params": params, **state}, batch["image"], train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )
        term = task.loss({"logits": outputs["logits"]}, batch)["cross_entropy"]
        return term.sum / term.count, dict(state)

    def step(carry, key):
        params, state, moments = carry
        (value, state), slope = jax.value_and_grad(loss, has_aux=True)(params, state, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            updates, moments = tx.update(slope, moments)
        return (optax.apply_updates(params, updates), state, moments), value

    @jax.jit
    def run(params, state):
        return jax.lax.scan(step, (params, state, tx.init(params)), jax.random.split(jax.random.key(1), steps))[1]

    params = variables["params"]
    values = run(params, {name: value for name, value in variables.items() if name != "params"})
    return float(values[-5:].mean())


@pytest.mark.parametrize("name", LEARNERS)
def test_it_learns_four_scenes(name):
    model = LEARNERS[name](jnp.float32)
    valid = hasattr(model, "valid_size")
    size = sizes(model)[0] if valid else (48, 64)
    batch = four_scenes(size, model.valid_size(*size) if valid else size)
    begin = time.process_time()
    final, least = learned(model, batch, RATES.get(name, 1e-2)), constant_loss(batch["label"])
    print(f"LEARN {name}: {final:.3f} of {least:.3f}, ratio {final / least:.2f}, {time.process_time() - begin:.1f} s")
    assert final < 0.6 * least, f"{final:.3f} after training, {least:.3f} without looking"
