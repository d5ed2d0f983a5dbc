"""Each loss alone teaches a tiny network four drawn images: a wrong sign or mask, unseen by shape tests, fails here."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.losses import CrossEntropy, Dice, Focal, Lovasz, Ohem, inverse_log
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.semantic import Semantic
from jaxseg.train.optim import Adam
from jaxseg.types import VOID

CLASSES = ("ground", "disc", "square")
SIZE = 32


class Tiny(nn.Module):
    """Three convolutions that see 15 pixels; a head for each task."""

    heads: tuple[tuple[str, int], ...] = (("logits", 3),)

    @nn.compact
    def __call__(self, image: Any) -> dict[str, Any]:
        x = image.astype(jnp.float32) / 127.5 - 1.0
        for i in range(3):
            x = nn.relu(nn.Conv(16, (3, 3), kernel_dilation=2**i, name=f"conv{i}")(x))
        return {name: nn.Conv(k, (1, 1), name=name.replace("/", "_"))(x) for name, k in self.heads}


def drawn(rows=4):
    """Discs and squares of one colour on noise, so that form must tell them apart; a void rim around the discs."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    image = rng.integers(0, 120, (rows, SIZE, SIZE, 3))
    label = np.zeros((rows, SIZE, SIZE), np.int32)
    for i in range(rows):
        y, x = rng.integers(8, 24, 2)
        square = (abs(yy - y) <= 4) & (abs(xx - x) <= 4)
        y, x = (y + 16) % SIZE, (x + 16) % SIZE
        away = np.hypot((yy - y), (xx - x))
        image[i][square | (away <= 5)] = (230, 180, 60)
        label[i][(away > 5) & (away < 6.5)] = VOID
        label[i][square], label[i][away <= 5] = 2, 1
    return {"image": jnp.asarray(image.astype(np.uint8)), "label": jnp.asarray(label)}


def overfit(model, task, batch, steps=120, rate=1e-2):
    """The task's figures on the batch that was learnt by heart; ``real`` is honoured on the way."""
    variables = model.init(jax.random.key(0), batch["image"])
    tx = Adam(rate).build(steps)

    def loss(params):
        terms = task.loss(model.apply(params, **task.inputs(batch, train=True)), batch)
        return sum(term.weight * term.sum / jnp.maximum(term.count, 1.0) for term in terms.values())

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = tx.init(variables)
    for _ in range(steps):
        variables, state = step(variables, state)
    return figures_of(task, model, variables, batch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def observed(task, model, variables, batch):
    predictions = task.predict(model.apply(variables, batch["image"]), batch)
    return {name: metric.observe(predictions, batch) for name, metric in task.metrics().items()}


def figures_of(task, model, variables, batch):
    seen = observed(task, model, variables, batch)
    figures = {}
    for name, metric in task.metrics().items():
        figures.update(metric.result(metric.fold(metric.init(), seen[name])))
    return figures


PIXELS = tuple(int(n) for n in np.bincount(np.asarray(drawn()["label"]).ravel(), minlength=256)[:3])


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropy(),
        CrossEntropy(weights=inverse_log(PIXELS), normalize="weights"),
        Focal(),
        Dice(),
        pytest.param(Lovasz(), marks=pytest.mark.slow),
        Ohem(),
    ],
    ids=lambda loss: f"{loss.name}{'_weighted' * bool(getattr(loss, 'weights', ()))}",
)
def test_every_loss_alone_learns_four_images(loss):
    figures = overfit(Tiny(), Semantic(3, losses=(loss,), classes=CLASSES), drawn())
    assert figures["miou"] > 0.9, figures
    assert figures["boundary_f1"] > 0.8


def test_void_pixels_teach_nothing():
    """With every disc void the network never learns the word for it."""
    batch = drawn()
    silent = {**batch, "label": jnp.where(batch["label"] == 1, VOID, batch["label"])}
    figures = overfit(Tiny(), Semantic(3, classes=CLASSES), silent)
    assert figures["miou"] > 0.9
    assert "iou/disc" not in figures


def test_two_tasks_learn_from_half_the_rows_each():
    batch = drawn(rows=4)
    batch["binary/label"] = (batch["label"] > 0).astype(jnp.int32)
    batch["binary/present"] = jnp.asarray([True, True, False, False])
    # where it is absent the label is nonsense, which would be learnt if the mask did not hold
    batch["binary/label"] = batch["binary/label"].at[2:].set(1 - batch["binary/label"][2:])
    batch["shapes/present"] = ~batch["binary/present"]
    task = MultiTask({"shapes": Semantic(3), "binary": Semantic(2, losses=(Dice(),))})
    figures = overfit(Tiny((("logits", 3), ("binary/logits", 2))), task, batch)
    assert figures["shapes/miou"] > 0.9, figures
    assert figures["binary/miou"] > 0.9, figures
