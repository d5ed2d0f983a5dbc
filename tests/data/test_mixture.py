"""Several data sets as one, each with the labels of some tasks."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.data import Data, Mixture, Part, Source
from jaxseg.data.transforms import Canvas, PadTo
from jaxseg.errors import BadInput
from jaxseg.recipe import dump, load
from jaxseg.tasks.depth import Depth
from jaxseg.tasks.multitask import MultiTask
from jaxseg.tasks.semantic import Semantic


class Street:
    """Labels of three classes."""

    classes = ("road", "car", "sky")
    splits = ("train", "val")

    def __init__(self, split):
        self.count = {"train": 4, "val": 2}[split]

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return {"image": np.full((4, 6, 3), i, np.uint8), "label": np.full((4, 6), i % 3, np.uint8)}


class Room(Street):
    """Depth, and two classes of its own."""

    classes = ("wall", "floor")
    keys = ("image", "label", "depth")

    def __init__(self, split):
        self.count = 3

    def __getitem__(self, i):
        depth = np.full((4, 6), 1.0 + i, np.float32)
        return {
            "image": np.full((4, 6, 3), 100 + i, np.uint8),
            "label": np.full((4, 6), i % 2, np.uint8),
            "depth": depth,
        }


STREET, ROOM = "tests.data.test_mixture:Street", "tests.data.test_mixture:Room"
KEYS = ("image", "index", "seg/label", "depth/depth", "rooms/label")


def both(split, times=1, transforms=()):
    street = Part(Source(STREET, split, transforms), ("seg",))
    return Mixture((street, Part(Source(ROOM, split, transforms), ("depth", "rooms"), times)))


def data(**change):
    return replace(Data(train=both("train"), val=both("val"), keys=KEYS), **change)


def first(array):
    """The number of each image of a batch."""
    return array[:, 0, 0, 0].tolist()


def test_every_row_says_which_labels_it_has_and_lacks_nothing():
    (batch,) = data(val=both("val", times=3)).eval_batches(batch_size=5)  # judged once
    assert first(batch["image"]) == [0, 1, 100, 101, 102]
    assert batch["index"].tolist() == [0, 1, 2, 3, 4]
    assert batch["seg/present"].tolist() == [True, True, False, False, False]
    assert batch["depth/present"].tolist() == batch["rooms/present"].tolist() == [False, False, True, True, True]
    assert batch["seg/label"][:, 0, 0].tolist() == [0, 1, 255, 255, 255]
    assert batch["rooms/label"][:, 0, 0].tolist() == [255, 255, 0, 1, 0]
    assert batch["depth/depth"][:, 0, 0].tolist() == [0, 0, 1, 2, 3]
    assert batch["depth/depth_valid"][:, 0, 0].tolist() == [False, False, True, True, True]
    dtypes = {key: array.dtype.name for key, array in batch.items()}
    assert dtypes["seg/label"] == dtypes["rooms/label"] == "int32"
    assert dtypes["depth/depth"] == "float32"


def test_an_epoch_has_every_example_as_often_as_it_is_told_to():
    stream = data(train=both("train", times=2)).train_batches(batch_size=5, seed=0)
    seen = [number for _ in range(2) for number in first(next(stream)["image"])]
    stream.close()
    assert sorted(seen) == [0, 1, 2, 3, *sorted([100, 101, 102] * 2)]
    assert seen != sorted(seen)


def test_the_stream_goes_on_where_it_was_and_is_the_same_over_processes():
    whole = data().train_batches(batch_size=4, seed=3)
    wanted = [first(next(whole)["image"]) for _ in range(5)]
    whole.close()
    halves = [data().train_batches(batch_size=2, seed=3, shard=(i, 2)) for i in (0, 1)]
    for half in halves:
        half.set_state({"batches": 3})
    found = [first(next(half)["image"]) for half in halves]
    assert [number for pair in zip(*found, strict=True) for number in pair] == wanted[3]
    for half in halves:
        half.close()


def test_tasks_learn_from_and_are_judged_by_their_own_rows():
    task = MultiTask({"seg": Semantic(3), "depth": Depth(), "rooms": Semantic(2)})
    task.check_facts(data().facts())
    (batch,) = data().eval_batches(batch_size=5)
    batch = {key: jnp.asarray(array) for key, array in batch.items()}
    logits = {"seg/logits": jnp.zeros((5, 4, 6, 3)), "rooms/logits": jnp.zeros((5, 4, 6, 2))}
    terms = task.loss({**logits, "depth/depth": jnp.full((5, 4, 6), 2.0)}, batch)
    assert float(terms["seg/cross_entropy"].count) == 2 * 24
    assert float(terms["rooms/cross_entropy"].count) == 3 * 24
    assert float(terms["depth/scale_invariant"].count) == 3


def test_classes_of_a_task_are_those_of_its_data_set():
    facts = data().facts()
    assert facts.tables == {"seg": ("road", "car", "sky"), "depth": ("wall", "floor"), "rooms": ("wall", "floor")}
    with pytest.raises(BadInput, match=r"rooms"):
        MultiTask({"rooms": Semantic(3)}).check_facts(facts)


def test_other_splits_and_transforms_are_those_of_every_data_set():
    padded = data(val=both("val", transforms=(PadTo(8, 8),)))
    (batch,) = padded.eval_batches(batch_size=7, split="train")
    assert batch["image"].shape == (7, 8, 8, 3)
    assert batch["seg/label"].shape == batch["depth/depth"].shape == (7, 8, 8)
    (one,) = padded.eval_examples([3], split="val")
    assert first(one["image"]) == [101]


def test_a_recipe_keeps_it():
    assert load(dump(data())) == data()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: data(keys=("image", "sky/label")).eval_batches(batch_size=1), r"'sky'.*seg"),
        (lambda: Mixture(()), r"here there are no data sets"),
        (lambda: Mixture((Part(Source(ROOM, "train"), ()),)), r"of '.*Room' that is not so"),
        (lambda: both("train", times=0), r"of '.*Room' that is not so"),
        (lambda: data(keys=("image", "seg/depth")).eval_batches(batch_size=1), r"depth"),
        (
            lambda: data(
                val=Mixture(
                    (
                        Part(Source(STREET, "val", (Canvas(((8, 8),)),)), ("seg",)),
                        Part(Source(ROOM, "val"), ("depth", "rooms")),
                    )
                )
            ).eval_batches(batch_size=1),
            r"different canvases",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(change, words):
    with pytest.raises(BadInput, match=words):
        list(change() or ())
