"""Dice, Lovász, focal and hard-pixel losses against loops, torch and the definitions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxseg.errors import BadInput
from jaxseg.losses import (
    Dice,
    Focal,
    Lovasz,
    Ohem,
    binary_dice,
    hard_pixels,
    kth_largest,
    lovasz_hinge,
    lovasz_softmax,
    sigmoid_focal,
    softmax_cross_entropy,
    softmax_dice,
    softmax_focal,
)
from jaxseg.losses.lovasz import STEPS, _slope_by_counting, _slope_by_sorting, lovasz_slope
from jaxseg.types import VOID

K = 4


def example(seed=0, shape=(3, 5, 6)):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, K, shape)
    label[rng.random(shape) < 0.2] = VOID
    label[1] = np.where(label[1] == 2, 0, label[1])  # class 2 is absent there
    label[2] = VOID  # nothing is labelled there
    return jnp.asarray(rng.normal(size=(*shape, K)), jnp.float32), jnp.asarray(label, jnp.int32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def per_image(loss, logits, label):
    """The mean over present classes of ``loss(p, truth)``, over labelled pixels only."""
    out = []
    for x, y in zip(np.asarray(logits, np.float64), np.asarray(label), strict=True):
        known = y < K
        p, y = softmax(x)[known], y[known]
        out.append(np.mean([loss(p[:, c], y == c) for c in np.unique(y)]) if y.size else 0.0)
    return np.asarray(out)


def jaccard_loss(truth, wrong):
    """``1 - IoU`` of a mask whose set of mispredicted pixels is ``wrong``."""
    predicted = truth ^ wrong
    union = (truth | predicted).sum()
    return 1 - (truth & predicted).sum() / union if union else 0.0


def lovasz_extension(errors, truth):
    """By its definition: the errors in falling order, each times the increase of the loss of the growing set."""
    order = np.argsort(-errors, kind="stable")
    wrong, before, total = np.zeros(len(errors), bool), 0.0, 0.0
    for i in order:
        wrong[i] = True
        now = jaccard_loss(truth, wrong)
        total += errors[i] * (now - before)
        before = now
    return total


def test_dice_is_the_overlap_of_soft_masks_over_present_classes():
    logits, label = example()
    expected = per_image(lambda p, t: 1 - 2 * (p * t).sum() / (p.sum() + t.sum()), logits, label)
    np.testing.assert_allclose(softmax_dice(logits, label), expected, rtol=1e-5)


def test_binary_dice_of_empty_masks_is_defined():
    logits, target = jnp.full((1, 3, 3), -50.0), jnp.zeros((1, 3, 3))
    np.testing.assert_allclose(binary_dice(logits, target), [0.0], atol=1e-6)
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 3, 3)), (rng.random((2, 3, 3)) < 0.5).astype(float)
    p = 1 / (1 + np.exp(-x))
    expected = 1 - (2 * (p * t).sum((1, 2)) + 1) / (p.sum((1, 2)) + t.sum((1, 2)) + 1)
    np.testing.assert_allclose(
        binary_dice(jnp.asarray(x, jnp.float32), jnp.asarray(t, jnp.float32)), expected, rtol=1e-5
    )


def test_lovasz_is_the_extension_by_definition():
    logits, label = example()
    expected = per_image(lambda p, t: lovasz_extension(np.abs(t - p), t), logits, label)
    np.testing.assert_allclose(lovasz_softmax(logits, label), expected, rtol=1e-4)


def test_lovasz_equals_one_minus_iou_on_every_hard_mask():
    # The extension agrees with the set function on the corners of the cube: all 2^n error sets of a small mask.
    truth = np.asarray([True, False, True, True, False])
    for wrong in itertools.product((False, True), repeat=5):
        wrong = np.asarray(wrong)
        errors = jnp.asarray(wrong, jnp.float32)[None]
        value = jnp.sum(errors * lovasz_slope(errors, jnp.asarray(truth)[None]))
        np.testing.assert_allclose(value, jaccard_loss(truth, wrong), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_counting_and_sorting_give_the_same_loss(scale):
    rng = np.random.default_rng(0)
    errors = jnp.asarray(rng.beta(0.3, 2, (3, 500)) * scale, jnp.float32)
    truth = jnp.asarray(rng.random((3, 500)) < [[0.1], [0.9], [0.0]])
    sorting, counting = _slope_by_sorting(errors, truth), _slope_by_counting(errors, truth)
    np.testing.assert_allclose((errors * counting).sum(1), (errors * sorting).sum(1), atol=scale / STEPS)
    np.testing.assert_array_equal(lovasz_slope(errors, truth), counting)
    zeros = jnp.zeros((1, 4)), jnp.ones((1, 4), bool)
    assert np.isfinite(_slope_by_counting(*zeros)).all()


def test_lovasz_hinge_is_the_extension_of_the_hinge():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 4, 4)) * 2, rng.random((2, 4, 4)) < 0.4
    errors = np.maximum(0, 1 - x * (2 * t - 1)).reshape(2, -1)
    expected = [lovasz_extension(e, m) for e, m in zip(errors, t.reshape(2, -1), strict=True)]
    np.testing.assert_allclose(lovasz_hinge(jnp.asarray(x, jnp.float32), jnp.asarray(t)), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [softmax_dice, lovasz_softmax, softmax_focal])
def test_gradients_are_derivatives_and_zero_on_void(loss):
    logits, label = example(shape=(3, 3, 3))
    # float32 differences: the step is coarse, so is the tolerance
    check_grads(
        lambda x: loss(jnp.asarray(x), label).sum(), (logits,), order=1, modes=["rev"], rtol=3e-2, atol=3e-2, eps=1e-2
    )
    slope = jax.grad(lambda x: loss(x, label).sum())(logits)
    assert np.abs(np.asarray(slope)[np.asarray(label) == VOID]).max() == 0
    assert np.abs(slope).max() > 0


def test_focal_is_its_formula_and_cross_entropy_at_zero():
    logits, label = example()
    nll = np.asarray(softmax_cross_entropy(logits, label), np.float64)
    np.testing.assert_allclose(
        softmax_focal(logits, label, gamma=2.0), (1 - np.exp(-nll)) ** 2 * nll, rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(softmax_focal(logits, label, gamma=0.0), nll, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_slope_is_finite_for_certain_and_void_pixels(gamma):
    logits = jnp.asarray([[[[200.0, 0.0]], [[0.0, 200.0]], [[0.0, 0.0]]]])
    label = jnp.asarray([[[0], [0], [VOID]]])
    slope = jax.grad(lambda x: softmax_focal(x, label, gamma=gamma).sum())(logits)
    assert np.isfinite(slope).all()


def test_sigmoid_focal_is_retinanets():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t = (rng.normal(size=(30,)) * 4).astype(np.float32), (rng.random(30) < 0.3).astype(np.float32)
    tx, tt = torch.tensor(x), torch.tensor(t)
    p = torch.sigmoid(tx)
    p_t = p * tt + (1 - p) * (1 - tt)
    ce = torch.nn.functional.binary_cross_entropy_with_logits(tx, tt, reduction="none")
    expected = (0.25 * tt + 0.75 * (1 - tt)) * (1 - p_t) ** 2 * ce
    np.testing.assert_allclose(sigmoid_focal(jnp.asarray(x), jnp.asarray(t)), expected.numpy(), rtol=1e-4, atol=1e-7)


def test_kth_largest_is_the_sorted_rows():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(4, 37)).astype(np.float32)
    x[:, ::5] = 0
    x[3] = 0.25
    for k in (1, 2, 20, 37, 38):
        expected = np.sort(x, 1)[:, ::-1][:, k - 1] if k <= 37 else np.zeros(4)
        np.testing.assert_array_equal(kth_largest(jnp.asarray(x), jnp.full(4, k)), expected)


@pytest.mark.parametrize(("threshold", "keep"), [(0.7, 0.1), (0.05, 0.3), (0.9, 0.0), (0.05, 1.0)])
def test_hard_pixels_are_those_beyond_the_threshold_and_at_least_the_share(threshold, keep):
    logits, label = example(shape=(3, 8, 8))
    nll = np.asarray(softmax_cross_entropy(logits, label))
    known = np.asarray(label) < K
    hard = hard_pixels(jnp.asarray(nll), jnp.asarray(known), threshold=-np.log(threshold).item(), keep=keep)
    for values, ok, chosen in zip(nll, known, np.asarray(hard), strict=True):
        expected = ok & (values > -np.log(threshold))
        least = max(int(np.ceil(np.float32(keep) * np.float32(ok.sum()))), 1)
        if ok.any() and expected.sum() < least:
            expected = ok & (values >= np.sort(values[ok])[::-1][least - 1])
        np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("loss", [Dice(), Lovasz(), Focal(weights=(1.0, 2.0, 3.0, 4.0)), Ohem(keep=0.5)])
def test_sum_over_count_does_not_depend_on_how_images_are_batched(loss):
    logits, label = example()
    values, counts = loss(logits, label)
    parts = [loss(logits[i : i + 1], label[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(sum(p[0].sum() for p in parts), values.sum(), rtol=1e-5)
    assert sum(p[1].sum() for p in parts) == counts.sum()
    assert counts[2].sum() == 0  # the image without a label


def test_shares_beyond_one_are_refused():
    with pytest.raises(BadInput, match="between 0 and 1"):
        Ohem(keep=100000.0)
