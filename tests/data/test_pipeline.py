"""The stream of batches: the same however it is made, resumable anywhere, shared out among processes."""

import dataclasses
import json
import tempfile
import time

import numpy as np
import pytest

from jaxseg.data import Data, Source, pipeline, records
from jaxseg.data import transforms as T  # noqa: N812
from jaxseg.data.pipeline import EvalBatches
from jaxseg.data.sets import scenes
from jaxseg.errors import BadInput
from jaxseg.types import BATCH

OPTIONS = (("size", 16), ("train", 7), ("val", 5))
AUGMENT = (T.RandomFlip(), T.RandomScale(0.8, 1.2), T.RandomCrop(16, 16), T.Photometric(brightness=0.3))
DATA = Data(
    train=Source("scenes", "train", AUGMENT, OPTIONS),
    val=Source("scenes", "val", (), OPTIONS),
    keys=("image", "label"),
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def stream(data_dir, count, data=DATA, **options):
    batches = data.train_batches(**{"batch_size": 3, "seed": 1, "data_dir": data_dir, **options})
    taken = [next(batches) for _ in range(count)]
    batches.close()
    return taken


def equal(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert np.array_equal(one[key], other[key]), key


def numbers(data_dir, data, rows):
    """Which scenes these untransformed rows are."""
    split = data.train.split
    known = {scenes.scene(split, i, 16, 16)["image"].tobytes(): i for i in range(7)}
    return [known[row.tobytes()] for row in rows]


def test_batches_are_full_and_of_the_vocabulary(data_dir):
    for batch in stream(data_dir, 5):
        assert set(batch) == {"image", "label", "real"}
        for key, array in batch.items():
            assert array.dtype == np.dtype(BATCH[key].dtypes[0])
            assert len(array) == 3
        assert batch["real"].all()


def test_batches_of_one_are_the_same_stream(data_dir):
    rows = np.concatenate([batch["image"] for batch in stream(data_dir, 3)])
    ones = [batch["image"] for batch in stream(data_dir, 9, batch_size=1)]
    assert np.array_equal(rows, np.concatenate(ones))


def test_the_seed_decides_order_and_augmentation(data_dir):
    equal(stream(data_dir, 6), stream(data_dir, 6))
    other = stream(data_dir, 6, seed=2)
    assert not all(np.array_equal(a["image"], b["image"]) for a, b in zip(stream(data_dir, 6), other, strict=True))


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_prefetching_changes_nothing(data_dir, prefetch):
    equal(stream(data_dir, 6), stream(data_dir, 6, dataclasses.replace(DATA, prefetch=prefetch)))


def test_workers_change_nothing_and_resume_too(data_dir):
    whole = stream(data_dir, 8)
    batches = dataclasses.replace(DATA, workers=2).train_batches(batch_size=3, seed=1, data_dir=data_dir)
    batches.set_state({"batches": 3})
    equal(whole[3:], [next(batches) for _ in range(5)])
    assert batches.get_state() == {"batches": 8}
    batches.close()


def test_workers_end_at_once_though_nobody_takes_what_they_made(data_dir, tmp_path, monkeypatch):
    """Batches larger than a pipe holds; what lies between the processes goes too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    large = dataclasses.replace(DATA.train, transforms=(T.Resize(256, 256),))
    data = dataclasses.replace(DATA, train=large, workers=1, prefetch=3)
    batches = data.train_batches(batch_size=3, seed=1, data_dir=data_dir)
    next(batches)
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("jaxseg-batches-*/*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # made ahead
    begin = time.monotonic()
    batches.close()
    assert time.monotonic() - begin < 10
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [0, 1, 2, 5, 11])
def test_a_stream_is_taken_up_where_it_was_left(data_dir, at):
    """Mid-epoch too: seven examples in batches of three never end together before batch seven."""
    whole = stream(data_dir, 14)
    batches = DATA.train_batches(batch_size=3, seed=1, data_dir=data_dir)
    for _ in range(at):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    fresh = DATA.train_batches(batch_size=3, seed=1, data_dir=data_dir)
    fresh.set_state(state)
    equal(whole[at:], [next(fresh) for _ in range(14 - at)])
    next(batches)
    batches.set_state(state)
    equal(whole[at : at + 2], [next(batches) for _ in range(2)])
    assert batches.get_state() == {"batches": at + 2}


def test_every_epoch_holds_each_example_once_in_another_order(data_dir):
    plain = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, transforms=()))
    rows = np.concatenate([batch["image"] for batch in stream(data_dir, 14, plain, batch_size=3)])
    seen = numbers(data_dir, plain, rows)
    epochs = [seen[i : i + 7] for i in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 3


def test_an_example_is_augmented_anew_each_time(data_dir):
    only = dataclasses.replace(DATA.train, split="train[:1]")
    rows = np.concatenate([b["image"] for b in stream(data_dir, 3, dataclasses.replace(DATA, train=only))])
    assert len({row.tobytes() for row in rows}) > 5


def test_a_batch_may_be_larger_than_the_data_set(data_dir):
    plain = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, transforms=()))
    (batch,) = stream(data_dir, 1, plain, batch_size=16)
    assert sorted(numbers(data_dir, plain, batch["image"][:7])) == list(range(7))
    assert batch["real"].all()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_out_one_stream(data_dir, processes):
    """What all of them see in one step is what one process with the whole batch sees, augmentation included."""
    whole = stream(data_dir, 4, batch_size=3 * processes)
    shards = [stream(data_dir, 4, shard=(i, processes)) for i in range(processes)]
    for step, batch in enumerate(whole):
        for i in range(processes):
            assert np.array_equal(batch["image"][i::processes], shards[i][step]["image"])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_sees_each_example_once_in_order(data_dir, batch_size, workers):
    if workers and batch_size != 3:
        pytest.skip("processes take seconds to start")
    data = dataclasses.replace(DATA, workers=workers)
    batches = data.eval_batches(batch_size=batch_size, data_dir=data_dir)
    taken = list(batches)
    assert len(taken) == len(batches) == -(-5 // batch_size)
    assert {len(batch["image"]) for batch in taken} == {batch_size}
    rows = np.concatenate([batch["image"][batch["real"]] for batch in taken])
    expected = np.stack([scenes.scene("val", i, 16, 16)["image"] for i in range(5)])
    assert np.array_equal(rows, expected)
    if not workers:
        equal(taken, list(batches))


@pytest.mark.parametrize("processes", [2, 4, 7])
def test_processes_evaluate_equally_many_batches_and_together_everything_once(data_dir, processes):
    shards = [DATA.eval_batches(batch_size=2, data_dir=data_dir, shard=(i, processes)) for i in range(processes)]
    assert len({len(shard) for shard in shards}) == 1
    seen = [row.tobytes() for shard in shards for batch in shard for row in batch["image"][batch["real"]]]
    assert sorted(seen) == sorted(scenes.scene("val", i, 16, 16)["image"].tobytes() for i in range(5))


def test_splits_by_name_slice_and_limit(data_dir):
    def first(**options):
        return next(iter(DATA.eval_batches(batch_size=1, data_dir=data_dir, **options)))["image"][0]

    assert np.array_equal(first(split="train"), scenes.scene("train", 0, 16, 16)["image"])
    assert np.array_equal(first(split="val[2:]"), scenes.scene("val", 2, 16, 16)["image"])
    assert len(DATA.eval_batches(batch_size=2, data_dir=data_dir, limit=3)) == 2
    (spread,) = DATA.eval_batches(batch_size=2, data_dir=data_dir, limit=2)
    assert np.array_equal(spread["image"], [scenes.scene("val", i, 16, 16)["image"] for i in (0, 2)])
    with_test = dataclasses.replace(DATA, test=Source("scenes", "train[3:]", (), OPTIONS))
    batch = next(iter(with_test.eval_batches(batch_size=1, split="test", data_dir=data_dir)))
    assert np.array_equal(batch["image"][0], scenes.scene("train", 3, 16, 16)["image"])


def test_a_missing_split_is_named_with_those_there_are(data_dir):
    with pytest.raises(BadInput, match="no split 'test' as it was prepared; there are: train, val"):
        DATA.eval_batches(batch_size=1, split="test", data_dir=data_dir)
    with pytest.raises(BadInput, match="holds no example"):
        DATA.eval_batches(batch_size=1, split="val[:0]", data_dir=data_dir)
    with pytest.raises(BadInput, match="is not a split nor a slice of one"):
        DATA.eval_batches(batch_size=1, split="val[few]", data_dir=data_dir)


def test_objects_come_in_slots_with_their_masks(data_dir):
    keys = ("image", "boxes", "classes", "instance_ids", "keypoints", "depth", "normal", "panoptic", "crowd")
    data = dataclasses.replace(DATA, keys=keys, slots=12)
    (batch,) = stream(data_dir, 1, data)
    assert set(batch) == {*keys, "valid", "depth_valid", "normal_valid", "real"}
    assert batch["boxes"].shape == (3, 12, 4)
    assert batch["keypoints"].shape == (3, 12, 3, 3)
    assert 0 < batch["valid"].sum() < 36
    assert not batch["boxes"][~batch["valid"]].any()
    assert (np.diff(batch["valid"].astype(int), axis=1) <= 0).all(), "valid slots come first"


def test_of_more_objects_than_slots_the_largest_are_kept_and_it_is_said_once(data_dir):
    data = dataclasses.replace(DATA, keys=("boxes", "instance_ids", "area"), slots=1)
    data = dataclasses.replace(data, train=dataclasses.replace(DATA.train, split="train[1:]", transforms=()))
    whole = stream(data_dir, 2, dataclasses.replace(data, slots=12))
    with pytest.warns(
        UserWarning, match=r"scenes/train\[1:\]\[\d\] has \d objects but slots=1: .* set Data.slots"
    ) as caught:
        few = stream(data_dir, 2, data)
    assert len(caught) == 1
    for rows, one in zip(whole, few, strict=True):
        sides = rows["boxes"][..., 2:] - rows["boxes"][..., :2]
        largest = sides.prod(-1).argmax(1)
        for row, slot in enumerate(largest):
            assert np.array_equal(one["boxes"][row, 0], rows["boxes"][row, slot])
            assert np.array_equal(one["instance_ids"][row] == 1, rows["instance_ids"][row] == slot + 1)
            assert one["area"][row, 0] == (rows["instance_ids"][row] == slot + 1).sum()


def test_images_of_several_sizes_need_padding(data_dir):
    loose = dataclasses.replace(DATA.train, transforms=(T.RandomScale(0.5, 1.0),))
    with pytest.raises(BadInput, match=r"'image' has several shapes in one batch.*PadTo"):
        stream(data_dir, 1, dataclasses.replace(DATA, train=loose))
    padded = dataclasses.replace(loose, transforms=(*loose.transforms, T.PadTo(16, 16)))
    (batch,) = stream(data_dir, 1, dataclasses.replace(DATA, train=padded))
    assert batch["image"].shape == (3, 16, 16, 3)
    assert (batch["label"] == 255).any()


def test_validation_images_of_several_sizes_are_refused_by_their_headers(data_dir, monkeypatch):
    """All sizes count, not those of the first batch alone; what brings them to one size goes through."""
    sizes = np.asarray([(16, 16), (16, 16), (16, 16), (16, 12), (16, 12)])
    monkeypatch.setattr("jaxseg.data.sets.Records.sizes", lambda self: sizes)
    pipeline._check_sizes.cache_clear()  # other tests have read the same images

    def opened(rows, *transforms, split="val"):
        val = dataclasses.replace(DATA.val, split=split, transforms=transforms)
        return dataclasses.replace(DATA, val=val).eval_batches(batch_size=rows, data_dir=data_dir)

    with pytest.raises(BadInput, match=r"scenes/val: .* \(\[2\] is 16x16, \[3\] is 16x12\).*or set eval_batch_size=1"):
        opened(2)
    assert len(opened(3)) == 2, "each batch is of one size"
    for rows, transforms in ((1, ()), (2, (T.PadTo(16, 16),)), (2, (T.Resize(8, 8),)), (2, (T.PadToMultiple(16),))):
        assert len(opened(rows, *transforms)) == -(-5 // rows)


@dataclasses.dataclass(frozen=True)
class Spoil:
    """Puts a class that does not exist into the label."""

    def __call__(self, record, rng):
        return {**record, "label": np.full_like(record["label"], 42)}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_record_stops_the_run_and_is_named(data_dir, workers):
    spoiled = dataclasses.replace(DATA, train=dataclasses.replace(DATA.train, transforms=(Spoil(),)), workers=workers)
    with pytest.raises(BadInput, match=r"scenes/train\[\d\]: 'label' is int32\[16 16\], 42..42, but value 42"):
        stream(data_dir, 1, spoiled)


def test_what_a_transform_misses_is_named(data_dir):
    lacking = dataclasses.replace(
        DATA, keys=("image",), train=Source("scenes", "train", (T.SeparationWeights(),), OPTIONS)
    )
    with pytest.raises(BadInput, match=r"scenes/train\[\d\] has no 'label', which SeparationWeights needs"):
        stream(data_dir, 1, lacking)
    asked = dataclasses.replace(lacking, keys=("image", "weight"))
    (batch,) = stream(data_dir, 1, asked)
    assert set(batch) == {"image", "weight", "real"}


def test_facts_are_those_of_the_data_set():
    assert DATA.facts().classes[3:] == ("sphere", "box", "cylinder", "cone")
    assert len(DATA.facts().palette) == DATA.facts().num_classes == 7


def test_data_are_values():
    assert dataclasses.replace(DATA) == DATA
    assert hash(DATA) == hash(dataclasses.replace(DATA))
    assert all(isinstance(t, T.Transform) for t in DATA.train.transforms)
    assert issubclass(EvalBatches, object)


def test_a_batch_knows_which_examples_it_holds_and_how_large_they_were(data_dir):
    keys = ("image", "index", "size", "original_size", "extent")
    chain = (T.ResizeWithin(12, 12), T.CentreCrop(8, 20), T.PadTo(16, 32))
    data = dataclasses.replace(DATA, keys=keys, val=dataclasses.replace(DATA.val, transforms=chain))
    taken = list(data.eval_batches(batch_size=2, data_dir=data_dir))
    assert [batch["index"].tolist() for batch in taken] == [[0, 1], [2, 3], [4, 0]]
    for batch in taken:
        assert {key: batch[key].dtype.name for key in keys[1:]} == {
            "index": "int64",
            "size": "int32",
            "original_size": "int32",
            "extent": "float32",
        }
        assert batch["original_size"].tolist() == [[16, 16]] * 2
        assert batch["size"].tolist() == [[8, 12]] * 2  # 12x12, of which the middle 8 rows, in a canvas of 20 columns
        assert batch["extent"].tolist() == [[4, 0, 16, 8]] * 2


def test_the_size_is_that_of_what_is_image_under_every_transform():
    """Against a map that is true on the image and false on padding."""
    image = {"image": np.zeros((20, 30, 3), np.uint8), "boundary": np.ones((20, 30), bool)}
    image["extent"] = np.asarray([0, 0, 30, 20], np.float32)
    chains = [
        (T.RandomCrop(32, 16),),
        (T.RandomCrop(16, 48), T.RandomFlip(1.0), T.RandomRotate90()),
        (T.MirrorPad(5), T.RandomFlip(1.0), T.CentreCrop(24, 24)),
        (T.PadTo(40, 40), T.RandomCrop(25, 35), T.PadToMultiple(32)),
    ]
    for chain in chains:
        for seed in range(5):
            record, rng = image, np.random.default_rng(seed)
            for transform in chain:
                record = transform(record, rng)
            rows, columns = np.nonzero(record["boundary"])
            expected = [np.ptp(rows) + 1, np.ptp(columns) + 1]
            assert records.to_batch_row(record, keys=("size",), slots=1)["size"].tolist() == expected, chain


def test_a_key_of_a_task_is_its_own_or_else_the_shared_one(data_dir):
    """What ``MultiTask`` reads: the scenes hold one label, and each task may ask for it under its name."""
    keys = ("image", "rooms/label", "rooms/weight", "objects/boxes", "objects/classes", "depth/depth")
    data = dataclasses.replace(DATA, keys=keys, val=dataclasses.replace(DATA.val, transforms=(T.RandomFlip(1.0),)))
    batch = next(iter(data.eval_batches(batch_size=1, data_dir=data_dir)))
    assert set(batch) == {*keys, "objects/valid", "depth/depth_valid", "real"}
    scene = scenes.scene("val", 0, 16, 16)
    np.testing.assert_array_equal(batch["rooms/label"][0], scene["label"][:, ::-1])
    np.testing.assert_array_equal(batch["depth/depth"][0], scene["depth"][:, ::-1])
    assert batch["objects/valid"].sum() == len(scene["boxes"])
    assert (batch["rooms/weight"] == 1).all()


def test_keys_of_a_task_move_with_the_image_and_are_held_to_their_own_table():
    record = {"image": np.zeros((4, 6, 3), np.uint8), "label": np.zeros((4, 6), np.uint8)}
    record["parts/label"] = np.arange(24, dtype=np.uint8).reshape(4, 6)
    record["parts/boxes"] = np.asarray([[0, 0, 2, 4]], np.float32)
    moved = T.PadTo(6, 6)(T.RandomFlip(1.0)(record, np.random.default_rng(0)), np.random.default_rng(0))
    np.testing.assert_array_equal(moved["parts/label"][:4], record["parts/label"][:, ::-1])
    assert (moved["parts/label"][4:] == 255).all()
    assert moved["parts/boxes"].tolist() == [[4, 0, 6, 4]]
    done = records.to_batch_row(moved, keys=("parts/label", "parts/boxes"), slots=2)
    assert done["parts/valid"].tolist() == [True, False]
    records.validate(done, where="x", limits={"classes": 3, "parts/classes": 24})
    with pytest.raises(BadInput, match=r"'parts/label' .* value 23 is neither a class \(0..19\)"):
        records.validate(done, where="x", limits={"classes": 30, "parts/classes": 20})


def test_proposals_have_slots_of_their_own():
    record = {"image": np.zeros((9, 9, 3), np.uint8), "boxes": np.asarray([[0, 0, 2, 4]], np.float32)}
    record["proposals"] = np.asarray([[0, 0, 3, 3], [1, 1, 9, 9]], np.float32)
    done = records.to_batch_row(record, keys=("boxes", "proposals"), slots=1, proposal_slots=5)
    assert done["proposals"].shape == (5, 4)
    assert done["proposal_valid"].tolist() == [True, True, False, False, False]
    with pytest.raises(BadInput, match=r"2 proposals but proposal_slots=1; set Data.proposal_slots to 2 or more"):
        records.to_batch_row(record, keys=("proposals",), slots=1, proposal_slots=1)


def test_an_unknown_key_is_named_with_the_nearest(data_dir):
    with pytest.raises(BadInput, match="'labl' is not a key; did you mean 'label'"):
        stream(data_dir, 1, dataclasses.replace(DATA, keys=("image", "labl")))


def test_values_that_a_type_cannot_hold_are_refused():
    record = {"image": np.zeros((2, 2, 3), np.uint8), "label": np.full((2, 2), 1.5)}
    with pytest.raises(BadInput, match=r"'label' is float64\[2 2\], 1.5..1.5, which does not fit int32"):
        records.to_batch_row(record, keys=("label",), slots=1)
