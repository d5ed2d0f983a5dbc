"""Source folders as they are left: hidden files, suffixes in capitals, lists of Windows, absent parts."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.cli.images import find_images
from jaxseg.data import Data, Source, sets
from jaxseg.data.label_files import divided, lines_of
from jaxseg.data.origin import look
from jaxseg.data.records import encode_png
from jaxseg.errors import BadInput
from tests.data.folder_trees import picture, write

LABEL = np.full((6, 8), 3, np.uint8)


def ids(name, where, split="train"):
    return [data.decode() for data in sets.open_split(name, split, data_dir=where).column("id")]


def test_files_that_macos_leaves_are_no_images_and_no_change_of_a_folder(tmp_path):
    write(tmp_path / "a.png", picture(0))
    before = look(tmp_path)
    for name in ("._a.png", ".DS_Store"):
        (tmp_path / name).write_bytes(b"left")
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.png"]
    assert look(tmp_path).digest == before.digest


def test_lists_of_windows_and_names_with_blanks_and_suffixes_in_capitals(tmp_path):
    source, where = tmp_path / "source", tmp_path / "prepared"
    for name in ("my scene 1.5", "b"):
        write(source / "train" / f"{name}.PNG", picture(0, (6, 8, 3)))
        write(source / "trainannot" / f"{name}.PNG", LABEL)
    (source / "train.txt").write_bytes(b"\xef\xbb\xbfmy scene 1.5\r\n/SegNet/train/b.png /SegNet/trainannot/b.png\r\n")
    sets.prepare("camvid", source=source, data_dir=where)
    assert ids("camvid", where) == ["my scene 1.5", "b"]
    assert lines_of(source / "train.txt")[0] == "my scene 1.5"
    assert divided("a.png,b.png") == ("a.png", "b.png")


def test_ade20k_takes_capitals_and_leaves_hidden_files(tmp_path):
    root, where = tmp_path / "ADEChallengeData2016", tmp_path / "prepared"
    (root / "images" / "training").mkdir(parents=True)
    Image.fromarray(picture(0, (6, 8, 3))).save(root / "images" / "training" / "a.JPG", "JPEG")
    (root / "images" / "training" / "._a.jpg").write_bytes(b"left")
    write(root / "annotations" / "training" / "a.PNG", LABEL)
    sets.prepare("ade20k", source=tmp_path, data_dir=where)
    assert ids("ade20k", where) == ["a"]


@pytest.fixture
def voc_folder(tmp_path):
    """VOC 2012 with a and b to train, c to validate, without SegmentationObject."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in "abcd":
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0, (6, 8, 3))).save(root / "JPEGImages" / f"{name}.jpg")
    for name in "abc":
        write(root / "SegmentationClass" / f"{name}.png", LABEL)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    return root


def test_voc_without_masks_of_objects_has_those_of_classes(voc_folder, tmp_path):
    where = tmp_path / "prepared"
    sets.prepare("voc", source=tmp_path, data_dir=where)
    record = sets.open_split("voc", "train", data_dir=where)[0]
    np.testing.assert_array_equal(record["label"], LABEL)
    assert record["boxes"].shape == (0, 4)
    assert "without objects" in sets.prepared_from("voc", data_dir=where).notes[0]


def test_voc_with_a_part_of_the_masks_of_objects_is_refused(voc_folder, tmp_path):
    write(voc_folder / "SegmentationObject" / "a.png", LABEL)
    with pytest.raises(BadInput, match=r"there is no file .*SegmentationObject/b.png"):
        sets.prepare("voc", source=tmp_path, data_dir=tmp_path / "prepared")


@pytest.mark.parametrize("listed", [True, False])
def test_the_folder_segmentation_class_aug_is_train_aug(voc_folder, tmp_path, listed):
    for name in "abcd":
        write(voc_folder / "SegmentationClassAug" / f"{name}.png", LABEL + 1)
    if listed:
        lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png" for name in "da"]
        (voc_folder / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("\n".join(lines))
    sets.prepare("voc", source=tmp_path, data_dir=tmp_path / "prepared")
    assert ids("voc", tmp_path / "prepared", "train_aug") == (["d", "a"] if listed else ["a", "b", "d"])
    records = sets.open_split("voc", "train_aug", data_dir=tmp_path / "prepared")
    np.testing.assert_array_equal(records[0]["label"], LABEL + 1)


def test_preparation_names_a_damaged_image(tmp_path):
    source = tmp_path / "source"
    for name in "ab":
        write(source / "train" / f"{name}.jpg", picture(0, (64, 80, 3)))
        write(source / "trainannot" / f"{name}.png", np.full((64, 80), 3, np.uint8))
    (source / "train.txt").write_text("a\nb\n")
    whole = (source / "train" / "b.jpg").read_bytes()
    (source / "train" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"train/b.jpg is not an image that can be read"):
        sets.prepare("camvid", source=source, data_dir=tmp_path / "prepared")


def test_training_names_set_split_and_index_of_what_cannot_be_decoded(tmp_path, monkeypatch):
    tiny = (("size", 8), ("train", 3), ("val", 2))
    source = Source("scenes", "val", (), tiny)
    sets.prepare("scenes", data_dir=tmp_path, options=tiny)
    whole = encode_png(picture(0, (64, 64, 3)))

    def broken(self, index):
        from jaxseg.data.records import decode_image

        return {"image": decode_image(whole[: len(whole) // 2])}

    monkeypatch.setattr(sets.Records, "__getitem__", broken)
    with pytest.raises(BadInput, match=r"scenes/val\[0\] cannot be read: .*truncated"):
        list(Data(train=source, val=source).eval_batches(batch_size=1, data_dir=tmp_path))
