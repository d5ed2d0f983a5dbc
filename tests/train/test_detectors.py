"""Detectors train like any network: the same numbers on every placement, one program for each canvas, nothing on the
host between image and detections, and images without objects are no trouble.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg import registry
from jaxseg.data.records import to_batch_row
from jaxseg.data.sets.scenes import FACTS, scene
from jaxseg.forward import forward
from jaxseg.override import override
from jaxseg.tasks.instance import Instance
from jaxseg.tasks.regions import ProposalLoss
from jaxseg.train import state as states
from jaxseg.train.optim import SGD
from jaxseg.train.placement import replicated, sharded, single
from jaxseg.train.step import make_train_step

THINGS = len(FACTS.things)
TASK = Instance(THINGS, FACTS.things, proposal_loss=ProposalLoss(samples=32))
KEYS = ("image", "boxes", "classes", "valid", "crowd", "instance_ids", "index")
STEPS = 3


def network():
    """Without batch statistics, which depend on how a batch is cut into microbatches."""
    model = registry.create_small("mask_rcnn_resnet50_fpn", num_classes=THINGS)
    return override(model, "samples", 32)


def rooms(rows, size=(64, 64)):
    made = [{**scene("train", i, *size), "index": np.asarray(i, np.int64)} for i in rows]
    batch = [to_batch_row(record, keys=KEYS, slots=8) for record in made]
    return {key: np.stack([row[key] for row in batch]) for key in batch[0]} | {"real": np.ones(len(rows), bool)}


def trained(placement, *, accumulate=1):
    model, tx = network(), SGD(0.02, momentum=0.9).build(STEPS)
    given = [rooms(range(8 * i, 8 * i + 8)) for i in range(STEPS)]
    given[-1]["real"][-3:] = False
    state = placement.put(states.create(jax.random.key(1), model, TASK, tx, given[0]))
    step = placement.train_step(model, TASK, tx, accumulate=accumulate)
    for batch in given:
        state, seen = step(state, placement.batch(batch))
    return placement.fetch(state), placement.fetch(seen)


@pytest.fixture(scope="module")
def alone():
    return trained(single())


@pytest.mark.parametrize(
    ("place", "accumulate"),
    [
        pytest.param(sharded, 1, id="sharded", marks=pytest.mark.slow),
        pytest.param(replicated, 1, id="replicated", marks=pytest.mark.slow),
        pytest.param(single, 2, id="accumulate", marks=pytest.mark.slow),
    ],
)
def test_three_steps_end_in_the_same_place(alone, place, accumulate):
    state, metrics = trained(place(), accumulate=accumulate)
    known, told = alone
    assert float(told["loss/masks"]) > 0.1
    for name, value in told.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4, err_msg=name)
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(state.params), jax.tree.leaves(known.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_nothing_of_a_step_runs_on_the_host_and_no_objects_are_finite():
    model, tx, batch = network(), SGD(0.02).build(STEPS), rooms(range(2))
    batch["valid"][:] = False
    batch["boxes"][:] = 0
    batch["instance_ids"][:] = 0
    state = states.create(jax.random.key(1), model, TASK, tx, batch)
    with jax.numpy_dtype_promotion("standard"):
        compiled = jax.jit(make_train_step(model, TASK, tx)).lower(state, batch).compile()
    text = compiled.as_text()
    assert "while" in text, "the text is that of the program"
    assert "callback" not in text
    assert "outfeed" not in text
    after, told = compiled(state, batch)
    assert all(np.isfinite(float(value)) for value in told.values()), told
    assert float(told["loss/region_classes"]) > 0
    assert float(told["loss/masks"]) == float(told["loss/region_boxes"]) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.params))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after.params, state.params)
    assert max(jax.tree.leaves(moved)) > 0


@pytest.mark.slow
def test_one_program_for_each_canvas_however_many_objects_there_are():
    """Two hundred images of two canvases, with up to a hundred objects each, are trained on and predicted."""
    model, tx, compiled = network(), SGD(0.02).build(STEPS), []
    step, predict = make_train_step(model, TASK, tx), forward(model, TASK)

    def counting(function, name):
        def traced(*arguments):
            compiled.append((name, arguments[-1]["image"].shape[1:3]))
            return function(*arguments)

        return jax.jit(traced)

    update, find = counting(step, "step"), counting(predict, "predict")
    rng, state = np.random.default_rng(0), None
    for i in range(25):
        size = ((64, 96), (96, 64))[i % 2]
        batch = crowded(rng, size, objects=min(4 * i, 100))
        if state is None:
            state = states.create(jax.random.key(1), model, TASK, tx, batch)
        with jax.numpy_dtype_promotion("standard"):
            state, told = update(state, batch)
            found = find({"params": state.params, **state.model_state}, batch)
        assert np.isfinite(float(told["loss"]))
        assert found["masks"].shape == (8, 20, 28, 28)
    assert sorted(compiled) == sorted((name, size) for name in ("step", "predict") for size in ((64, 96), (96, 64)))


def crowded(rng, size, *, objects):
    """Eight images of noise with so many boxes, each with its own pixels."""
    height, width = size
    corner = rng.uniform(0, 0.8, (8, 100, 2)) * (width, height)
    boxes = np.concatenate([corner, corner + rng.uniform(0.05, 0.2, (8, 100, 2)) * (width, height)], -1)
    valid = np.arange(100)[None] < np.full((8, 1), objects)
    return {
        "image": rng.integers(0, 256, (8, height, width, 3), dtype=np.uint8),
        "index": np.arange(8),
        "boxes": np.where(valid[..., None], boxes, 0).astype(np.float32),
        "classes": np.where(valid, rng.integers(0, THINGS, (8, 100)), 0).astype(np.int32),
        "valid": valid,
        "crowd": np.zeros((8, 100), bool),
        "instance_ids": rng.integers(0, objects + 1, (8, height, width), dtype=np.uint16),
        "real": np.ones(8, bool),
    }
