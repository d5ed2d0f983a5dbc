"""Losses and measures of colour where the right answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.metrics import ColorAuC
from jaxseg.ops.color import ab_bins, all_bins, nearest_bin, rebalancing, soft_bins
from jaxseg.ops.lab import rgb_to_lab
from jaxseg.tasks.colorization import Colorization

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (2, 8, 12, 3), np.uint8)
AB = rgb_to_lab(IMAGE)[..., 1:]
PRIOR = tuple(RNG.dirichlet(np.ones(313)).tolist())
BATCH = {"image": jnp.asarray(IMAGE), "real": jnp.asarray([True, True])}


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_every_fourth_pixel_has_the_rebalanced_cross_entropy_of_its_soft_colour():
    logits = RNG.normal(size=(2, 2, 4, 313)).astype(np.float32)  # one column more than the image has
    outputs = {"ab": jnp.zeros((2, 8, 12, 2)), "ab_logits": jnp.asarray(logits)}
    term = Colorization(PRIOR).loss(outputs, BATCH)["classes"]
    cells = AB[:, ::4, ::4]
    soft = np.asarray(soft_bins(jnp.asarray(cells), ab_bins()))
    weight = rebalancing(np.asarray(PRIOR))[np.asarray(nearest_bin(jnp.asarray(cells), ab_bins()))]
    expected = -(weight * (soft * log_softmax(logits[:, :, :3])).sum(-1)).sum()
    np.testing.assert_allclose([term.sum, term.count], [expected, 12], rtol=1e-4)


def test_the_whole_grid_is_learnt_by_the_nearest_bin_and_colours_by_hubers_loss():
    logits, ab = RNG.normal(size=(2, 2, 3, 529)).astype(np.float32), AB + RNG.normal(size=AB.shape) * 2
    terms = Colorization(color_weight=10.0).loss(
        {"ab": jnp.asarray(ab, jnp.float32), "ab_logits": jnp.asarray(logits)}, BATCH
    )
    number = ((AB[:, ::4, ::4, None] - all_bins()) ** 2).sum(-1).argmin(-1)
    expected = -np.take_along_axis(log_softmax(logits), number[..., None], -1).sum()
    np.testing.assert_allclose(terms["classes"].sum, expected, rtol=1e-4)
    d = np.abs(ab - AB) / 110
    huber = np.where(d < 1 / 110, 0.5 * d * d * 110, d - 0.5 / 110).sum()
    np.testing.assert_allclose([terms["colors"].sum, terms["colors"].weight], [huber, 10], rtol=1e-3)


def test_an_image_without_colour_and_a_row_that_is_not_real_teach_nothing():
    grey = np.repeat(IMAGE[:1, ..., :1], 3, -1)
    outputs = {"ab": jnp.ones((3, 8, 12, 2)), "ab_logits": jnp.zeros((3, 2, 3, 313))}
    batch = {"image": jnp.asarray(np.concatenate([IMAGE, grey])), "real": jnp.asarray([True, False, True])}
    terms = Colorization(color_weight=1.0).loss(outputs, batch)
    assert (float(terms["classes"].count), float(terms["colors"].count)) == (6, 96)


def test_another_number_of_colours_is_refused():
    with pytest.raises(BadInput, match="scores 300 colours; there are 313 or 529"):
        Colorization().loss({"ab": jnp.zeros((2, 8, 12, 2)), "ab_logits": jnp.zeros((2, 2, 3, 300))}, BATCH)
    with pytest.raises(BadInput, match="a prior of 2 bins: there are 313"):
        Colorization((0.5, 0.5))


def figures(ab, batch, prior=PRIOR):
    metric = ColorAuC(prior)
    return metric.result(metric.fold(metric.init(), jax.jit(metric.observe)({"ab": jnp.asarray(ab)}, batch)))


def test_the_areas_are_those_of_their_definition():
    ab = (AB + RNG.normal(size=AB.shape) * 30).astype(np.float32)
    found = figures(ab, BATCH)
    distance = np.linalg.norm(ab - AB, axis=-1)
    weight = 1 / np.asarray(PRIOR)[np.asarray(nearest_bin(jnp.asarray(AB), ab_bins()))]
    plain = np.mean([(distance <= t).mean() for t in range(151)])
    rare = np.mean([(weight * (distance <= t)).sum() / weight.sum() for t in range(151)])
    np.testing.assert_allclose([found["auc"], found["auc_rebalanced"]], [plain, rare], rtol=1e-4)


def test_the_true_colours_are_perfect_and_padding_does_not_count():
    ab = np.pad(AB, ((0, 0), (0, 2), (0, 3), (0, 0)), constant_values=99)
    image = np.pad(IMAGE, ((0, 0), (0, 2), (0, 3), (0, 0)))
    found = figures(ab, {"image": jnp.asarray(image), "size": jnp.asarray([[8, 12]] * 2)}, prior=())
    assert set(found) == {"auc", "psnr"}
    assert found["auc"] > 0.99
    assert found["psnr"] > 70
