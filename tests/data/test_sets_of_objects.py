"""Blood cells and nuclei, from miniature folders in their published layouts and from the real ones."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets, voc_xml
from jaxseg.data.origin import Origin
from jaxseg.data.records import encode_png
from jaxseg.data.sets import bccd, nuclei
from jaxseg.errors import BadInput
from tests.shared_data import shared_data

SIZE = (6, 8)


def xml(*objects, size=SIZE):
    """An annotation in VOC's layout; objects are name, xmin, ymin, xmax, ymax."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    parts = [
        f"<object><name>{name}</name><difficult>0</difficult><bndbox>"
        + "".join(f"<{corner}>{value}</{corner}>" for corner, value in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for name, *box in objects
    ]
    stated = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>other.jpg</filename>{stated}{''.join(parts)}</annotation>"


def picture(path, seed=0, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


@pytest.fixture
def cells(tmp_path):
    """Two training images and one of validation; b's second box leaves the image, its third is a click."""
    folder = tmp_path / "cells"
    annotations = {
        "a": xml(("WBC", 1, 1, 8, 6)),
        "b": xml(("RBC", 2, 3, 4, 5), ("Platelets", 5, 0, 12, 4), ("RBC", 3, 3, 3, 3), ("RBC", 9, 1, 11, 4)),
        "c": xml(size=None),
    }
    for i, (name, text) in enumerate(annotations.items()):
        picture(folder / "JPEGImages" / f"{name}.jpg", i)
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    (folder / "train.txt").write_text("b\na\n")
    (folder / "val.txt").write_text("c\n")
    return folder


def prepared(name, folder, where):
    sets.prepare(name, source=folder, data_dir=where)
    return where


def notes(name, where) -> tuple[str, ...]:
    origin = sets.prepared_from(name, data_dir=where)
    assert isinstance(origin, Origin)
    return origin.notes


def test_boxes_of_voc_become_half_open_and_what_is_clipped_or_left_out_is_said(cells, tmp_path):
    where = prepared("bccd", cells, tmp_path / "prepared")
    first, second = sets.open_split("bccd", "train", data_dir=where)
    assert first["boxes"].tolist() == [[1, 2, 4, 5], [4, 0, 8, 4]]
    assert first["classes"].tolist() == [0, 2]
    assert first["area"].tolist() == [9, 16]
    assert second["boxes"].tolist() == [[0, 0, 8, 6]]
    assert second["classes"].tolist() == [1]
    np.testing.assert_array_equal(second["image"], np.asarray(Image.open(cells / "JPEGImages" / "a.jpg")))
    assert notes("bccd", where) == (
        "clipped, boxes that leave their image: b.xml object 2 (Platelets)",
        "left out, boxes without extent: b.xml object 3 (RBC)",
        "left out, boxes outside of their image: b.xml object 4 (RBC)",
    )


def test_an_image_without_objects_goes_into_a_batch(cells, tmp_path):
    where = prepared("bccd", cells, tmp_path / "prepared")
    data = Data(Source("bccd", "train"), Source("bccd", "val"), keys=("image", "boxes", "classes", "area"), slots=3)
    (batch,) = data.eval_batches(batch_size=1, data_dir=where)
    assert batch["boxes"].shape == (1, 3, 4)
    assert not batch["valid"].any()
    assert sets.prepared_splits("bccd", data_dir=where) == {"train": 2, "val": 1}


def test_the_repositorys_own_folders_are_found(cells, tmp_path):
    lists = tmp_path / "repository" / "BCCD" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name in ("train.txt", "val.txt"):
        (cells / name).rename(lists / name)
    (lists / "test.txt").write_text("a\n")
    for name in ("JPEGImages", "Annotations"):
        (cells / name).rename(lists.parents[1] / name)
    where = prepared("bccd", tmp_path / "repository", tmp_path / "prepared")
    assert sets.prepared_splits("bccd", data_dir=where) == {"train": 2, "val": 1, "test": 1}


def test_the_commands_show_things_where_they_show_classes(cells, tmp_path, jaxseg):
    def said(*words):
        done = jaxseg("data", *words, "--data-dir", tmp_path / "prepared")
        assert done.status == 0, done.err
        return done.out

    assert "splits: train 2, val 1\n" in said("prepare", "bccd", "--source", cells)
    shown = said("show", "bccd").splitlines()
    assert any(line.startswith("prepared: train 2, val 1 (in ") for line in shown)
    table = [line.split() for line in shown[-4:]]
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in bccd.FACTS.thing_palette]
    expected = [[str(i), thing, colours[i]] for i, thing in enumerate(("RBC", "WBC", "Platelets"))]
    assert table == [["thing", "name", "colour"], *expected]
    rows = {words[0]: words[1:3] for words in map(str.split, said("list").splitlines()) if words}
    assert rows["name"] == ["classes", "things"]
    assert (rows["bccd"], rows["camvid"], rows["nuclei"]) == (["-", "3"], ["11", "-"], ["2", "1"])
    assert json.loads(said("show", "bccd", "--json"))["things"] == ["RBC", "WBC", "Platelets"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a.xml is no XML that can be read: no element found"),
        ("<annotation><object></annotation>", "a.xml is no XML that can be read: mismatched tag: line 1"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', "a.xml declares a document type"),
        (xml(("RBC", 1, 1, 2, 2), ("RBCs", 1, 1, 2, 2)), "object 2 is of class 'RBCs', .*; did you mean 'RBC'"),
        (xml(("", 1, 1, 2, 2)), "a.xml: object 1 has no name"),
        (xml(("RBC", 1, "", 2, 2)), r"a.xml: object 1 \(RBC\): ymin is '', not a number"),
        (xml(("RBC", 1, 1, "nan", 2)), r"a.xml: object 1 \(RBC\): xmax is 'nan', not a number"),
        ("<annotation><object><name>RBC</name></object></annotation>", r"a.xml: object 1 \(RBC\) has no bndbox"),
        (xml(size=(9, 9)), "a.jpg is 8x6 but its label is 9x9"),
    ],
)
def test_a_broken_annotation_is_named_with_its_object(cells, tmp_path, text, message):
    (cells / "Annotations" / "a.xml").write_text(text)
    with pytest.raises(BadInput, match=message):
        prepared("bccd", cells, tmp_path / "prepared")


def test_an_annotation_too_large_is_not_read(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(voc_xml, "MAX_BYTES", 100)
    with pytest.raises(BadInput, match=r"b.xml has \d+ bytes; such annotations have at most 100"):
        prepared("bccd", cells, tmp_path / "prepared")


def test_an_absent_annotation_or_list_is_named(cells, tmp_path):
    (cells / "Annotations" / "a.xml").unlink()
    with pytest.raises(BadInput, match=r"there is no annotation .*a.xml"):
        prepared("bccd", cells, tmp_path / "prepared")
    with pytest.raises(BadInput, match=r"there is no list .*train.txt nor in ImageSets/Main"):
        prepared("bccd", tmp_path, tmp_path / "prepared")


IDS = np.asarray([[0, 2, 2, 0, 0, 0, 0, 9], [0, 2, 0, 0, 300, 300, 0, 9]], np.uint16)


def merged(folder, names=("n00", "n01", "n02", "n03", "n04", "n05", "n06")):
    entries = []
    for i, name in enumerate(names):
        picture(folder / "images" / f"{name}.png", i, IDS.shape)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{name}.png").write_bytes(encode_png(IDS))
        entries.append({"image": f"{name}.png", "label": f"{name}.png", "nuclei": 3, "kind": "fluor"})
    (folder / "index.json").write_text(json.dumps(entries))
    return folder


def test_nuclei_have_boxes_areas_and_a_label_that_follow_from_their_map(tmp_path):
    where = prepared("nuclei", merged(tmp_path / "source"), tmp_path / "prepared")
    record = sets.open_split("nuclei", "train", data_dir=where)[0]
    np.testing.assert_array_equal(record["instance_ids"], np.searchsorted([0, 2, 9, 300], IDS))
    np.testing.assert_array_equal(record["label"], IDS > 0)
    assert record["boxes"].tolist() == [[1, 0, 3, 2], [7, 0, 8, 2], [4, 1, 6, 2]]
    assert record["area"].tolist() == [3, 2, 2]
    assert record["classes"].tolist() == [0, 0, 0]


def test_the_split_of_nuclei_follows_from_the_name_alone(tmp_path):
    names = [f"n{i:02}" for i in range(7)]
    val = [name for name in names if nuclei.split_of(name) == "val"]
    assert 0 < len(val) < len(names)
    some = prepared("nuclei", merged(tmp_path / "some", (val[0], "n99")), tmp_path / "prepared some")
    everything = prepared("nuclei", merged(tmp_path / "all", names), tmp_path / "prepared all")
    assert sets.prepared_splits("nuclei", data_dir=some) == {"train": 1, "val": 1}
    assert sets.prepared_splits("nuclei", data_dir=everything) == {"train": 7 - len(val), "val": len(val)}
    many = [nuclei.split_of(f"{i:012x}") for i in range(20_000)]
    assert 0.19 < many.count("val") / len(many) < 0.21


def test_published_masks_give_the_merged_map_and_overlaps_are_said(tmp_path):
    """The smaller of two nuclei that overlap is in front; a mask without a pixel is left out."""
    folder = tmp_path / "source" / "stage1_train" / "0123456789abcdef"
    picture(folder / "images" / f"{folder.name}.png", 0, SIZE)
    (folder / "masks").mkdir()
    large, small, none = (np.zeros(SIZE, np.uint8) for _ in range(3))
    large[1:5, 1:6], small[4:6, 5:7] = 255, 255
    for name, mask in (("a", small), ("b", large), ("c", none)):
        (folder / "masks" / f"{name}.png").write_bytes(encode_png(mask))
    where = prepared("nuclei", tmp_path / "source", tmp_path / "prepared")
    record = sets.open_split("nuclei", nuclei.split_of("0123456789ab"), data_dir=where)[0]
    expected = np.where(small > 0, 1, np.where(large > 0, 2, 0))
    np.testing.assert_array_equal(record["instance_ids"], expected)
    assert record["boxes"].tolist() == [[5, 4, 7, 6], [1, 1, 6, 5]]
    assert notes("nuclei", where) == (
        "masks that overlap; the smaller nucleus keeps the pixels: 0123456789ab/a.png",
        "left out, masks without a pixel: 0123456789ab/c.png",
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "index.json").write_text("{}"), "index.json lists no image"),
        (lambda f: (f / "index.json").write_text("[1]"), "index.json is no list of entries"),
        (lambda f: (f / "index.json").write_text('[{"image": "n00.png"}]'), "the entry of n00 has no 'label'"),
        (lambda f: (f / "labels" / "n03.png").write_bytes(encode_png(IDS[:1])), "n03.png numbers 2 nuclei, .* says 3"),
        (lambda f: (f / "images" / "n04.png").unlink(), "there is no file .*n04.png"),
        (lambda f: (f / "index.json").unlink(), "holds neither stage1_train/ID/images nor index.json"),
    ],
)
def test_broken_nuclei_are_named(tmp_path, spoil, message):
    folder = merged(tmp_path / "source")
    spoil(folder)
    with pytest.raises(BadInput, match=message):
        prepared("nuclei", folder, tmp_path / "prepared")


def test_an_image_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(BadInput, match="two images whose names begin with 'n0'"):
        prepared("nuclei", merged(tmp_path / "source", ("n0", "n0")), tmp_path / "prepared")


def test_the_real_blood_cells_have_their_published_numbers(tmp_path):
    where = prepared("bccd", shared_data("bccd"), tmp_path)
    for split, images, counts in (("train", 205, (2381, 214, 209)), ("val", 87, (967, 87, 83))):
        records = sets.open_split("bccd", split, keys=("classes",), data_dir=where)
        classes = np.concatenate([record["classes"] for record in records])
        assert len(records) == images
        assert tuple(np.bincount(classes)) == counts  # one box of each split has no extent
    assert len(notes("bccd", where)) == 1
