"""Boxes of VOC, instances of VOC and SBD, instances and crowds of Cityscapes, from miniatures of their layouts."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from jaxseg.data import Data, Source, sets
from jaxseg.data.records import encode_png
from jaxseg.data.sets import cityscapes, voc
from jaxseg.errors import BadInput

SIZE = (6, 8)


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)


def thing(name, box, difficult=0):
    corners = "".join(f"<{c}>{v}</{c}>" for c, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return f"<object><name>{name}</name>{flag}<bndbox>{corners}</bndbox>{part}</object>"


def annotation(*things):
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height></size>"
    return f"<annotation>{size}{''.join(things)}</annotation>"


@pytest.fixture
def devkit(tmp_path):
    """2007 trains on a, validates on b, tests on c; 2012 trains on d and validates on e, of which there is SBD."""
    root = tmp_path / "source" / "VOCdevkit"
    lists = {"2007": {"train": "a", "val": "b", "test": "c"}, "2012": {"train": "d", "val": "e"}}
    for year, splits in lists.items():
        for split, name in splits.items():
            picture(root / f"VOC{year}" / "JPEGImages" / f"{name}.jpg", ord(name))
            text = annotation(thing("dog", (2, 1, 4, 5)), thing("person", (5, 2.5, 8, 6), difficult=1))
            put(root / f"VOC{year}" / "Annotations" / f"{name}.xml", text if name != "c" else annotation())
            put(root / f"VOC{year}" / "ImageSets" / "Main" / f"{split}.txt", f"{name}\n")
    return root


LABEL = np.asarray([[0, 15, 15, 255, 12, 12, 0, 0], [0, 15, 15, 255, 255, 12, 0, 0]], np.uint8).repeat(3, 0)
IDS = np.asarray([[0, 3, 3, 255, 1, 1, 0, 0], [0, 3, 3, 255, 255, 1, 0, 7]], np.uint8).repeat(3, 0)


def with_masks(root):
    """Segmentation and SBD of the images of 2012; SBD trains on e and validates on d."""
    voc2012, sbd = root / "VOC2012", root.parent / "benchmark_RELEASE" / "dataset"
    for name in "de":
        put(voc2012 / "SegmentationClass" / f"{name}.png", encode_png(LABEL))
        put(voc2012 / "SegmentationObject" / f"{name}.png", encode_png(IDS))
        for folder, struct, array in (("cls", "GTcls", LABEL), ("inst", "GTinst", IDS)):
            (sbd / folder).mkdir(parents=True, exist_ok=True)
            array = np.where(array == 255, 0, array)
            savemat(sbd / folder / f"{name}.mat", {struct: {"Segmentation": array}})
    for split, ours, theirs in (("train", "d", "e"), ("val", "e", "d")):
        put(voc2012 / "ImageSets" / "Segmentation" / f"{split}.txt", f"{ours}\n")
        put(sbd / f"{split}.txt", f"{theirs}\n")


def test_detection_has_the_boxes_of_both_years_and_their_sum(devkit, tmp_path):
    sets.prepare("voc", source=devkit.parent, data_dir=tmp_path)
    found = sets.prepared_splits("voc", data_dir=tmp_path)
    assert found == {"2007_train": 1, "2007_val": 1, "2007_test": 1, "2012_train": 1, "2012_val": 1}
    both = sets.open_split("voc", "2007_train+2007_val+2012_train+2012_val", data_dir=tmp_path)
    assert len(both) == 4
    for record, (year, name) in zip(both, (("2007", "a"), ("2007", "b"), ("2012", "d"), ("2012", "e")), strict=True):
        expected = np.asarray(Image.open(devkit / f"VOC{year}" / "JPEGImages" / f"{name}.jpg"))
        np.testing.assert_array_equal(record["image"], expected)
        assert record["boxes"].tolist() == [[1, 0, 4, 5], [4, 1.5, 8, 6]]
        assert [voc.FACTS.things[c] for c in record["classes"]] == ["dog", "person"]
        assert record["difficult"].tolist() == [False, True]
        assert record["area"].tolist() == [15, 18]
        assert (record["label"] == 255).all()
        assert not record["instance_ids"].any()
    empty = sets.open_split("voc", "2007_test", data_dir=tmp_path)[0]
    assert empty["boxes"].shape == (0, 4)
    assert empty["difficult"].shape == (0,)


def test_a_sum_of_splits_trains_and_a_wrong_part_of_it_is_named(devkit, tmp_path):
    sets.prepare("voc", source=devkit, data_dir=tmp_path)
    source = Source("voc", "2007_train+2012_train[:1]")
    data = Data(source, Source("voc", "2007_test"), keys=("image", "boxes", "classes", "difficult"), slots=3)
    with_objects = data.train_batches(batch_size=2, seed=0, data_dir=tmp_path)
    batch = next(with_objects)
    with_objects.close()
    assert batch["valid"].sum() == 4
    assert batch["difficult"].sum() == 2
    with pytest.raises(
        BadInput, match="no split '2007_trainval' as it was prepared; there are: 2007_test, 2007_train,"
    ):
        sets.open_split("voc", "2012_train+2007_trainval", data_dir=tmp_path)
    with pytest.raises(BadInput, match="nor a sum of those"):
        sets.open_split("voc", "2012_train+2007_train[x]", data_dir=tmp_path)


def test_objects_of_masks_have_the_class_of_their_pixels(devkit, tmp_path):
    """Object 7 has no pixel of a class; numbers become 1, 2; the rim belongs to none."""
    with_masks(devkit)
    sets.prepare("voc", source=devkit.parent, data_dir=tmp_path)
    for split in ("train", "val", "train_aug", "sbd_train", "sds_train", "sds_val"):
        (record,) = sets.open_split("voc", split, data_dir=tmp_path)
        expected = np.select([IDS == 1, IDS == 3], [1, 2], 0)
        np.testing.assert_array_equal(record["instance_ids"], expected)
        assert [voc.FACTS.things[c] for c in record["classes"]] == ["dog", "person"]
        assert record["boxes"].tolist() == [[4, 0, 6, 6], [1, 0, 3, 6]]
        assert record["area"].tolist() == [9, 12]
    origin = sets.prepared_from("voc", data_dir=tmp_path)
    assert origin is not None
    (note,) = origin.notes
    assert note.startswith("left out, objects without a pixel of a class: d object 7, e object 7")


def test_sds_divides_all_of_sbd_as_voc_divides_its_images(devkit, tmp_path):
    with_masks(devkit)
    sets.prepare("voc", source=devkit.parent, data_dir=tmp_path)
    for split, name in (("sds_train", "d"), ("sds_val", "e"), ("sbd_train", "e")):
        image = sets.open_split("voc", split, data_dir=tmp_path)[0]["image"]
        path = devkit / "VOC2012" / "JPEGImages" / f"{name}.jpg"
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (annotation(thing("yeti", (1, 1, 2, 2))), "b.xml: object 1 is of class 'yeti', which is none of aeroplane"),
        (annotation(thing("dog", (1, 1, 2, 2), "perhaps")), r"object 1 \(dog\): difficult is 'perhaps', neither"),
    ],
)
def test_a_broken_box_is_named(devkit, tmp_path, text, message):
    put(devkit / "VOC2007" / "Annotations" / "b.xml", text)
    with pytest.raises(BadInput, match=message):
        sets.prepare("voc", source=devkit, data_dir=tmp_path)


def test_what_does_not_say_whether_it_is_difficult_is_not(devkit, tmp_path):
    put(devkit / "VOC2007" / "Annotations" / "b.xml", annotation(thing("dog", (1, 1, 2, 2), None)))
    sets.prepare("voc", source=devkit / "VOC2007", data_dir=tmp_path)
    assert sets.open_split("voc", "2007_val", data_dir=tmp_path)[0]["difficult"].tolist() == [False]


KINDS = np.asarray([[7, 26, 26, 24, 24, 29, 26, 26], [7, 26, 0, 24, 25, 29, 26, 33]], np.uint8)
INSTANCES = np.asarray(
    [[7, 26001, 26000, 24, 24, 29000, 26, 26], [7, 26001, 0, 24, 25003, 29000, 26, 33000]], np.uint16
)


@pytest.fixture
def street(tmp_path):
    folder = tmp_path / "source"
    put(folder / "gtFine" / "val" / "ulm" / "ulm_0_gtFine_labelIds.png", encode_png(KINDS))
    put(folder / "gtFine" / "val" / "ulm" / "ulm_0_gtFine_instanceIds.png", encode_png(INSTANCES))
    path = folder / "leftImg8bit" / "val" / "ulm" / "ulm_0_leftImg8bit.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((*KINDS.shape, 3), np.uint8)).save(path)
    return folder


def test_cityscapes_has_instances_crowds_and_panoptic_maps(street, tmp_path):
    """Kind 29, caravans, is outside of the benchmark: void, and no object."""
    sets.prepare("cityscapes", source=street, data_dir=tmp_path)
    (record,) = sets.open_split("cityscapes", "val", data_dir=tmp_path)
    facts = cityscapes.FACTS
    names = [facts.things[c] for c in record["classes"]]
    assert names == ["person", "car", "rider", "car", "car", "bicycle"]
    assert record["crowd"].tolist() == [True, True, False, False, False, False]
    assert record["boxes"].tolist() == [
        *([3, 0, 5, 2], [6, 0, 8, 2], [4, 1, 5, 2], [2, 0, 3, 1], [1, 0, 2, 2], [7, 1, 8, 2]),
    ]
    assert record["area"].tolist() == [3, 3, 1, 1, 2, 1]
    wanted = {24: 1, 26: 2, 25003: 3, 26000: 4, 26001: 5, 33000: 6}
    np.testing.assert_array_equal(record["instance_ids"], np.vectorize(lambda i: wanted.get(i, 0))(INSTANCES))
    np.testing.assert_array_equal(record["panoptic"][..., 0], record["label"])
    np.testing.assert_array_equal(record["panoptic"][..., 1], record["instance_ids"])
    for slot, name in enumerate(names):
        pixels = record["label"][record["instance_ids"] == slot + 1]
        assert {facts.classes[c] for c in pixels.tolist()} == {name}
    assert record["label"][0, 5] == 255


def test_things_of_cityscapes_are_classes_in_their_colours():
    facts = cityscapes.FACTS
    places = [facts.classes.index(name) for name in facts.things]
    assert places == list(range(11, 19))
    assert tuple(facts.palette[place] for place in places) == facts.thing_palette


def test_instances_of_other_kinds_than_the_labels_are_refused_and_absent_ones_said(street, tmp_path):
    path = street / "gtFine" / "val" / "ulm" / "ulm_0_gtFine_instanceIds.png"
    put(path, encode_png(np.where(INSTANCES == 25003, np.uint16(24003), INSTANCES)))
    with pytest.raises(BadInput, match=r"instanceIds.png: its kinds differ from those of ulm_0_gtFine_labelIds.png"):
        sets.prepare("cityscapes", source=street, data_dir=tmp_path / "a")
    path.unlink()
    sets.prepare("cityscapes", source=street, data_dir=tmp_path / "b")
    origin = sets.prepared_from("cityscapes", data_dir=tmp_path / "b")
    assert origin is not None
    assert origin.notes == ("without objects, since there are no instanceIds: ulm_0",)
    assert sets.open_split("cityscapes", "val", data_dir=tmp_path / "b")[0]["boxes"].shape == (0, 4)
