"""PASCAL-Part's people from miniature folders."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxseg.data import sets
from jaxseg.data.sets import pascal_parts
from jaxseg.errors import BadInput

SIZE = (4, 6)


def at(*rows):
    mask = np.zeros(SIZE, np.uint8)
    mask[list(rows)] = 1
    return mask


def structs(rows):
    """A row of MATLAB structs."""
    made = np.zeros((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        made[0, i] = tuple(row.values())
    return made


def of_parts(parts):
    return structs([{"part_name": part, "mask": mask} for part, mask in parts]) if parts else np.zeros((0, 0))


def annotate(folder, name, *things):
    """Write an image, and an annotation of things: class, and pairs of part and map."""
    for kind in ("JPEGImages", "Annotations_Part"):
        (folder / kind).mkdir(exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 100, np.uint8)).save(folder / "JPEGImages" / f"{name}.jpg")
    objects = [
        {
            "class": kind,
            "class_ind": 15.0,
            "mask": at(0),
            "parts": structs([{"part_name": part, "mask": mask} for part, mask in parts])
            if parts
            else np.zeros((0, 0)),
        }
        for kind, parts in things
    ]
    savemat(folder / "Annotations_Part" / f"{name}.mat", {"anno": {"imname": name, "objects": structs(objects)}})


@pytest.fixture
def voc(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2010"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    return folder


def listed(voc, split, *names):
    (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


def prepare(tmp_path):
    sets.prepare("pascal_parts", source=tmp_path, data_dir=tmp_path / "out")


def test_parts_of_people_are_gathered_and_photographs_without_them_left_out(voc, tmp_path):
    annotate(voc, "a", ("person", [("hair", at(0)), ("rhand", at(1))]), ("person", [("luleg", at(3))]))
    annotate(voc, "b", ("dog", [("head", at(0))]), ("person", []))
    annotate(voc, "c", ("dog", [("head", at(0))]), ("person", [("neck", at(2))]))
    listed(voc, "train", "c", "a")
    listed(voc, "val", "a", "b")
    prepare(tmp_path)
    train, val = (sets.open_split("pascal_parts", split, data_dir=tmp_path / "out") for split in ("train", "val"))
    names = [[pascal_parts.FACTS.classes[k] for k in record["label"][:, 0]] for record in (*train, *val)]
    gathered = ["head", "lower_arm", "background", "upper_leg"]
    assert names == [["background", "background", "torso", "background"], gathered, gathered]


def test_vocs_list_of_people_spares_reading_the_others(voc, tmp_path):
    annotate(voc, "a", ("person", [("torso", at(0))]))
    listed(voc, "train", "a", "b")  # b has no annotation
    (voc / "ImageSets" / "Main" / "person_train.txt").write_text("a  1\nb -1\n")
    prepare(tmp_path)
    assert len(sets.open_split("pascal_parts", "train", data_dir=tmp_path / "out")) == 1


def test_every_published_part_has_one_class():
    assert len(pascal_parts.NUMBERS) == sum(map(len, pascal_parts.GATHERED.values())) == 24
    assert set(pascal_parts.NUMBERS.values()) == set(range(1, 7))


def test_what_is_absent_or_of_other_names_is_told(voc, tmp_path):
    with pytest.raises(BadInput, match=r"no folder Annotations_Part in or beside .*VOC2010"):
        prepare(tmp_path)
    annotate(voc, "a", ("person", [("tail", at(0))]))
    with pytest.raises(BadInput, match=r"Main holds neither train.txt nor val.txt"):
        prepare(tmp_path)
    listed(voc, "train", "a", "b")
    with pytest.raises(BadInput, match=r"there is no file .*b.mat"):
        prepare(tmp_path)
    listed(voc, "train", "a")
    with pytest.raises(BadInput, match=r"a.mat: 'tail' is no part of a person in PASCAL-Part"):
        prepare(tmp_path)
    annotate(voc, "a", ("person", [("head", at(0)), ("torso", np.ones((2, 2), np.uint8))]))
    with pytest.raises(BadInput, match=r"a.mat: 'torso' is a map of \(2, 2\), other parts are of \(4, 6\)"):
        prepare(tmp_path)
    for content in ({"other": 1}, {"anno": 1}):
        savemat(voc / "Annotations_Part" / "a.mat", content)
        with pytest.raises(BadInput, match=r"a.mat is no annotation of PASCAL-Part"):
            prepare(tmp_path)
    (voc / "Annotations_Part" / "a.mat").write_text("no MATLAB")
    with pytest.raises(BadInput, match=r"a.mat is no annotation of PASCAL-Part"):
        prepare(tmp_path)
    with pytest.raises(BadInput, match=r"holds no VOCdevkit/VOC2010 with ImageSets"):
        sets.prepare("pascal_parts", source=tmp_path / "out", data_dir=tmp_path / "out")
