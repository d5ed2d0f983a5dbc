import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.losses import CrossEntropy, Dice, Lovasz
from jaxseg.metrics import Confusion, Rand, Warping
from jaxseg.recipe import dump, load
from jaxseg.tasks.protocol import Metric, Task
from jaxseg.tasks.semantic import Semantic
from jaxseg.types import VOID

K = 4


def example(rows=3, size=(6, 7)):
    rng = np.random.default_rng(0)
    label = rng.choice([*range(K), VOID], (rows, *size)).astype(np.int32)
    logits = rng.normal(size=(rows, *size, K)).astype(np.float32)
    return {"logits": jnp.asarray(logits)}, {"label": jnp.asarray(label)}


def test_is_a_task_and_a_value():
    task = Semantic(K, losses=(CrossEntropy((1.0, 2.0, 3.0, 4.0)), Dice(0.5)), classes=tuple("abcd"))
    assert isinstance(task, Task)
    assert all(isinstance(metric, Metric) for metric in task.metrics().values())
    assert hash(task) == hash(Semantic(K, (CrossEntropy((1.0, 2.0, 3.0, 4.0)), Dice(0.5)), classes=tuple("abcd")))


def test_extra_metrics_are_measured_beside_the_usual_ones_each_once():
    task = Semantic(2, extra_metrics=(Rand(), Warping(thresholds=(0.5,))))
    assert list(task.metrics()) == ["confusion", "boundary", "Rand", "Warping"]
    assert all(isinstance(metric, Metric) for metric in task.metrics().values())
    assert load(dump(task)) == task
    for extra in ((Rand(), Rand(thresholds=(0.5,))), (Confusion(2),)):
        with pytest.raises(BadInput, match="each once"):
            Semantic(2, extra_metrics=extra)


def test_rows_that_are_not_real_add_nothing_even_if_they_are_not_numbers():
    outputs, batch = example()
    task = Semantic(K, losses=(CrossEntropy(), Lovasz()))
    two = task.loss({"logits": outputs["logits"][:2]}, {"label": batch["label"][:2]})
    filled = {"logits": outputs["logits"].at[2].set(jnp.nan)}
    three = task.loss(filled, {**batch, "real": jnp.asarray([True, True, False])})
    for name in two:
        np.testing.assert_allclose(three[name].sum, two[name].sum, rtol=1e-6)
        assert three[name].count == two[name].count


def test_smaller_logits_are_held_against_the_middle_of_label_and_weight():
    outputs, batch = example(size=(8, 9))
    weight = jnp.asarray(np.random.default_rng(1).random(batch["label"].shape), jnp.float32)
    inner = {"logits": outputs["logits"][:, 2:-2, 1:-2]}
    got = Semantic(K).loss(inner, {**batch, "weight": weight})["cross_entropy"]
    cut = {"label": batch["label"][:, 2:-2, 1:-2], "weight": weight[:, 2:-2, 1:-2]}
    expected = Semantic(K).loss(inner, cut)["cross_entropy"]
    assert (got.sum, got.count) == (expected.sum, expected.count)


def test_logits_larger_than_the_label_are_refused():
    outputs, batch = example()
    with pytest.raises(BadInput, match="must not be smaller"):
        Semantic(K).loss(outputs, {"label": batch["label"][:, 1:]})


def test_auxiliary_logits_get_the_first_loss_at_their_weight():
    outputs, batch = example()
    task = Semantic(K, losses=(CrossEntropy(weight=2.0), Dice()), aux_weight=0.25)
    terms = task.loss({**outputs, "aux_logits": outputs["logits"]}, batch)
    assert set(terms) == {"cross_entropy", "dice", "aux_cross_entropy"}
    assert terms["aux_cross_entropy"].weight == 0.5
    assert terms["aux_cross_entropy"].sum == terms["cross_entropy"].sum
    assert set(task.loss(outputs, batch)) == {"cross_entropy", "dice"}


def test_prediction_is_the_most_probable_class():
    outputs, _ = example()
    found = jax.jit(Semantic(K).predict)(outputs, {})
    np.testing.assert_array_equal(found["label"], np.asarray(outputs["logits"]).argmax(-1))
    np.testing.assert_allclose(found["probability"].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(found["probability"].argmax(-1), found["label"])


def test_void_can_be_a_class_of_the_network():
    """The last of one output more: learnt where the truth is void, and what it wins is void."""
    outputs, batch = example()
    task, plain = Semantic(K - 1, void_is_class=True), Semantic(K)
    assert task.num_outputs == plain.num_outputs == K
    of_class = jnp.where(batch["label"] == VOID, K - 1, jnp.where(batch["label"] == K - 1, 0, batch["label"]))
    void = {"label": jnp.where(of_class == K - 1, VOID, of_class)}
    assert task.loss(outputs, void) == plain.loss(outputs, {"label": of_class})
    label = plain.predict(outputs, {})["label"]
    np.testing.assert_array_equal(task.predict(outputs, {})["label"], np.where(label == K - 1, VOID, label))


def test_metrics_have_names_of_their_own():
    outputs, batch = example()
    task = Semantic(K, classes=tuple("abcd"))
    predictions = task.predict(outputs, batch)
    names = [
        name
        for metric in task.metrics().values()
        for name in metric.result(metric.fold(metric.init(), metric.observe(predictions, batch)))
    ]
    assert len(names) == len(set(names))
    expected = {"miou", "miou_void_counted", "pixel_accuracy", "mean_accuracy", "fw_iou", "boundary_f1"}
    assert set(names) == expected | {f"iou/{c}" for c in "abcd"}


def test_wrong_settings_are_refused():
    with pytest.raises(BadInput, match="each of another kind"):
        Semantic(K, losses=(Dice(), Dice()))
    with pytest.raises(BadInput, match="2 class names for 4 classes"):
        Semantic(K, classes=("a", "b"))
