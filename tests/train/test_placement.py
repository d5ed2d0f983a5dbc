"""The three placements compute the same numbers; devices appear nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from jaxseg.errors import BadInput
from jaxseg.tasks.semantic import Semantic
from jaxseg.train import state as states
from jaxseg.train.evaluate import evaluate
from jaxseg.train.optim import SGD
from jaxseg.train.placement import by_name, fill, replicated, sharded, single
from jaxseg.types import DATA_AXIS
from tests.train.toys import CLASSES, Net, Toy

TASK = Semantic(num_classes=CLASSES)
STEPS = 5
IMAGE = jnp.zeros((1, 8, 8, 3), jnp.uint8)


def grid():
    """Two devices along the batch, two along the rows of the images."""
    return sharded(Mesh(np.array(jax.devices()[:4]).reshape(2, 2), (DATA_AXIS, "h")))


PLACEMENTS = {"single": single, "sharded": sharded, "replicated": replicated, "rows too": grid}


def trained(placement, *, accumulate=1):
    """State and metrics after five steps on batches with void pixels and a row that is not real."""
    model, tx = Net(), SGD(0.05, weight_decay=1e-3).build(STEPS)
    batches = Toy().train_batches(batch_size=8, seed=3)
    given = [next(batches) for _ in range(STEPS)]
    given[-1]["real"][-3:] = False
    state = placement.put(states.create(jax.random.key(1), model, TASK, tx, given[0], ema=True))
    step = placement.train_step(model, TASK, tx, accumulate=accumulate, ema=0.9)
    metrics = []
    for batch in given:
        state, seen = step(state, placement.batch(batch))
        metrics.append(placement.fetch(seen))
    return placement.fetch(state), metrics


@pytest.fixture(scope="module")
def reference():
    return {accumulate: trained(single(), accumulate=accumulate) for accumulate in (1, 2)}


@pytest.mark.parametrize(
    ("name", "accumulate"), [("sharded", 1), ("replicated", 1), ("replicated", 2), ("sharded", 2), ("rows too", 1)]
)
def test_five_steps_end_in_the_same_place(reference, name, accumulate):
    assert len(jax.devices()) >= 4
    state, metrics = trained(PLACEMENTS[name](), accumulate=accumulate)
    known, told = reference[accumulate]
    assert state.model_state["batch_stats"]
    start = Net().init(jax.random.key(0), IMAGE)["batch_stats"]
    moved = jax.tree.map(lambda a, b: np.abs(a - np.asarray(b)).max(), state.model_state["batch_stats"], start)
    assert min(jax.tree.leaves(moved)) > 1e-3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, known)
    for seen, expected in zip(metrics, told, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), seen, expected)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_fetched_values_outlive_the_state_that_is_given_up(name):
    placement = PLACEMENTS[name]()
    tree = {"a": np.arange(12, dtype=np.float32).reshape(3, 4)}
    placed = placement.put(tree)
    fetched = placement.fetch(placed)
    double = jax.jit(lambda t: jax.tree.map(lambda x: 2 * x, t), donate_argnums=0)
    double(placed)
    np.testing.assert_array_equal(fetched["a"], tree["a"])
    fetched["a"][:] = 0  # its own memory, to write as one likes


@pytest.mark.parametrize("name", PLACEMENTS)
def test_metrics_do_not_depend_on_the_batch_size(name):
    model = Net()
    variables = model.init(jax.random.key(0), IMAGE)
    placement, toy = PLACEMENTS[name](), Toy(images=7)
    figures = [
        evaluate(model, variables, TASK, toy.eval_batches(batch_size=size), placement=placement) for size in (3, 4, 7)
    ]
    assert figures[0] == figures[1] == figures[2]
    assert figures[0] == evaluate(model, variables, TASK, toy.eval_batches(batch_size=1))
    assert 0 < figures[0]["miou"] < 1


def test_evaluation_tells_how_far_it_is():
    model, told = Net(), []
    variables = model.init(jax.random.key(0), IMAGE)
    evaluate(model, variables, TASK, Toy().eval_batches(batch_size=3), on_batch=told.append)
    assert told == [1, 2, 3]


def test_filling_repeats_the_first_row_as_unreal():
    batch = {"image": np.arange(3), "real": np.array([True, True, False])}
    filled = fill(batch, 4)
    np.testing.assert_array_equal(filled["image"], [0, 1, 2, 0])
    np.testing.assert_array_equal(filled["real"], [True, True, False, False])
    np.testing.assert_array_equal(fill({"image": np.arange(2)}, 2)["real"], [True, True])


@pytest.mark.parametrize("name", ["sharded", "replicated"])
def test_training_refuses_a_batch_that_cannot_be_dealt_out(name):
    with pytest.raises(BadInput, match="a batch of 6 does not divide among 4 devices; 4 or 8 would"):
        by_name(name).batch({"image": np.zeros((6, 2, 2, 3), np.uint8)})


def test_mistakes_are_told():
    with pytest.raises(BadInput, match=r"no placement is called 'shard'.*'sharded'"):
        by_name("shard")
    with pytest.raises(BadInput, match="needs one called 'data'"):
        sharded(Mesh(np.array(jax.devices()[:2]), ("model",)))


def test_arrays_are_spread_by_the_letters_of_their_axes():
    """Rows of maps over "h", slots of objects never, whatever their number of axes."""
    batch = {
        "image": np.zeros((4, 8, 6, 3), np.uint8),
        "boxes": np.zeros((4, 2, 4), np.float32),
        "keypoints": np.zeros((4, 2, 5, 3), np.float32),
        "parts/label": np.zeros((4, 8, 6), np.int32),
        "depth": np.zeros((4, 7, 6), np.float32),
        "own": np.zeros((4, 8), np.float32),
    }
    placed = grid().batch(batch)
    specs = {name: tuple(value.sharding.spec) for name, value in placed.items()}
    assert specs == {
        "image": ("data", "h", None, None),
        "boxes": ("data", None, None),
        "keypoints": ("data", None, None, None),
        "parts/label": ("data", "h", None),
        "depth": ("data", None, None),
        "own": ("data",),
    }
