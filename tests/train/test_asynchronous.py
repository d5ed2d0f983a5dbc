"""Groups of parameters that move when their own effective batch is full."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.errors import BadInput
from jaxseg.train.asynchronous import Asynchronous, rows_of
from jaxseg.train.optim import SGD

PARAMS = {"trunk": {"kernel": jnp.ones(3)}, "seg": {"kernel": jnp.ones(2)}}


def gradient(seed):
    rng = np.random.default_rng(seed)
    return {k: {"kernel": jnp.asarray(rng.normal(size=v["kernel"].shape), jnp.float32)} for k, v in PARAMS.items()}


def rows(seg, real=2):
    return rows_of({"real": jnp.arange(4) < real, "seg/present": jnp.arange(4) < seg})


def test_a_group_moves_on_the_mean_over_its_own_images_when_they_are_enough():
    """Three images of the task in steps of 1, 0 and 2, beside a trunk that moves every step, with a momentum each."""
    plain = SGD(0.1, momentum=0.9)
    tx = Asynchronous(plain, images=2, groups=((r"^seg/", "seg", 3),)).build(10)
    params: Any = PARAMS
    state = tx.init(params)
    for seed, seen in enumerate((1, 0, 2, 2, 1)):
        updates, state = tx.update(gradient(seed), state, params, rows=rows(seen))
        params = optax.apply_updates(params, updates)

    alone = plain.build(10)
    trunk: Any = PARAMS["trunk"]
    moments = alone.init(trunk)
    for seed in range(5):
        updates, moments = alone.update(gradient(seed)["trunk"], moments, trunk)
        trunk = optax.apply_updates(trunk, updates)
    np.testing.assert_allclose(params["trunk"]["kernel"], trunk["kernel"], rtol=1e-6)

    g = [gradient(seed)["seg"]["kernel"] for seed in range(5)]
    seg: Any = PARAMS["seg"]
    moments = alone.init(seg)
    for mean in ((g[0] + 2 * g[2]) / 3, (2 * g[3] + g[4]) / 3):
        updates, moments = alone.update({"kernel": mean}, moments, seg)
        seg = optax.apply_updates(seg, updates)
    np.testing.assert_allclose(params["seg"]["kernel"], seg["kernel"], rtol=1e-5)


def test_a_group_of_nothing_is_refused():
    with pytest.raises(BadInput, match="no parameter matches '\\^det/'"):
        Asynchronous(SGD(0.1), images=2, groups=((r"^det/", "det", 3),)).build(10).init(PARAMS)
