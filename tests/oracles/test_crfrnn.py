"""CRF as RNN against its recurrence written out in NumPy, the lattice being a matrix there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models.semantic.crfrnn import crfrnn_vgg16
from jaxseg.ops.crf import bilateral_features, lattice_filter
from tests.oracles.torch_side import initial_params, random_image, random_variables


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def recurrence(scores, image, spatial, bilateral, compatibility, iterations):
    h, w, k = scores.shape
    y, x = np.mgrid[:h, :w].reshape(2, -1)
    near = np.exp(-((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2) / (2 * 3.0**2))
    wide = np.asarray(lattice_filter(bilateral_features(jnp.asarray(image), 160.0, 3.0))(jnp.eye(h * w)), float)
    near, wide = (m / m.sum(1, keepdims=True) for m in (near, wide))
    unary = q = scores.reshape(-1, k).astype(float)
    for _ in range(iterations):
        p = softmax(q)
        q = unary - (near @ p @ spatial + wide @ p @ bilateral) @ compatibility
    return q.reshape(h, w, k)


@pytest.mark.parametrize(("size", "train"), [((12, 16), False), ((9, 13), True)])
def test_equals_the_recurrence(size, train):
    """Ten iterations at test, five in training, where dropout is off for once."""
    model, image = crfrnn_vgg16(num_classes=3, width=4, fc_features=6), random_image(*size, batch=2)
    classifier = model.network.classifier.clone(dropout=0.0)
    model = model.clone(network=model.network.clone(classifier=classifier))
    variables = random_variables(model, image)
    params = variables["params"]

    @jax.jit
    def both(variables, image):
        scores = model.network.apply({"params": variables["params"]["network"]}, image)["logits"]
        return scores, model.apply(variables, image, train=train)["logits"]

    scores, ours = (np.asarray(x) for x in both(variables, image))
    weights = [np.asarray(params[name]["kernel"], float) for name in ("spatial", "bilateral", "compatibility")]
    for i in range(2):
        theirs = recurrence(scores[i], np.asarray(image)[i], *weights, 5 if train else 10)
        assert np.abs(theirs - scores[i]).max() > 0.1
        np.testing.assert_allclose(ours[i], theirs, atol=1e-4 * np.abs(theirs).max())


def test_starts_as_a_potts_model():
    params = initial_params(crfrnn_vgg16(num_classes=3, width=2, fc_features=2), random_image(8, 8))
    for name, start in (("spatial", 3), ("bilateral", 5), ("compatibility", -1)):
        np.testing.assert_array_equal(params[name]["kernel"], start * np.eye(3))
