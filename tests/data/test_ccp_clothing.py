"""Clothing Co-Parsing from a miniature folder, and from the real one."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import sets
from jaxseg.data.sets import ccp_clothing
from jaxseg.errors import BadInput
from tests.shared_data import shared_data

NAMES = ["null", "boots", "coat", "hair", "hat", "skin"]


def photograph(folder, name, label):
    for kind in ("photos", "labels"):
        (folder / kind).mkdir(exist_ok=True)
    Image.fromarray(np.full((*label.shape, 3), 100, np.uint8)).save(folder / "photos" / f"{name}.jpg")
    Image.fromarray(label.astype(np.uint8)).save(folder / "labels" / f"{name}.png")


def prepare(folder):
    sets.prepare("ccp_clothing", source=folder, data_dir=folder / "out")


def test_names_are_gathered_and_numbers_divided_into_splits(tmp_path):
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    for i, name in enumerate(("0004", "0005", "0006")):
        photograph(tmp_path, name, np.asarray([[0, 1, 2], [3, 4, i]]))
    prepare(tmp_path)
    found = {split: sets.open_split("ccp_clothing", split, data_dir=tmp_path / "out") for split in ("train", "val")}
    classes = ccp_clothing.FACTS.classes
    names = [[classes[k] for k in row] for row in found["val"][0]["label"]]
    assert names == [["background", "shoes", "upper"], ["hair", "hat", "upper"]]
    assert [len(split) for split in found.values()] == [1, 1]


def test_what_is_absent_or_of_other_names_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"classes.json is no list of the names of garments"):
        prepare(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps([*NAMES, "kimono"]))
    with pytest.raises(BadInput, match=r"'kimono' is no name of Clothing Co-Parsing"):
        prepare(tmp_path)
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    with pytest.raises(BadInput, match=r"there is no folder .*photos"):
        prepare(tmp_path)
    photograph(tmp_path, "0001", np.full((2, 3), 6))
    with pytest.raises(BadInput, match=r"0001.png: label value 6 is outside 0..5"):
        prepare(tmp_path)


def test_the_real_list_has_a_class_for_every_name():
    table = ccp_clothing.table_of(shared_data("ccp_clothing") / "classes.json")
    assert len(table) == 59
    assert set(table.tolist()) == set(range(11))
