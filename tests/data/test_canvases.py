"""Canvases: every batch of one shape, every example seen, the same batches however they are made."""

import collections
import dataclasses
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets
from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.canvases import CanvasOrder, eval_order
from jaxseg.errors import BadInput
from tests.data.coco_trees import annotation

SHAPES = [(8, 12)] * 7 + [(12, 8)] * 4 + [(10, 10)] + [(7, 12)] * 2
"""Of image 0, 1, ...; the square one goes on the first canvas."""

CANVASES = ((16, 24), (24, 16))
WIDE = {number for number, (height, width) in enumerate(SHAPES) if height <= width}
OPTIONS = (("json", "all.json"), ("val", 0))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Images of one grey each, by which they are known."""
    folder = tmp_path_factory.mktemp("shapes")
    images, rows = [], []
    for number, (height, width) in enumerate(SHAPES):
        Image.fromarray(np.full((height, width, 3), 10 * number + 5, np.uint8)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        rows.append(annotation(number, number, 1, (1, 1, 3, 2)))
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "square"}]}
    (folder / "all.json").write_text(json.dumps(content))
    sets.prepare("coco", source=folder, data_dir=folder / "prepared", options=OPTIONS)
    return folder / "prepared"


def data(*transforms, **fields):
    source = Source("coco", "train", transforms or (T.Canvas(CANVASES),), OPTIONS)
    return Data(train=source, val=source, keys=("image", "boxes", "index", "size", "original_size"), slots=2, **fields)


def stream(data_dir, count, made=None, batch_size=2, **options):
    batches = (made or data()).train_batches(batch_size=batch_size, seed=3, data_dir=data_dir, **options)
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def equal(some, others):
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[key], other[key]) for key in one)


def test_every_batch_is_of_one_canvas_and_holds_what_it_should(data_dir):
    seen = set()
    for batch in stream(data_dir, 30):
        shape = batch["image"].shape[1:3]
        seen.add(shape)
        for row, number in enumerate(batch["index"]):
            assert (number in WIDE) == (shape == CANVASES[0])
            height, width = SHAPES[number]
            assert batch["original_size"][row].tolist() == batch["size"][row].tolist() == [height, width]
            assert (batch["image"][row, :height, :width] == 10 * number + 5).all()
            assert not batch["image"][row, height:].any()
            assert batch["boxes"][row].tolist() == [[1, 1, 4, 3], [0, 0, 0, 0]]
    assert seen == set(CANVASES)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_all_examples_are_seen_equally_often(data_dir, batch_size):
    """After e epochs each group has made all batches that its examples filled."""
    order = CanvasOrder(np.asarray([0 if number in WIDE else 1 for number in range(14)]), batch_size, 3)
    for epochs in (1, 2, 7):
        count = collections.Counter(order[position] for position in range(order.batches(epochs) * batch_size))
        assert all(epochs - -(-batch_size // 4) <= count[number] <= epochs for number in range(14)), count
        left = sum(epochs - count[number] for number in range(14))
        assert left < 2 * batch_size, "less than a batch of each group"


def test_batches_are_shuffled_anew_each_epoch_and_canvases_alternate(data_dir):
    order = CanvasOrder(np.arange(200) % 2, 5, 0)
    kinds = [order[position] % 2 for position in range(0, 400, 5)]
    assert kinds[:40].count(0) == kinds[40:].count(0) == 20
    assert kinds[:40] != kinds[40:]
    assert 5 < sum(a != b for a, b in itertools.pairwise(kinds[:40])) < 35
    first, second = ([order[p] for p in range(start, start + 200)] for start in (0, 200))
    assert sorted(first) == sorted(second) == list(range(200))
    batches = [{frozenset(epoch[at : at + 5]) for at in range(0, 200, 5)} for epoch in (first, second)]
    assert not batches[0] & batches[1]


def test_the_stream_is_taken_up_from_the_number_of_a_batch(data_dir):
    whole = stream(data_dir, 20)
    batches = data().train_batches(batch_size=2, seed=3, data_dir=data_dir)
    for at in (0, 7, 13):
        batches.set_state({"batches": at})
        equal(whole[at : at + 4], [next(batches) for _ in range(4)])
    batches.close()


def test_workers_change_nothing(data_dir):
    equal(stream(data_dir, 6), stream(data_dir, 6, data(workers=1)))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_out_the_same_batches(data_dir, count):
    whole = stream(data_dir, 12, batch_size=4)
    parts = [stream(data_dir, 12, batch_size=4 // count, shard=(index, count)) for index in range(count)]
    for number, batch in enumerate(whole):
        rows = [parts[row % count][number]["index"][row // count] for row in range(4)]
        assert batch["index"].tolist() == rows


def test_augmentation_differs_between_visits_of_an_example(data_dir):
    made = data(T.Photometric(brightness=0.5), T.Canvas(CANVASES))
    greys = collections.defaultdict(set)
    for batch in stream(data_dir, 40, made):
        for row, number in enumerate(batch["index"]):
            greys[int(number)].add(int(batch["image"][row, 0, 0, 0]))
    assert all(len(found) > 1 for found in greys.values())


@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_sees_each_example_once(data_dir, batch_size, count):
    found, lengths = [], set()
    for index in range(count):
        batches = data().eval_batches(batch_size=batch_size, data_dir=data_dir, shard=(index, count))
        lengths.add(len(batches))
        taken = list(batches)
        assert len(taken) == len(batches)
        for batch in taken:
            assert batch["image"].shape[:3] in {(batch_size, *sides) for sides in CANVASES}
            found += batch["index"][batch["real"]].tolist()
    assert sorted(found) == list(range(14))
    assert len(lengths) == 1


def test_evaluation_of_a_few_spreads_over_the_split(data_dir):
    batches = list(data().eval_batches(batch_size=2, data_dir=data_dir, limit=7))
    assert sorted(n for batch in batches for n in batch["index"][batch["real"]].tolist()) == list(range(0, 14, 2))


def test_one_canvas_alone_is_the_plain_order(data_dir):
    one, padded = data(T.Canvas(((24, 24),))), data(T.PadTo(24, 24))
    equal(stream(data_dir, 9, one), stream(data_dir, 9, padded))


def test_what_scales_near_a_square_does_not_change_the_canvas(data_dir):
    """The image's stored shape decides, though scaling may round a nearly square one to a square."""
    canvas = T.Canvas(((16, 24), (24, 16)))
    record = {"image": np.zeros((9, 9, 3), np.uint8), "original_size": np.asarray([101, 100], np.int32)}
    assert canvas(record, np.random.default_rng(0))["image"].shape == (24, 16, 3)
    del record["original_size"]
    assert canvas(record, np.random.default_rng(0))["image"].shape == (16, 24, 3)


def test_the_canvas_of_an_image_is_where_it_can_be_largest():
    canvas = T.Canvas(((800, 1344), (1344, 800), (1088, 1088)))
    for height, width, expected in [(480, 640, 2), (427, 640, 0), (640, 427, 1), (500, 500, 2), (300, 3000, 0)]:
        chosen = canvas.choose(height, width)
        assert chosen == expected
        fits = [min(rows / height, columns / width) for rows, columns in canvas.sizes]
        assert fits[chosen] == max(fits)


def test_what_does_not_fit_or_cannot_be_a_canvas_is_named(data_dir):
    with pytest.raises(
        BadInput, match=r"coco/train\[\d+\]: an image of 24x36 does not fit the canvas 16x24; scale it before"
    ):
        stream(data_dir, 8, data(T.RandomScale(3, 3), T.Canvas(CANVASES)))
    for sizes in ((), ((0, 8),)):
        with pytest.raises(BadInput, match="Canvas takes heights and widths"):
            T.Canvas(sizes)


def test_sizes_are_found_once_and_kept(data_dir, monkeypatch):
    records = sets.open_split("coco", "train", data_dir=data_dir, options=OPTIONS)
    assert records.sizes().tolist() == [list(shape) for shape in SHAPES]
    monkeypatch.setattr(type(records), "column", None)
    assert records.sizes().tolist() == [list(shape) for shape in SHAPES]
    few = sets.open_split("coco", "train[2:9]", data_dir=data_dir, options=OPTIONS)
    monkeypatch.undo()
    assert few.sizes().tolist() == [list(shape) for shape in SHAPES[2:9]]


def test_the_order_of_one_pass_fills_each_group():
    order, real = eval_order([1, 0, 1, 1], [4, 5, 6, 7], 2)
    assert order.tolist() == [5, 5, 4, 6, 7, 4]
    assert real.tolist() == [True, False, True, True, True, False]


def test_a_canvas_is_a_value_that_recipes_hold():
    canvas = T.Canvas(CANVASES)
    assert canvas == dataclasses.replace(canvas)
    assert hash(canvas) == hash(T.Canvas(CANVASES))
