"""Folders as data sets: layouts and kinds of masks, each read to the very labels that were written."""

import itertools
import pickle

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets
from jaxseg.data.folders.scan import scan
from jaxseg.data.transforms import RandomCrop, RandomFlip
from tests.data.folder_trees import COLOURS, LABEL, TABLE, pair, palette_png, picture, write

NONE = (("split", 0),)
"""No split is made."""


def read(root, split="train", options=NONE):
    return sets.open_split(f"folder:{root}", split, options=options)


LAYOUTS = {
    "images and masks": ("images/a.png", "masks/a.png"),
    "labels": ("images/a.jpg", "labels/a.png"),
    "annotations with a suffix": ("images/a.jpg", "annotations/a_label.png"),
    "split above": ("train/images/a.png", "train/masks/a.png"),
    "split below": ("images/train/a.png", "annotations/train/a.png"),
    "split in the name": ("images_training/a.png", "masks_training/a.png"),
    "CamVid's": ("train/a.png", "trainannot/a.png"),
    "COCO's": ("images/train2017/a.png", "annotations/train2017/a.png"),
    "Cityscapes'": ("leftImg8bit/train/x/a_leftImg8bit.png", "gtFine/train/x/a_gtFine_labelIds.png"),
    "VOC's": ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
    "one folder, suffix": ("data/a.jpg", "data/a_mask.png"),
    "one folder, two formats": ("a.tif", "a.png"),
    "both with suffixes": ("images/a_sat.jpg", "masks/a_mask.png"),
    "prefixes": ("images/image_a.png", "masks/mask_a.png"),
    "capitals and blanks": ("Images/my scene 1.0.PNG", "Masks/my scene 1.0.PNG"),
    "subfolders": ("images/city/a.png", "masks/city/a.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_finds_its_mask_in_the_usual_layouts(tmp_path, layout):
    image, mask = LAYOUTS[layout]
    pair(tmp_path, image, mask)
    path = tmp_path / image
    write(path.with_name(f"._{path.name}"), picture(9))  # as macOS leaves them
    (record,) = read(tmp_path)
    np.testing.assert_array_equal(record["label"], LABEL)
    assert record["image"].shape == (4, 6, 3)
    if not image.endswith("jpg"):
        np.testing.assert_array_equal(record["image"], picture(0))


def test_cityscapes_colours_and_instances_are_no_masks(tmp_path):
    pair(tmp_path, "leftImg8bit/val/x/a_leftImg8bit.png", "gtFine/val/x/a_gtFine_labelIds.png")
    write(tmp_path / "gtFine/val/x/a_gtFine_color.png", COLOURS[LABEL])
    write(tmp_path / "gtFine/val/x/a_gtFine_instanceIds.png", LABEL)
    np.testing.assert_array_equal(read(tmp_path, "val")[0]["label"], LABEL)


def test_pngs_in_labels_beside_a_table_are_no_yolo_export(tmp_path):
    pair(tmp_path, "images/a.png", "labels/a.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL)
    assert sets.facts(f"folder:{tmp_path}").classes == ("sky", "road", "car")


def test_masks_in_a_folder_of_any_name_are_found_by_option(tmp_path):
    pair(tmp_path, "images/a.png", "ours/first/a.png")
    (record,) = read(tmp_path, options=(*NONE, ("masks", "ours/first")))
    np.testing.assert_array_equal(record["label"], LABEL)


KINDS = {
    "index": (".png", LABEL),
    "TIFF": (".tif", LABEL),
    "16 bits": (".tif", LABEL.astype(np.uint16)),
    "npy": (".npy", LABEL.astype(np.int64)),
    "grey in RGB": (".png", np.repeat(LABEL[..., None], 3, -1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_classes_in_files_of_every_kind(tmp_path, kind):
    suffix, mask = KINDS[kind]
    write(tmp_path / "images/a.png", picture(0))
    write(tmp_path / f"masks/a{suffix}", mask)
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL)
    assert sets.facts(f"folder:{tmp_path}").classes == ("class_0", "class_1", "class_2")


TABLES = {
    "classes.csv": TABLE,
    "_classes.csv": "Pixel Value, Class\n0, sky\n1, road\n2, car\n",
    "class_dict.csv": "\ufeffname;r;g;b\r\nsky;0;0;0\r\nroad;128;64;128\r\ncar;0;128,192\r\n".replace("128,", "128;"),
    "classes.json": '{"sky": [0, 0, 0], "road": "#804080", "car": [0, 128, 192]}',
    "classes.txt": "sky\nroad\ncar\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:128,64,128::\ncar:0,128,192::\n",
    "label_colors.txt": "0 0 0 sky\n128 64 128\troad\n0 128 192 car\n",
    "dataset.json": '{"labels": {"sky": 0, "road": 1, "car": 2}}',
}


@pytest.mark.parametrize("table", TABLES)
def test_classes_are_from_the_table_for_numbers_and_colours(tmp_path, table):
    coloured = "128" in TABLES[table]
    write(tmp_path / "images/a.png", picture(0))
    write(tmp_path / "masks/a.png", COLOURS[LABEL] if coloured else LABEL)
    (tmp_path / table).write_text(TABLES[table], encoding="utf-8")
    facts = sets.facts(f"folder:{tmp_path}")
    assert facts.classes == ("sky", "road", "car")
    assert facts.palette == (tuple(map(tuple, COLOURS.tolist())) if coloured else ())
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL)


def test_255_is_void_beside_a_table_that_does_not_name_it(tmp_path):
    label = LABEL.copy()
    label[0] = 255
    pair(tmp_path, "images/a.png", "masks/a.png", label=label)
    (tmp_path / "classes.csv").write_text("name,id\nsky,0\nroad,1\ncar,2\n")
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], label)


def test_a_palette_counts_by_its_colours_where_the_table_has_them(tmp_path):
    write(tmp_path / "images/a.png", picture(0))
    palette_png(tmp_path / "masks/a.png", 2 - LABEL, COLOURS[::-1])
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], 2 - LABEL)
    (tmp_path / "classes.csv").write_text(TABLE)
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL)


def test_binary_masks_of_0_and_255_are_background_and_foreground(tmp_path):
    write(tmp_path / "images/a.png", picture(0))
    write(tmp_path / "masks/a.png", (LABEL > 0).astype(np.uint8) * 255)
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL > 0)
    named = (*NONE, ("classes", "rest,cell"))
    np.testing.assert_array_equal(read(tmp_path, options=named)[0]["label"], LABEL > 0)
    facts = sets.facts(f"folder:{tmp_path}", options=named)
    assert facts.classes == ("rest", "cell")
    assert sets.facts(f"folder:{tmp_path}").classes == ("background", "foreground")


def test_jpeg_blurs_black_and_white_only_a_little(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    write(tmp_path / "images/a.png", picture(0, (32, 32, 3)))
    write(tmp_path / "masks/a.jpg", mask)
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], mask > 0)


def test_void_is_255_what_the_option_says_and_classes_of_that_name(tmp_path):
    mask = LABEL.copy()
    mask[0] = 255
    pair(tmp_path, "images/a.png", "masks/a.png", label=mask)
    assert (read(tmp_path)[0]["label"][0] == 255).all()
    label = read(tmp_path, options=(*NONE, ("void", 0)))[0]["label"]
    np.testing.assert_array_equal(label == 255, (mask == 255) | (mask == 0))
    write(tmp_path / "masks/a.png", COLOURS[LABEL])
    (tmp_path / "classes.csv").write_text(TABLE.replace("sky", "Void"))
    expected = np.asarray([255, 0, 1])[LABEL]
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], expected)
    assert sets.facts(f"folder:{tmp_path}").classes == ("road", "car")
    (tmp_path / "classes.csv").write_text(TABLE)
    for void in ("#000000", "sky", ("sky",)):
        np.testing.assert_array_equal(read(tmp_path, options=(*NONE, ("void", void)))[0]["label"], expected)


@pytest.mark.parametrize("masks", ["masks/{}/a.png", "masks/a/{}.png", "masks/a_{}.png"])
def test_a_file_for_each_class_is_read_over_a_background(tmp_path, masks):
    write(tmp_path / "images/a.png", picture(0))
    for number, name in ((1, "car"), (2, "road")):
        write(tmp_path / masks.format(name), (number == LABEL).astype(np.uint8) * 255)
    np.testing.assert_array_equal(read(tmp_path)[0]["label"], LABEL)
    facts = sets.facts(f"folder:{tmp_path}")
    assert facts.classes == ("background", "car", "road")
    write(tmp_path / masks.format("road"), (LABEL > 0).astype(np.uint8))  # the later class of the option is in front
    label = read(tmp_path, options=(*NONE, ("classes", ("car", "road"))))[0]["label"]
    np.testing.assert_array_equal(label, 2 * (LABEL > 0))


LISTS = {
    "names": "b\na\n",
    "paths": "images/b.png\nimages/a.png\n",
    "pairs": "/SegNet/images/b.jpg /SegNet/masks/b.png\r\n/SegNet/images/a.jpg /SegNet/masks/a.png\r\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_text_list_gives_split_and_order(tmp_path, kind):
    for seed, name in enumerate("abc"):
        pair(tmp_path, f"images/{name}.png", f"masks/{name}.png", seed)
    (tmp_path / "train.txt").write_text("\ufeff" + LISTS[kind], encoding="utf-8")
    (tmp_path / "val.txt").write_text("c\n")
    found = read(tmp_path)
    assert found.column("id") == ["b", "a"]
    np.testing.assert_array_equal(found[0]["image"], picture(1))
    assert len(read(tmp_path, "val")) == 1
    assert read(tmp_path, "train[:1]+val").column("id") == ["b", "c"]


def test_a_csv_gives_masks_splits_and_groups(tmp_path):
    rows = ["image,mask,split,group"]
    for seed, name in enumerate("abc"):
        pair(tmp_path, f"in/{name}.png", f"out/no{seed}.png", seed, LABEL if seed else 0 * LABEL)
        rows.append(f"in/{name}.png,out/no{seed}.png,{'validation' if seed == 2 else 'train'},film")
    (tmp_path / "data.csv").write_text("\n".join(rows))
    assert read(tmp_path, options=(("masks", "out"),)).column("id") == ["in/a", "in/b"]
    assert [record["label"].max() for record in read(tmp_path, options=(("masks", "out"),))] == [0, 2]
    assert scan(tmp_path, (("masks", "out"),)).found.items[0].group == "film"


def test_splits_by_a_hash_do_not_move_when_images_are_added_and_groups_stay_together(tmp_path):
    for number in range(40):
        pair(tmp_path, f"images/film{number // 4}_{number:03}.png", f"masks/film{number // 4}_{number:03}.png")

    def ids(**options):
        folder = scan(tmp_path, tuple(options.items()))
        return {split: {item.name for item in items} for split, items in folder.splits.items()}

    before = ids(split=(0.2, 0.2))
    assert set(before) == {"train", "val", "test"}
    for number in range(40, 60):
        pair(tmp_path, f"images/film{number // 4}_{number:03}.png", f"masks/film{number // 4}_{number:03}.png")
    after = ids(split=(0.2, 0.2))
    assert all(before[split] <= after[split] for split in before)
    films = {split: {name.split("_")[0] for name in names} for split, names in ids(group=r"film\d+_").items()}
    assert films["val"]
    assert not films["train"] & films["val"]


def test_a_folder_with_train_and_test_gets_val_out_of_train(tmp_path):
    for split, names in (("train", "abcdefgh"), ("test", "xy")):
        for name in names:
            pair(tmp_path, f"{split}/images/{name}.png", f"{split}/masks/{name}.png")
    splits = sets.facts(f"folder:{tmp_path}").splits
    assert splits["test"] == 2
    assert splits["train"] + splits["val"] == 8
    assert splits["val"] >= 1


def test_a_test_split_without_masks_is_void(tmp_path):
    pair(tmp_path, "train/images/a.png", "train/masks/a.png")
    write(tmp_path / "test/images/b.png", picture(1))
    assert (read(tmp_path, "test")[0]["label"] == 255).all()


IMAGES = {
    "grey": (".png", picture(1, (4, 6)), ("grey",)),
    "16-bit grey": (".tif", picture(1, (4, 6), "uint16"), ("grey",)),
    "four bands": (".tif", picture(1, (4, 6, 4)), ("band_1", "band_2", "band_3", "band_4")),
    "13 bands of 16 bits": (".npy", picture(1, (4, 6, 13), "uint16"), tuple(f"band_{i}" for i in range(1, 14))),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_of_any_bands_are_read_as_they_are_stored(tmp_path, kind):
    suffix, image, bands = IMAGES[kind]
    write(tmp_path / f"images/a{suffix}", image)
    write(tmp_path / "masks/a.png", LABEL)
    (record,) = read(tmp_path)
    assert sets.facts(f"folder:{tmp_path}").bands == bands
    np.testing.assert_array_equal(record["image"], image.reshape(4, 6, -1))
    assert record["image"].dtype == image.dtype
    sets.prepare(f"folder:{tmp_path}", data_dir=tmp_path / "prepared", options=NONE)
    (copy,) = sets.open_split(f"folder:{tmp_path}", "train", data_dir=tmp_path / "prepared", options=NONE)
    np.testing.assert_array_equal(copy["image"], record["image"])


def test_grey_among_colour_and_channels_3_are_rgb(tmp_path):
    pair(tmp_path, "images/a.png", "masks/a.png")
    write(tmp_path / "images/b.png", picture(1, (4, 6)))
    write(tmp_path / "masks/b.png", LABEL)
    assert [record["image"].shape for record in read(tmp_path)] == [(4, 6, 3)] * 2
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "masks/a.png").unlink()
    assert read(tmp_path)[0]["image"].shape == (4, 6, 1)
    assert read(tmp_path, options=(*NONE, ("channels", 3)))[0]["image"].shape == (4, 6, 3)


def test_an_exif_turn_counts_where_the_mask_fits_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "images/a.png", exif=exif)
    write(tmp_path / "masks/a.png", np.rot90(LABEL, -1).copy())
    np.testing.assert_array_equal(read(tmp_path)[0]["image"], np.rot90(picture(0), -1))
    write(tmp_path / "masks/a.png", LABEL)
    np.testing.assert_array_equal(read(tmp_path)[0]["image"], picture(0))


def test_batches_come_from_the_folder_and_from_its_copy_alike(tmp_path):
    for seed, name in enumerate("abcd"):
        pair(tmp_path / "own", f"images/{name}.png", f"masks/{name}.png", seed, LABEL // (1 + seed % 2))
    source = Source(f"folder:{tmp_path / 'own'}", "train", (), NONE)
    data = Data(train=source, val=source, keys=("image", "label", "index"))

    def two():
        stream = data.train_batches(batch_size=3, seed=1, data_dir=tmp_path / "prepared")
        found = [next(stream), next(stream)]
        stream.close()
        return found

    direct = two()
    sets.prepare(source.dataset, data_dir=tmp_path / "prepared", options=NONE)
    assert isinstance(data._examples(source, tmp_path / "prepared", 0)._records, sets.Records)
    for one, other in zip(direct, two(), strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in one)
    assert data.facts(tmp_path / "prepared").num_classes == 3
    items = scan(tmp_path / "own", NONE).found.items
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(items[0])).label(), LABEL)


def test_a_changed_folder_is_read_itself_until_it_is_prepared_anew(tmp_path):
    name, where = f"folder:{tmp_path / 'own'}", tmp_path / "prepared"
    pair(tmp_path / "own", "images/a.png", "masks/a.png")
    sets.prepare(name, data_dir=where, options=NONE)
    write(tmp_path / "own/masks/a.png", 2 - LABEL)
    write(tmp_path / "own/masks/more.png", LABEL)  # another size of the folder, whatever the clock's resolution
    with pytest.warns(UserWarning, match="has changed since it was prepared on .* --again"):
        found = sets.open_split(name, "train", data_dir=where, options=NONE)
    np.testing.assert_array_equal(found[0]["label"], 2 - LABEL)
    with pytest.raises(sets.BadInput, match="--again"):
        sets.prepare(name, data_dir=where, options=NONE)
    sets.prepare(name, data_dir=where, options=NONE, again=True)
    found = sets.open_split(name, "train", data_dir=where, options=NONE)
    assert isinstance(found, sets.Records)
    np.testing.assert_array_equal(found[0]["label"], 2 - LABEL)
    assert found.column("id") == [b"a"]
    np.testing.assert_array_equal(found.sizes(), [[4, 6]])


OBJECTS = {
    "a folder for each image": ("stage1_train/{0}/images/{0}.png", "stage1_train/{0}/masks/{1}.png", "train"),
    "of one split": ("train/images/{0}.png", "train/masks/{0}/{1}.png", "train"),
    "a folder for each image's masks": ("images/{0}.png", "masks/{0}/{1}.png", "train"),
    "masks that bear the image's name": ("images/{0}.png", "masks/{0}/{0}_{1}.png", "train"),
    "the split in between": ("val/images/city/{0}.png", "val/masks/city/{0}/object {1}.png", "val"),
}


@pytest.mark.parametrize("layout", OBJECTS)
def test_masks_of_one_object_each_are_objects_of_one_class(tmp_path, layout):
    image, mask, split = OBJECTS[layout]
    for seed, name in enumerate(("a1", "b2")):
        write(tmp_path / image.format(name), picture(seed))
        for number in (1, 2):
            write(tmp_path / mask.format(name, number), (number == LABEL).astype(np.uint8) * 255)
    over = np.zeros((4, 6), np.uint8)
    over[2, 1:4] = 1
    write(tmp_path / mask.format("b2", 3), over)
    write(tmp_path / mask.format("b2", 4), np.zeros((4, 6), np.uint8))
    facts = sets.facts(f"folder:{tmp_path}", options=NONE)
    assert (facts.classes, facts.things, facts.splits) == (("background", "object"), ("object",), {split: 2})
    assert {"boxes", "classes", "instance_ids", "hidden_ids", "panoptic"} <= set(facts.keys)
    plain, covered = read(tmp_path, split)
    np.testing.assert_array_equal(plain["image"], picture(0))
    np.testing.assert_array_equal(plain["instance_ids"], LABEL)
    np.testing.assert_array_equal(plain["label"], LABEL > 0)
    assert plain["boxes"].tolist() == [[1, 0, 6, 4], [0, 0, 6, 4]]
    assert (plain["classes"].tolist(), plain["area"].tolist()) == ([0, 0], [8, 8])
    np.testing.assert_array_equal(covered["instance_ids"], np.where(over, 3, LABEL))
    np.testing.assert_array_equal(covered["hidden_ids"], np.where(over, LABEL, 0))
    named = sets.facts(f"folder:{tmp_path}", options=(*NONE, ("classes", "cell")))
    assert (named.classes, named.things) == (("background", "cell"), ("cell",))


def test_an_option_or_the_table_says_whether_numbered_masks_are_classes(tmp_path):
    for name in "ab":
        write(tmp_path / f"images/{name}.png", picture(0))
        for number in (1, 2):
            write(tmp_path / f"masks/{name}/{number}.png", (number == LABEL).astype(np.uint8))
    assert read(tmp_path)[0].keys() > {"boxes"}
    for options in ((("objects", False),), (("classes", "1,2"),)):
        (record, _) = read(tmp_path, options=(*NONE, *options))
        np.testing.assert_array_equal(record["label"], LABEL)
        assert "boxes" not in record


@pytest.mark.slow
def test_two_workers_give_the_batches_of_none(tmp_path):
    for seed in range(5):
        pair(tmp_path, f"images/{seed}.png", f"masks/{seed}.png", seed)
    source = Source(f"folder:{tmp_path}", "train", (RandomFlip(), RandomCrop(3, 4)), NONE)
    streams = []
    for workers in (0, 2):
        data = Data(train=source, val=source, workers=workers)
        batches = data.train_batches(batch_size=2, seed=0)
        streams.append([*itertools.islice(batches, 6), *data.eval_batches(batch_size=2)])
        batches.close()
    assert len(streams[0]) == len(streams[1]) == 9
    for alone, shared in zip(*streams, strict=True):
        assert alone.keys() == shared.keys()
        for key in alone:
            np.testing.assert_array_equal(alone[key], shared[key])
