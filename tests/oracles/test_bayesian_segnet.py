"""Where Bayesian SegNet drops values, and that its mean and variance are those of separate passes."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.models.semantic.bayesian_segnet import bayesian_segnet_basic, bayesian_segnet_vgg16, monte_carlo
from jaxseg.models.semantic.segnet import segnet_basic
from tests.oracles.torch_side import random_image, random_variables

VGG_PLACES = {f"pool{k}" for k in (3, 4, 5)} | {f"conv{k}_1_D" for k in (3, 4, 5)}
BASIC_PLACES = {"pool3", "pool4", "conv_decode3", "conv_decode4"}
"""As in the authors' network files."""


@pytest.mark.parametrize(
    ("build", "places"), [(bayesian_segnet_vgg16, VGG_PLACES), (bayesian_segnet_basic, BASIC_PLACES)]
)
def test_dropout_stands_where_the_authors_put_it(build, places):
    model, image = build(num_classes=3, width=4, dropout=0.75), random_image(64, 64)
    variables = random_variables(model, image)

    @jax.jit
    def maps(key):
        call = {"sample": True, "rngs": {"dropout": key}, "capture_intermediates": True}
        return model.apply(variables, image, mutable=["intermediates"], **call)[1]["intermediates"]

    one, other = (maps(jax.random.key(seed)) for seed in (0, 1))
    flat = traverse_util.flatten_dict(one, sep="/")
    outputs = {path.split("_dropout/")[0]: np.asarray(x[0]) for path, x in flat.items() if "_dropout/" in path}
    again = {p.split("_dropout/")[0]: np.asarray(x[0]) for p, x in traverse_util.flatten_dict(other, sep="/").items()}
    assert places <= set(outputs)
    for place in places:
        assert np.mean(outputs[place] == 0) > 0.7, place
        assert np.any(outputs[place] != again[place])
    first = min(outputs)
    before = {name for name in outputs if name not in places and not name.startswith("conv")}
    assert before == {"pool1", "pool2"}, first
    for place in before:
        np.testing.assert_array_equal(outputs[place], again[place])


def test_mean_and_variance_are_those_of_the_passes():
    model, image = bayesian_segnet_basic(num_classes=3, width=4), random_image(24, 40, batch=2)
    variables = random_variables(model, image)
    key = jax.random.key(3)
    draw = jax.jit(lambda key: monte_carlo(key, model, variables, image, samples=5))
    found = draw(key)

    @jax.jit
    def softmax(i):
        rngs = {"dropout": jax.random.fold_in(key, i)}
        return jax.nn.softmax(model.apply(variables, image, sample=True, rngs=rngs)["logits"])

    passes = np.stack([softmax(i) for i in range(5)])
    np.testing.assert_allclose(found["probability"], passes.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["variance"], passes.var(0), atol=1e-5)
    assert passes.var(0).max() > 1e-3
    other = draw(jax.random.key(4))
    assert np.abs(other["probability"] - found["probability"]).max() > 1e-3


def test_without_samples_it_is_segnet():
    """Dropout has no parameters and is off in evaluation: a checkpoint of one is a checkpoint of the other."""
    image = random_image(24, 40)
    bayesian, plain = bayesian_segnet_basic(3, width=4), segnet_basic(3, width=4)
    variables = random_variables(plain, image)
    assert jax.eval_shape(bayesian.init, jax.random.key(0), image) == jax.eval_shape(lambda: variables)
    one, other = (jax.jit(model.apply)(variables, image)["logits"] for model in (bayesian, plain))
    np.testing.assert_array_equal(one, other)
