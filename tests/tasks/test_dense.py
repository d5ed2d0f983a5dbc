"""Boundaries and salient objects: losses against NumPy, and what may not count."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import BalancedCrossEntropy
from jaxseg.tasks.boundary import Boundary
from jaxseg.tasks.saliency import Saliency

RNG = np.random.default_rng(0)
LOGITS, SIDES = RNG.normal(size=(2, 6, 7)).astype(np.float32), RNG.normal(size=(2, 6, 7, 3)).astype(np.float32)
TRUTH = RNG.random((2, 6, 7)) < 0.2


def cross_entropy(logits, truth):
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -np.where(truth, np.log(p), np.log(1 - p))


def balanced(logits, truth):
    """Equation 2 of the paper, image by image."""
    share = truth.mean((1, 2), keepdims=True)
    return np.where(truth, 1 - share, share) * cross_entropy(logits, truth)


def batch(key, **more):
    return {key: jnp.asarray(TRUTH), "real": jnp.asarray([True, True]), **more}


def test_each_output_has_the_balanced_cross_entropy():
    outputs = {"boundary_logits": jnp.asarray(LOGITS), "side_logits": jnp.asarray(SIDES)}
    terms = Boundary(side_weight=0.5).loss(outputs, batch("boundary"))
    assert list(terms) == ["fused", "side1", "side2", "side3"]
    np.testing.assert_allclose(terms["fused"].sum, balanced(LOGITS, TRUTH).sum(), rtol=1e-5)
    np.testing.assert_allclose(terms["side2"].sum, balanced(SIDES[..., 1], TRUTH).sum(), rtol=1e-5)
    assert (float(terms["fused"].count), terms["side1"].weight) == (TRUTH.size, 0.5)
    caffe = Boundary(loss_of=BalancedCrossEntropy("images")).loss(outputs, batch("boundary"))["fused"]
    np.testing.assert_allclose([caffe.sum, caffe.count], [balanced(LOGITS, TRUTH).sum(), 2], rtol=1e-5)


def test_salient_objects_have_the_cross_entropy():
    outputs = {"saliency_logits": jnp.asarray(LOGITS), "side_logits": jnp.asarray(SIDES)}
    terms = Saliency().loss(outputs, batch("saliency"))
    np.testing.assert_allclose(terms["side3"].sum, cross_entropy(SIDES[..., 2], TRUTH).sum(), rtol=1e-5)


@pytest.mark.parametrize(("task", "key"), [(Boundary(), "boundary"), (Saliency(), "saliency")])
def test_padding_and_rows_that_are_not_real_add_nothing_to_the_loss(task, key):
    """The weights of classes are those of the image, too."""
    pad = ((0, 0), (0, 2), (0, 3))
    wide, truth = np.pad(LOGITS, pad, constant_values=9), np.pad(TRUTH, pad, constant_values=True)
    given = {key: jnp.asarray(truth), "size": jnp.asarray([[6, 7]] * 2), "real": jnp.asarray([True, False])}
    found = task.loss({f"{key}_logits": jnp.asarray(wide)}, given)["fused"]
    alone = task.loss({f"{key}_logits": jnp.asarray(LOGITS[:1])}, {key: jnp.asarray(TRUTH[:1])})["fused"]
    np.testing.assert_allclose([found.sum, found.count], [alone.sum, alone.count], rtol=1e-5)
