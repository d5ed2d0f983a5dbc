"""CRF as RNN against its recurrence written out in NumPy, the lattice being a matrix there."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.semantic.crfrnn import Mixing, crfrnn_vgg16, mean_field_rnn
from jaxseg.ops.crf import bilateral_features, lattice_filter
from tests.oracles.torch_side import random_image, random_variables


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def recurrence(scores, image, spatial, bilateral, compatibility, iterations):
    h, w, k = scores.shape
    y, x = np.mgrid[:h, :w].reshape(2, -1)
    near = np.exp(-((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2) / (2 * 3.0**2))
    features = bilateral_features(jnp.asarray(image), 160.0, 3.0)
    wide = np.asarray(MATRIX(features), float)
    near, wide = (m / m.sum(1, keepdims=True) for m in (near, wide))
    unary = q = scores.reshape(-1, k).astype(float)
    for _ in range(iterations):
        p = softmax(q)
        q = unary - (near @ p @ spatial + wide @ p @ bilateral) @ compatibility
    return q.reshape(h, w, k)


MATRIX = jax.jit(lambda features: lattice_filter(features)(jnp.eye(len(features))))
"""The lattice over given pixels, as a matrix."""


def test_equals_the_recurrence():
    rng = np.random.default_rng(0)
    scores, image = rng.normal(size=(12, 10, 3)).astype(np.float32), random_image(12, 10)[0]
    weights = rng.normal(size=(3, 3, 3)).astype(np.float32)
    call = jax.jit(partial(mean_field_rnn, iterations=10, deviations=(3.0, 160.0, 3.0)))
    ours = call(jnp.asarray(scores), image, weights=tuple(jnp.asarray(w) for w in weights))
    theirs = recurrence(scores, np.asarray(image), *weights.astype(float), 10)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_network_and_recurrence_in_one():
    """Ten iterations at test, five in training, where dropout is off for once; image by image."""
    model, image = crfrnn_vgg16(num_classes=3, width=4, fc_features=6), random_image(9, 13, batch=2)
    classifier = model.network.classifier.clone(dropout=0.0)
    model = model.clone(network=model.network.clone(classifier=classifier))
    variables = random_variables(model, image)
    params = variables["params"]

    @jax.jit
    def all_three(variables, image):
        scores = model.network.apply({"params": variables["params"]["network"]}, image)["logits"]
        return scores, *(model.apply(variables, image, train=train)["logits"] for train in (True, False))

    scores, trained, tested = (np.asarray(x) for x in all_three(variables, image))
    weights = [np.asarray(params[name]["kernel"], float) for name in ("spatial", "bilateral", "compatibility")]
    for i in range(2):
        for ours, iterations in ((trained, 5), (tested, 10)):
            theirs = recurrence(scores[i], np.asarray(image)[i], *weights, iterations)
            assert np.abs(theirs - scores[i]).max() > 0.1
            np.testing.assert_allclose(ours[i], theirs, atol=1e-4 * np.abs(theirs).max())


def test_starts_as_a_potts_model():
    for start in (3.0, 5.0, -1.0):
        params = Mixing(3, start).init(jax.random.key(0))["params"]
        np.testing.assert_array_equal(params["kernel"], start * np.eye(3))
