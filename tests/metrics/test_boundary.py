import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxseg.metrics import BoundaryF1
from jaxseg.metrics.boundary import near
from jaxseg.types import VOID


def naive_score(predicted, truth, num_classes, tolerance):
    """One image, pixel by pixel, with SciPy's exact distances; None where the truth has no boundary."""
    void = truth >= num_classes
    predicted = np.where(void, VOID, predicted)

    def boundary(label, c):
        out = np.zeros(label.shape, bool)
        for y, x in np.argwhere(label == c):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < label.shape[0] and 0 <= u < label.shape[1] and label[v, u] not in (c, VOID):
                    out[y, x] = True
        return out

    def share_near(a, b):
        return (ndimage.distance_transform_edt(~b)[a] <= radius).mean() if a.any() and b.any() else 0.0

    radius = tolerance * math.hypot(*truth.shape)
    scores = []
    for c in range(num_classes):
        ours, theirs = boundary(predicted, c), boundary(truth, c)
        if theirs.any():
            p, r = share_near(ours, theirs), share_near(theirs, ours)
            scores.append(2 * p * r / (p + r) if p + r else 0.0)
    return np.mean(scores) if scores else None


def blobs(seed, shape, num_classes):
    """Smooth random regions with some void."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(num_classes, *shape)), (0, 0, 2, 2))
    label = fields.argmax(0)
    return np.where(ndimage.gaussian_filter(rng.normal(size=shape), (0, 2, 2)) > 0.15, VOID, label).astype(np.int32)


@pytest.mark.parametrize(("num_classes", "tolerance"), [(4, 0.0075), (4, 0.06), (40, 0.04)])
def test_equals_the_definition_whatever_the_batches(num_classes, tolerance):
    truth = blobs(0, (5, 30, 41), num_classes)
    truth[1] = VOID
    truth[2] = 3  # no boundary there
    predicted = np.where(truth == VOID, 1, np.roll(truth, (2, 1), (1, 2)))
    predicted = np.where(predicted == VOID, 2, predicted).astype(np.int32)
    scores = [naive_score(p, t, num_classes, tolerance) for p, t in zip(predicted, truth, strict=True)]
    expected = np.mean([s for s in scores if s is not None])
    metric = BoundaryF1(num_classes, tolerance)
    observe = jax.jit(metric.observe)
    for size in (5, 2):
        state = metric.init()
        for i in range(0, 6, size):
            rows = np.minimum(np.arange(i, i + size), 4)
            real = np.arange(i, i + size) < 5
            batch = {"label": jnp.asarray(truth[rows]), "real": jnp.asarray(real)}
            state = metric.fold(state, observe({"label": jnp.asarray(predicted[rows])}, batch))
        np.testing.assert_allclose(metric.result(state)["boundary_f1"], expected, rtol=1e-12)


def test_a_perfect_prediction_scores_one_and_nothing_scores_nothing():
    metric = BoundaryF1(4)
    truth = jnp.asarray(blobs(1, (2, 24, 24), 4))
    perfect = {"label": jnp.where(truth == VOID, 0, truth)}
    assert metric.result(metric.fold(metric.init(), metric.observe(perfect, {"label": truth}))) == {"boundary_f1": 1.0}
    assert metric.result(metric.init()) == {}


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.9, 4.5, 60.0])
def test_near_is_the_distance_transform_of_each_bit(radius):
    rng = np.random.default_rng(0)
    masks = rng.random((3, 1, 20, 33)) < 0.01
    bits = sum(m.astype(np.uint32) << (13 * i) for i, m in enumerate(masks))
    out = np.asarray(near(jnp.asarray(bits, jnp.uint32), radius))
    for i, mask in enumerate(masks):
        expected = ndimage.distance_transform_edt(~mask[0]) <= radius
        np.testing.assert_array_equal((out[0] >> (13 * i)) & 1, expected)
