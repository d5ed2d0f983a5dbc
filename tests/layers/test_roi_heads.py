"""Heads on regions of interest: only where a loss looks, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.layers.roi_heads import KeypointHead, MaskHead, apply_where

HEADS = {"masks": (MaskHead((4, 4), 4), (5,)), "keypoints": (KeypointHead(3, (4, 4)), ())}


@pytest.mark.parametrize("name", HEADS)
def test_loss_and_gradients_are_those_of_all_regions(name):
    """Where the loss is of wanted regions, leaving out parts without any changes neither it nor a gradient."""
    head, args = HEADS[name]
    rng = np.random.default_rng(0)
    regions = jnp.asarray(rng.normal(size=(2, 8, 6, 6, 3)), jnp.float32)
    wanted = jnp.asarray([[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]], bool)
    variables = head.init(jax.random.key(0), regions, *args, train=True)

    def loss(variables, regions, *, all_regions):
        if all_regions:
            logits = head.apply(variables, regions, *args, train=True)
        else:
            logits = apply_where(head.bind(variables), regions, wanted, *args, parts=4, train=True)
        return jnp.sum(jnp.where(wanted[..., None, None, None], logits, 0) ** 2), logits

    grad = jax.value_and_grad(loss, (0, 1), has_aux=True)
    (value, logits), grads = grad(variables, regions, all_regions=False)
    (expected, everywhere), expected_grads = grad(variables, regions, all_regions=True)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads, expected_grads)
    np.testing.assert_allclose(logits[:, :4], everywhere[:, :4], rtol=1e-5, atol=1e-6)
    assert not jnp.any(logits[:, 4:])


def test_regions_that_parts_cannot_share_equally_are_one_part():
    """Seven regions in four parts: all of them are looked at."""
    head = MaskHead((4,), 4)
    regions = jnp.ones((1, 7, 4, 4, 3))
    variables = head.init(jax.random.key(0), regions, 2, train=True)
    logits = apply_where(head.bind(variables), regions, jnp.arange(7)[None] < 1, 2, train=True)
    np.testing.assert_allclose(logits, head.apply(variables, regions, 2, train=True), rtol=1e-6)
