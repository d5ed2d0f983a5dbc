"""VOC with SBD, Cityscapes, ADE20K and the pets, from miniature folders in their published layouts."""

import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxseg.data import sets
from jaxseg.data.records import encode_png
from jaxseg.data.sets import ade20k, cityscapes, voc
from jaxseg.errors import BadInput
from jaxseg.viz.palettes import voc_palette

SIZE = (6, 8)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Image.Image):
        content.save(path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text("\n".join(content) + "\n")


def picture(seed, mode="RGB"):
    shape = (*SIZE, 3) if mode == "RGB" else SIZE
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode=None)


def numbers(seed, values):
    return np.random.default_rng(seed).choice(np.asarray(values, np.uint8), SIZE)


def prepared(name, folder, where, split):
    sets.prepare(name, source=folder, data_dir=where)
    return sets.open_split(name, split, data_dir=where)


@pytest.fixture
def voc_folder(tmp_path):
    """a and b are VOC's training images, c its validation; SBD trains on b and d, and validates on c and e."""
    root, sbd = tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "benchmark_RELEASE" / "dataset"
    for i, name in enumerate("abcde"):
        put(root / "JPEGImages" / f"{name}.jpg", picture(i))
    for i, name in enumerate("abc"):
        label = Image.fromarray(numbers(i, [*range(21), 255])).convert("P")
        label.putpalette([value for colour in voc_palette(256) for value in colour])
        put(root / "SegmentationClass" / f"{name}.png", label)
        put(root / "SegmentationObject" / f"{name}.png", encode_png(numbers(20 + i, [0, 1, 2, 255])))
    lists = root / "ImageSets" / "Segmentation"
    put(lists / "train.txt", ["b", "a"])
    put(lists / "val.txt", ["c"])
    put(sbd / "train.txt", ["d", "b"])
    put(sbd / "val.txt", ["e", "c"])
    for folder in ("cls", "inst"):
        (sbd / folder).mkdir()
    for i, name in enumerate("bcde"):
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": numbers(10 + i, range(21))}})
        savemat(sbd / "inst" / f"{name}.mat", {"GTinst": {"Segmentation": numbers(30 + i, range(4))}})
    return tmp_path


def test_voc_is_augmented_by_sbd_without_its_own_validation(voc_folder, tmp_path_factory):
    where = tmp_path_factory.mktemp("prepared")
    train = prepared("voc", voc_folder, where, "train")
    own = [numbers(0, [*range(21), 255]), numbers(1, [*range(21), 255])]
    np.testing.assert_array_equal(train[0]["label"], own[1])  # the list's order
    np.testing.assert_array_equal(train[1]["label"], own[0])
    augmented = sets.open_split("voc", "train_aug", data_dir=where)
    expected = [
        numbers(0, [*range(21), 255]),
        numbers(1, [*range(21), 255]),
        numbers(12, range(21)),
        numbers(13, range(21)),
    ]
    assert len(augmented) == 4  # a, b, d, e: a and b with VOC's own annotation
    for record, label in zip(augmented, expected, strict=True):
        np.testing.assert_array_equal(record["label"], label)
    np.testing.assert_array_equal(
        augmented[2]["image"], np.asarray(Image.open(voc_folder / "VOCdevkit" / "VOC2012" / "JPEGImages" / "d.jpg"))
    )
    assert len(sets.open_split("voc", "val", data_dir=where)) == 1


def test_voc_without_sbd(voc_folder, tmp_path_factory):
    where = tmp_path_factory.mktemp("prepared")
    train = prepared("voc", voc_folder / "VOCdevkit" / "VOC2012", where / "a", "train")
    assert len(train) == 2
    (voc_folder / "benchmark_RELEASE").rename(voc_folder / "elsewhere")
    prepared("voc", voc_folder, where / "b", "val")
    with pytest.raises(BadInput, match="no split 'train_aug' as it was prepared; there are: train, val"):
        sets.open_split("voc", "train_aug", data_dir=where / "b")


def test_voc_palette_is_that_of_its_files():
    assert voc.FACTS.palette == voc_palette(21)


def test_voc_numbers_its_objects_and_sbd_brings_the_splits_of_the_public_fcns(voc_folder, tmp_path_factory):
    devkit = voc_folder / "VOCdevkit"
    shutil.copytree(devkit / "VOC2012", devkit / "VOC2011")
    (devkit / "VOC2011" / "ImageSets" / "Segmentation" / "val.txt").write_text("c\nb\n")  # b trains SBD
    where = tmp_path_factory.mktemp("prepared")
    objects = numbers(20, [0, 1, 2, 255])
    train = prepared("voc", voc_folder, where, "train")
    np.testing.assert_array_equal(train[1]["instance_ids"], np.where(objects == 255, 0, objects))
    theirs = sets.open_split("voc", "sbd_train", data_dir=where)
    assert len(theirs) == 2
    np.testing.assert_array_equal(theirs[0]["instance_ids"], numbers(32, range(4)))  # d
    np.testing.assert_array_equal(theirs[1]["label"], numbers(10, range(21)))  # b, in SBD's own annotation
    judged = sets.open_split("voc", "seg11valid", data_dir=where)
    assert len(judged) == 1
    np.testing.assert_array_equal(judged[0]["label"], numbers(2, [*range(21), 255]))


def test_cityscapes_keeps_the_classes_of_the_benchmark(tmp_path, tmp_path_factory):
    ids = np.arange(48, dtype=np.uint8).reshape(SIZE)
    for split, city, name in (("train", "ulm", "ulm_0"), ("train", "bonn", "bonn_0"), ("val", "aachen", "aachen_0")):
        put(tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture(len(city)))
        put(tmp_path / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", encode_png(ids))
    train = prepared("cityscapes", tmp_path, tmp_path_factory.mktemp("prepared"), "train")
    assert len(train) == 2
    np.testing.assert_array_equal(train[0]["image"], np.asarray(picture(4)))  # bonn comes before ulm
    label = train[0]["label"].reshape(-1)
    kept = np.flatnonzero(label != 255)
    assert kept.tolist() == list(cityscapes.LABEL_IDS)
    assert label[kept].tolist() == list(range(19))


def test_ade20k_counts_from_one(tmp_path, tmp_path_factory):
    root = tmp_path / "ADEChallengeData2016"
    label = numbers(0, [0, 1, 2, 150])
    for folder, name, mode in (("training", "ADE_train_00000001", "RGB"), ("validation", "ADE_val_00000001", "L")):
        put(root / "images" / folder / f"{name}.jpg", picture(1, mode))
        put(root / "annotations" / folder / f"{name}.png", encode_png(label))
    where = tmp_path_factory.mktemp("prepared")
    record = prepared("ade20k", tmp_path, where, "train")[0]
    np.testing.assert_array_equal(record["label"], np.where(label == 0, 255, label.astype(int) - 1))
    grey = sets.open_split("ade20k", "val", data_dir=where)[0]["image"]
    assert grey.shape == (*SIZE, 3)
    assert (grey == grey[..., :1]).all()
    assert (ade20k.FACTS.classes[12], ade20k.FACTS.palette[12]) == ("person", (150, 5, 61))


def pets(tmp_path):
    for name, kind in (("Abyssinian_1", "JPEG"), ("beagle_2", "GIF")):
        (tmp_path / "images").mkdir(exist_ok=True)
        picture(len(name)).save(tmp_path / "images" / f"{name}.jpg", kind)
        put(tmp_path / "annotations" / "trimaps" / f"{name}.png", encode_png(numbers(len(name), [1, 2, 3])))
    put(tmp_path / "annotations" / "trainval.txt", ["#Image CLASS-ID SPECIES BREED ID", "Abyssinian_1 1 1 1"])
    put(tmp_path / "annotations" / "test.txt", ["beagle_2 2 2 1"])
    return tmp_path


def test_pets_stand_out_and_their_rim_is_void(tmp_path, tmp_path_factory):
    where = tmp_path_factory.mktemp("prepared")
    record = prepared("oxford_pets", pets(tmp_path), where, "trainval")[0]
    np.testing.assert_array_equal(record["label"], np.array([0, 1, 0, 255])[numbers(12, [1, 2, 3])])
    other = sets.open_split("oxford_pets", "test", data_dir=where)[0]["image"]
    assert other.shape == (*SIZE, 3)


def spoil_voc(folder):
    put(folder / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "a.png", encode_png(np.full(SIZE, 21, np.uint8)))


def spoil_sbd(folder):
    savemat(folder / "benchmark_RELEASE" / "dataset" / "cls" / "d.mat", {"other": 1})


def spoil_list(folder):
    (folder / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt").unlink()


def spoil_image(folder):
    (folder / "VOCdevkit" / "VOC2012" / "JPEGImages" / "a.jpg").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_voc, r"a.png: label value 21 is outside 0..20 and 255 \(void\)"),
        (spoil_sbd, "d.mat holds no GTcls.Segmentation"),
        (spoil_list, "there is no list .*val.txt"),
        (spoil_image, "there is no file .*a.jpg"),
    ],
)
def test_bad_sources_are_named(voc_folder, tmp_path_factory, spoil, message):
    spoil(voc_folder)
    with pytest.raises(BadInput, match=message):
        sets.prepare("voc", source=voc_folder, data_dir=tmp_path_factory.mktemp("prepared"))


@pytest.mark.parametrize("name", ["voc", "cityscapes", "ade20k", "oxford_pets"])
def test_an_empty_folder_is_refused(name, tmp_path, tmp_path_factory):
    with pytest.raises(BadInput, match=r"holds no|there is no list"):
        sets.prepare(name, source=tmp_path, data_dir=tmp_path_factory.mktemp("prepared"))


def test_an_annotation_outside_of_the_classes_is_refused(tmp_path, tmp_path_factory):
    put(tmp_path / "images" / "training" / "x.jpg", picture(0))
    put(tmp_path / "annotations" / "training" / "x.png", encode_png(np.full(SIZE, 151, np.uint8)))
    with pytest.raises(BadInput, match=r"x.png: label value 151 is outside 0..150"):
        sets.prepare("ade20k", source=tmp_path, data_dir=tmp_path_factory.mktemp("prepared"))
    folder = pets(tmp_path)
    put(folder / "annotations" / "trimaps" / "beagle_2.png", encode_png(np.zeros(SIZE, np.uint8)))
    with pytest.raises(BadInput, match="a trimap holds 1, 2 and 3"):
        sets.prepare("oxford_pets", source=folder, data_dir=tmp_path_factory.mktemp("prepared"))
