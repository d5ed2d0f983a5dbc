import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxseg.errors import BadInput
from jaxseg.losses import CrossEntropy, binary_cross_entropy, class_weight, softmax_cross_entropy
from jaxseg.types import VOID

K = 5
WEIGHTS = (0.5, 2.0, 1.0, 7.0, 0.1)


def example(seed=0, shape=(2, 7, 6), scale=3.0):
    """Logits, and labels of which some are void by either spelling."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, K, shape)
    label[rng.random(shape) < 0.2] = VOID
    label[0, 0, 0] = K
    return jnp.asarray(rng.normal(size=(*shape, K)) * scale, jnp.float32), jnp.asarray(label, jnp.int32)


def naive(logits, label):
    """Pixel by pixel in float64."""
    out = np.zeros(label.shape)
    for at in np.ndindex(label.shape):
        if 0 <= label[at] < K:
            row = np.asarray(logits[at], np.float64)
            out[at] = np.log(np.sum(np.exp(row - row.max()))) + row.max() - row[label[at]]
    return out


def test_is_the_negative_log_probability_and_zero_on_void():
    logits, label = example()
    np.testing.assert_allclose(
        softmax_cross_entropy(logits, label), naive(np.asarray(logits), np.asarray(label)), rtol=1e-5, atol=1e-6
    )


def test_huge_logits_neither_overflow_nor_lose_the_gradient():
    logits, label = jnp.asarray([[1e4, -1e4, 0.0]]), jnp.asarray([1])
    value, slope = jax.value_and_grad(lambda x: softmax_cross_entropy(x, label).sum())(logits)
    assert value == 2e4
    np.testing.assert_array_equal(slope, [[1.0, -1.0, 0.0]])


def test_gradient_by_hand_is_the_derivative():
    logits, label = example(shape=(1, 2, 3), scale=1.0)
    check_grads(
        lambda x: softmax_cross_entropy(jnp.asarray(x), label), (logits,), order=1, modes=["rev"], rtol=2e-2, atol=2e-2
    )


def test_half_precision_logits_give_half_precision_slopes_and_float32_values():
    logits, label = example()
    low = logits.astype(jnp.bfloat16)
    value, slope = jax.value_and_grad(lambda x: softmax_cross_entropy(x, label).sum())(low)
    assert value.dtype == jnp.float32
    assert slope.dtype == jnp.bfloat16
    full = jax.grad(lambda x: softmax_cross_entropy(x, label).sum())(low.astype(jnp.float32))
    np.testing.assert_allclose(slope.astype(jnp.float32), full, atol=2**-8)


def test_class_weight_is_the_table_and_zero_on_void():
    _, label = example()
    known = np.asarray(label) < K
    expected = np.where(known, np.asarray(WEIGHTS)[np.where(known, label, 0)], 0)
    np.testing.assert_allclose(class_weight(label, WEIGHTS), expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_weight_normalisation_is_torchs(weights):
    torch = pytest.importorskip("torch")
    logits, label = example()
    known = np.where(np.asarray(label) < K, label, VOID)
    expected_input = torch.tensor(np.moveaxis(np.asarray(logits), -1, 1), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        expected_input,
        torch.tensor(known).long(),
        weight=torch.tensor(weights) if weights else None,
        ignore_index=VOID,
    )
    expected.backward()

    def ours(x):
        values, counts = CrossEntropy(weights=weights, normalize="weights")(x, label)
        return values.sum() / counts.sum()

    value, slope = jax.value_and_grad(ours)(logits)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(np.moveaxis(np.asarray(slope), -1, 1), expected_input.grad.numpy(), atol=1e-6)


def test_the_three_normalisations_divide_by_pixels_weights_and_images():
    logits, label = example()
    known = np.asarray(label) < K
    counts = {n: CrossEntropy(WEIGHTS, n)(logits, label)[1].sum() for n in ("count", "weights", "images")}
    assert counts["count"] == int(known.sum())
    np.testing.assert_allclose(counts["weights"], np.asarray(WEIGHTS)[np.asarray(label)[known]].sum(), rtol=1e-5)
    assert counts["images"] == len(label)


def test_pixel_weights_multiply():
    logits, label = example()
    weight = jnp.asarray(np.random.default_rng(1).random(label.shape), jnp.float32)
    plain, count = CrossEntropy()(logits, label)
    weighted, same = CrossEntropy()(logits, label, weight)
    np.testing.assert_allclose(weighted, plain * weight, rtol=1e-6)
    np.testing.assert_array_equal(count, same)


def test_wrong_settings_are_refused():
    logits, label = example()
    with pytest.raises(BadInput, match="3 class weights for 5 classes"):
        CrossEntropy((1.0, 2.0, 3.0))(logits, label)
    with pytest.raises(BadInput, match="normalize"):
        CrossEntropy(normalize="mean")


def test_binary_form_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, t = (rng.normal(size=(3, 4)) * 30).astype(np.float32), rng.random((3, 4)).astype(np.float32)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(x), torch.tensor(t), reduction="none")
    np.testing.assert_allclose(binary_cross_entropy(jnp.asarray(x), jnp.asarray(t)), expected.numpy(), rtol=1e-5)
