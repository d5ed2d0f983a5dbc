import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.metrics import Confusion, confusion_matrix
from jaxseg.types import VOID

K = 5


def example(seed=0, rows=7):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, 4, VOID], (rows, 9, 8)).astype(np.int32)  # class 3 never occurs
    predicted = np.where(rng.random(truth.shape) < 0.4, rng.choice([0, 1, 2, 4], truth.shape), truth)
    return np.where(predicted == VOID, 1, predicted).astype(np.int32), truth


def evaluate(metric, predicted, truth, size):
    """In batches of ``size`` whose last is filled up with rows that are not real."""
    observe, state = jax.jit(metric.observe), metric.init()
    for i in range(0, len(truth), size):
        rows = np.arange(i, i + size)
        real, rows = rows < len(truth), np.minimum(rows, len(truth) - 1)
        batch = {"label": jnp.asarray(truth[rows]), "real": jnp.asarray(real)}
        state = metric.fold(state, observe({"label": jnp.asarray(predicted[rows])}, batch))
    return metric.result(state)


def test_matrix_counts_every_pixel_once():
    predicted, truth = example()
    predicted[0, :2] = VOID
    expected = np.zeros((K + 1, K + 1), int)
    for t, p in zip(truth.flat, predicted.flat, strict=True):
        expected[K if t == VOID else t, K if p == VOID else p] += 1
    np.testing.assert_array_equal(confusion_matrix(jnp.asarray(predicted), jnp.asarray(truth), K), expected)


@pytest.mark.parametrize("predicts_void", [False, True])
def test_figures_are_those_of_sets_of_pixels(predicts_void):
    predicted, truth = example()
    if predicts_void:
        predicted[np.random.default_rng(1).random(truth.shape) < 0.2] = VOID
    known = truth != VOID
    iou, strict, accuracy, share = {}, {}, {}, {}
    for c in (0, 1, 2, 4):
        p, t = predicted == c, truth == c
        iou[c] = (p & t).sum() / ((p | t) & known).sum()
        strict[c] = (p & t).sum() / (p | t).sum()
        accuracy[c] = (p & t).sum() / t.sum()
        share[c] = t.sum() / known.sum()
    expected = {
        "miou": np.mean(list(iou.values())),
        "miou_void_counted": np.mean(list(strict.values())),
        "pixel_accuracy": (predicted == truth)[known].mean(),
        "mean_accuracy": np.mean(list(accuracy.values())),
        "fw_iou": sum(share[c] * iou[c] for c in iou),
        **{f"iou/{'abcde'[c]}": v for c, v in iou.items()},
    }
    assert evaluate(Confusion(K, tuple("abcde")), predicted, truth, 7) == pytest.approx(expected, rel=1e-12)


def test_batch_size_and_fill_rows_change_nothing():
    predicted, truth = example()
    metric = Confusion(K)
    assert evaluate(metric, predicted, truth, 3) == evaluate(metric, predicted, truth, 4)
    assert evaluate(metric, predicted, truth, 3) == evaluate(metric, predicted, truth, 7)


def test_a_smaller_prediction_is_held_against_the_middle():
    predicted, truth = example()
    small = {"label": jnp.asarray(predicted[:, 2:-2, 3:-3])}
    np.testing.assert_array_equal(
        Confusion(K).observe(small, {"label": jnp.asarray(truth)}),
        confusion_matrix(small["label"], jnp.asarray(truth[:, 2:-2, 3:-3]), K),
    )


def test_iou_is_of_the_split_and_no_mean_of_images():
    # one image is right, one is not: the split's IoU is not the mean of the images'
    truth = np.asarray([[[0, 0, 0, 1]], [[1, 1, 1, 1]]], np.int32)
    predicted = np.asarray([[[0, 0, 0, 1]], [[0, 1, 1, 1]]], np.int32)
    figures = evaluate(Confusion(2), predicted, truth, 1)
    assert figures["iou/0"] == 3 / 4
    assert figures["iou/1"] == 4 / 5
