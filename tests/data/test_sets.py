"""Preparing and opening data sets: offline, atomic, with errors that name the file."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import sets
from jaxseg.data.records import encode_png
from jaxseg.data.sets import camvid, isbi_em, scenes
from jaxseg.errors import BadInput
from tests.shared_data import shared_data

TINY = (("size", (12, 16)), ("train", 3), ("val", 2))


def run(code: str, *arguments, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


@pytest.fixture
def folder(tmp_path):
    """A source folder in CamVid's layout, four images of 6 x 8, one of them a JPEG."""
    rng = np.random.default_rng(0)
    for split, names in {"train": ("b", "a"), "val": ("c", "d")}.items():
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        (tmp_path / f"{split}.txt").write_text("\n".join(names) + "\n\n")
        for name in names:
            image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
            image.save(tmp_path / split / (name + (".jpg" if name == "c" else ".png")))
            label = Image.fromarray(rng.integers(0, 12, (6, 8)).astype(np.uint8))
            if name == "a":
                label = label.convert("L")
                label.putpalette(list(range(256)) * 3)
            label.save(tmp_path / f"{split}annot" / f"{name}.png")
    return tmp_path


def test_the_registry_knows_the_sets_and_offers_the_nearest():
    assert {"camvid", "isbi_em", "scenes"} <= set(sets.list_sets())
    with pytest.raises(BadInput, match="no data set is called 'camvit'; did you mean 'camvid'"):
        sets.find("camvit")


@pytest.mark.parametrize("name", sets.list_sets())
def test_facts_are_complete(name):
    facts = sets.find(name).FACTS
    assert facts.name == name
    assert len(facts.classes) == len(set(facts.classes)) == len(facts.palette)
    assert len(facts.things) == len(set(facts.things)) == len(facts.thing_palette)
    assert facts.summary
    assert facts.licence
    assert facts.source
    for weights in facts.weights.values():
        assert len(weights) == facts.num_classes


def test_scenes_prepare_themselves_once(tmp_path):
    assert not sets.is_prepared("scenes", data_dir=tmp_path, options=TINY)
    found = sets.open_split("scenes", "train", data_dir=tmp_path, options=TINY)
    assert len(found) == 3
    for index in range(3):
        expected = scenes.scene("train", index, 12, 16)
        for key, array in found[index].items():
            assert np.array_equal(array, expected[key]), key
            assert array.dtype == expected[key].dtype, key
        assert set(found[index]) == set(expected)
    assert sets.is_prepared("scenes", data_dir=tmp_path, options=TINY)
    assert not sets.is_prepared("scenes", data_dir=tmp_path)
    path = sets.prepare("scenes", data_dir=tmp_path, options=TINY)
    before = {file: file.stat().st_mtime_ns for file in path.iterdir()}
    sets.prepare("scenes", data_dir=tmp_path, options=TINY)
    assert before == {file: file.stat().st_mtime_ns for file in path.iterdir()}


def test_only_the_keys_asked_for_are_read(tmp_path):
    found = sets.open_split("scenes", "val", keys=("image", "depth"), data_dir=tmp_path, options=TINY)
    assert set(found[1]) == {"image", "depth"}


@pytest.mark.parametrize("option", [("size", 0), ("train", "many"), ("size", (3, 4, 5))])
def test_bad_options_are_named(tmp_path, option):
    with pytest.raises(BadInput, match=f"option '{option[0]}' of data set 'scenes' is .* not a positive whole number"):
        sets.prepare("scenes", data_dir=tmp_path, options=(option,))


def test_unknown_options_offer_the_nearest(tmp_path):
    with pytest.raises(BadInput, match="no option 'sise'; did you mean 'size'"):
        sets.prepare("scenes", data_dir=tmp_path, options=(("sise", 3),))


def test_neither_preparing_nor_reading_imports_a_framework(tmp_path, folder):
    done = run(
        """
        import sys
        from jaxseg.data import sets
        sets.prepare("camvid", source=sys.argv[2], data_dir=sys.argv[1])
        options = (("size", 8), ("train", 2), ("val", 1))
        for name, split, options in (("camvid", "val", ()), ("scenes", "train", options)):
            for record in sets.open_split(name, split, data_dir=sys.argv[1], options=options):
                assert record["image"].ndim == 3
        print(*{"tensorflow", "torch", "jax", "flax"} & sys.modules.keys())
        """,
        tmp_path / "prepared",
        folder,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "", "nothing but results belongs on standard output"


def test_a_killed_preparation_is_never_taken_for_a_finished_one(tmp_path):
    """Killed when one split is written and the other is not yet."""
    code = """
        import sys
        from jaxseg.data import sets
        sets.prepare("scenes", data_dir=sys.argv[1], options=(("size", 16), ("train", 2), ("val", 4000)))
    """
    options = (("size", 16), ("train", 2), ("val", 4000))
    started = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stderr=subprocess.DEVNULL)
    written = []
    while not written and started.poll() is None:
        written = list(tmp_path.rglob("scenes-train*"))
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "it was still at work"
    assert written
    assert not sets.is_prepared("scenes", data_dir=tmp_path, options=options)
    few = (("size", 16), ("train", 2), ("val", 2))
    assert len(sets.open_split("scenes", "val", data_dir=tmp_path, options=few)) == 2
    assert not sets.is_prepared("scenes", data_dir=tmp_path, options=options)


def test_camvid_keeps_ids_order_images_and_void(folder, tmp_path):
    sets.prepare("camvid", source=folder, data_dir=tmp_path)
    train = sets.open_split("camvid", "train", data_dir=tmp_path)
    assert len(train) == 2
    for index, name in enumerate(("b", "a")):  # the list's order, not the alphabet's
        label = np.asarray(Image.open(folder / "trainannot" / f"{name}.png"))
        assert np.array_equal(train[index]["image"], np.asarray(Image.open(folder / "train" / f"{name}.png")))
        assert np.array_equal(train[index]["label"], np.where(label == 11, 255, label))
    val = sets.open_split("camvid", "val", data_dir=tmp_path)
    assert np.array_equal(val[0]["image"], np.asarray(Image.open(folder / "val" / "c.jpg")))


def test_camvid_reads_the_lists_of_the_published_repository(folder, tmp_path):
    lines = [f"/SegNet/CamVid/val/{n}.png /SegNet/CamVid/valannot/{n}.png" for n in ("c", "d")]
    (folder / "val.txt").write_text("\n".join(lines))
    sets.prepare("camvid", source=folder, data_dir=tmp_path)
    assert len(sets.open_split("camvid", "val", data_dir=tmp_path)) == 2


def test_a_split_that_is_not_there_is_asked_for_in_vain(folder, tmp_path):
    sets.prepare("camvid", source=folder, data_dir=tmp_path)
    with pytest.raises(BadInput, match=r"'camvid' has no split 'test' as it was prepared; there are: train, val"):
        sets.open_split("camvid", "test", data_dir=tmp_path)


def spoil_value(folder):
    (folder / "trainannot" / "a.png").write_bytes(encode_png(np.full((6, 8), 37, np.uint8)))


def spoil_image(folder):
    (folder / "train" / "a.png").write_text("this is not an image")


def spoil_size(folder):
    (folder / "trainannot" / "a.png").write_bytes(encode_png(np.zeros((6, 9), np.uint8)))


def spoil_missing(folder):
    (folder / "train" / "a.png").unlink()


def spoil_colour(folder):
    (folder / "trainannot" / "a.png").write_bytes(encode_png(np.zeros((6, 8, 3), np.uint8)))


def spoil_grey(folder):
    (folder / "train" / "a.png").write_bytes(encode_png(np.zeros((6, 8), np.uint8)))


def spoil_folder(folder):
    for file in (folder / "valannot").iterdir():
        file.unlink()
    (folder / "valannot").rmdir()


def spoil_all(folder):
    for split in ("train", "val"):
        (folder / f"{split}.txt").unlink()
        (folder / split).rename(folder / f"was_{split}")
        (folder / f"{split}annot").rename(folder / f"was_{split}annot")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_value, "a.png: label value 37 is outside 0..11"),
        (spoil_image, "train/a.png is not an image"),
        (spoil_size, "a.png is 8x6 but its label is 9x6"),
        (spoil_missing, "train/a is listed but there is no such file"),
        (spoil_colour, "trainannot/a.png is not a map of one 8-bit class number"),
        (spoil_grey, "a.png is an image of mode L, not RGB"),
        (spoil_folder, "split 'val' of .* is incomplete: valannot absent"),
        (spoil_all, "holds none of train.txt, val.txt, test.txt"),
    ],
)
def test_bad_sources_are_named_and_leave_nothing_behind(folder, tmp_path_factory, spoil, message):
    spoil(folder)
    data_dir = tmp_path_factory.mktemp("prepared")
    with pytest.raises(BadInput, match=message) as caught:
        sets.prepare("camvid", source=folder, data_dir=data_dir)
    assert "\n" not in str(caught.value)
    assert not sets.is_prepared("camvid", data_dir=data_dir)


def test_sets_that_need_a_folder_say_how_to_prepare_them(tmp_path):
    with pytest.raises(BadInput, match="jaxseg data prepare camvid --source DIR"):
        sets.open_split("camvid", "train", data_dir=tmp_path)
    with pytest.raises(BadInput, match="jaxseg data prepare isbi_em --source DIR"):
        sets.prepare("isbi_em", data_dir=tmp_path)
    with pytest.raises(BadInput, match=r"source folder .* does not exist"):
        sets.prepare("camvid", source=tmp_path / "nowhere", data_dir=tmp_path)


@pytest.fixture
def slices(tmp_path):
    for part in ("train/image", "train/label", "test/image"):
        (tmp_path / part).mkdir(parents=True)
    for number in range(6):
        grey = np.full((5, 5), 40 * number, np.uint8)
        (tmp_path / "train" / "image" / f"{number}.png").write_bytes(encode_png(grey))
        label = np.eye(5, dtype=np.uint8) * (255 if number % 2 else 1)
        (tmp_path / "train" / "label" / f"{number}.png").write_bytes(encode_png(label))
    (tmp_path / "test" / "image" / "10.png").write_bytes(encode_png(np.full((5, 5), 7, np.uint8)))
    return tmp_path


def test_isbi_takes_the_last_four_for_validation(slices, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("prepared")
    sets.prepare("isbi_em", source=slices, data_dir=data_dir)
    found = {split: sets.open_split("isbi_em", split, data_dir=data_dir) for split in ("train", "val", "test")}
    assert [int(record["image"][0, 0, 0]) for record in found["train"]] == [0, 40]
    assert [int(record["image"][0, 0, 0]) for record in found["val"]] == [80, 120, 160, 200]
    for split in ("train", "val"):
        for record in found[split]:
            assert np.array_equal(record["label"], np.eye(5))
            assert record["image"].shape == (5, 5, 3)
    assert (found["test"][0]["label"] == 255).all()


def test_isbi_names_a_bad_label(slices, tmp_path_factory):
    (slices / "train" / "label" / "2.png").write_bytes(encode_png(np.full((5, 5), 3, np.uint8)))
    with pytest.raises(BadInput, match=r"2\.png: label value 3 is neither 0"):
        sets.prepare("isbi_em", source=slices, data_dir=tmp_path_factory.mktemp("prepared"))


def test_camvid_facts_are_the_published_ones():
    import json

    stats = json.loads((shared_data("camvid") / "stats.json").read_text())
    assert [list(colour) for colour in camvid.FACTS.palette] == stats["palette"][:11]
    assert [name.replace("_", "") for name in camvid.FACTS.classes] == [name.lower() for name in stats["classes"][:11]]
    assert camvid.FACTS.splits["train"] == stats["train"]["n"]
    assert camvid.FACTS.splits["val"] == stats["val"]["n"]
    assert list(camvid.FACTS.fractions) == stats["train"]["fraction"][:11]
    assert list(camvid.FACTS.weights["median_frequency"]) == stats["train"]["median_freq_weight"]


def test_the_real_slices_are_there(tmp_path):
    source = shared_data("isbi_em")
    sets.prepare("isbi_em", source=source, data_dir=tmp_path)
    for split, count in isbi_em.FACTS.splits.items():
        assert len(sets.open_split("isbi_em", split, data_dir=tmp_path)) == count
    record = sets.open_split("isbi_em", "val", data_dir=tmp_path)[0]
    assert record["image"].shape == (512, 512, 3)
    assert 0.6 < (record["label"] == 1).mean() < 0.9, "cells fill most of the image"
