"""What is wrong with a folder is said in one line that names the file and what would help."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, problems, sets
from jaxseg.data.folders.bands import read_bands
from jaxseg.data.folders.scan import scan
from jaxseg.errors import BadInput
from tests.data.folder_trees import COLOURS, LABEL, TABLE, pair, picture, write

NONE = (("split", 0),)


def everything(root, options=NONE):
    """Read the whole folder, as training would."""
    name = f"folder:{root}"
    for split in sets.facts(name, options=options).splits:
        for record in sets.open_split(name, split, options=options):
            assert record["label"].shape == record["image"].shape[:2]


def refused(root, *words, options=NONE):
    with pytest.raises(BadInput) as raised:
        everything(root, options)
    line = str(raised.value)
    assert "\n" not in line
    for word in words:
        assert word in line, line


@pytest.fixture
def folder(tmp_path):
    """Two images with masks of numbers."""
    for seed, name in enumerate("ab"):
        pair(tmp_path, f"images/{name}.png", f"masks/{name}.png", seed)
    everything(tmp_path)
    return tmp_path


def test_an_empty_folder(tmp_path):
    refused(tmp_path, f"{tmp_path} holds no image", "images/", "masks/")
    refused(tmp_path / "nowhere", f"there is no folder {tmp_path}/nowhere")


def test_images_without_any_masks_and_masks_without_images(tmp_path):
    write(tmp_path / "images/a.png", picture(0))
    refused(tmp_path, "holds 1 images but no masks", "--option masks=DIR")
    (tmp_path / "images").rename(tmp_path / "masks")
    refused(tmp_path, "holds 1 masks but no images", "images/")


def test_a_missing_mask(folder):
    (folder / "masks/b.png").unlink()
    refused(folder, f"{folder}/images/b.png has no mask", "there is no masks/b.png", "--option skip_missing=True")
    everything(folder, (*NONE, ("skip_missing", True)))


def test_a_mask_of_another_size(folder):
    write(folder / "masks/b.png", LABEL[:3])
    refused(folder, f"{folder}/images/b.png is 6x4 but its label is 6x3", f"{folder}/masks/b.png")


def test_an_unknown_colour(folder):
    for name in "ab":
        write(folder / f"masks/{name}.png", COLOURS[LABEL])
    refused(folder, "hold colours (#000000", "#804080", "#0080c0", f"{folder}/classes.csv", "name,r,g,b")
    everything(folder, (*NONE, ("classes", "sky=#000000,road=#804080,car=#0080c0")))
    (folder / "classes.csv").write_text(TABLE)
    everything(folder)
    strange = COLOURS[LABEL].copy()
    strange[1, 1] = 129, 64, 128
    write(folder / "masks/b.png", strange)
    refused(
        folder, f"{folder}/masks/b.png: colour #814080 (1 pixels)", "#804080 (road)", "NAME,129,64,128", "void=#814080"
    )


def test_a_value_beyond_the_table(folder):
    (folder / "classes.csv").write_text("name,id\nsky,0\nroad,1\n")
    refused(folder, f"{folder}/masks/a.png: value 2 (8 pixels) is none of the 2 classes", "classes.csv", "void=2")


def test_two_images_of_one_stem(folder):
    write(folder / "images/a.jpg", picture(5))
    refused(folder, f"{folder}/images/a.jpg", f"{folder}/images/a.png", "two images of one name", "rename")


def test_two_masks_of_one_image(folder):
    write(folder / "masks/a.tif", LABEL)
    refused(folder, f"{folder}/masks/a.png", f"{folder}/masks/a.tif", "two masks of images/a.png")


@pytest.mark.parametrize("broken", ["images/b.png", "masks/b.png"])
def test_an_unreadable_file(folder, broken):
    data = (folder / broken).read_bytes()
    (folder / broken).write_bytes(data[:60])
    refused(folder, f"{folder / broken} is not an image that can be read")
    (folder / broken).write_bytes(b"")
    refused(folder, f"{folder / broken} is empty")
    with pytest.raises(BadInput, match=re.escape(broken)):
        sets.prepare(f"folder:{folder}", data_dir=folder.parent / "prepared", options=NONE)
    assert not sets.is_prepared(f"folder:{folder}", data_dir=folder.parent / "prepared", options=NONE)


def test_the_pipeline_names_set_split_and_index(folder):
    source = Source(f"folder:{folder}", "train", (), NONE)
    data = Data(train=source, val=source)
    list(data.eval_batches(batch_size=1))
    image = folder / "images/b.png"
    image.write_bytes(image.read_bytes()[:60])
    with pytest.raises(BadInput, match=rf"folder:{folder}/train\[1\]: {image} is not an image"):
        list(data.eval_batches(batch_size=1))


def test_masks_that_are_photographs_or_jpegs_of_numbers(folder):
    write(folder / "masks/b.png", picture(1, (64, 64, 3)))
    refused(folder, f"{folder}/masks/b.png holds", "colours: a photograph, not a mask")
    (folder / "masks/b.png").unlink()
    write(folder / "masks/b.jpg", LABEL)
    refused(folder, f"{folder}/masks/b.jpg is a mask of numbers as JPEG", "save it as PNG")


def test_masks_of_which_some_hold_colours(folder):
    write(folder / "masks/b.png", COLOURS[LABEL])
    refused(folder, f"{folder}/masks/b.png hold colours")


def test_transparent_masks(folder):
    rgba = np.concatenate([COLOURS[LABEL], np.full((4, 6, 1), 100, np.uint8)], -1)
    write(folder / "masks/b.png", rgba)
    refused(folder, f"{folder}/masks/b.png is a mask with transparent pixels", "RGB")


def test_images_of_other_bands_or_types(folder):
    write(folder / "images/a.tif", picture(0, (4, 6), "uint16"))
    (folder / "images/a.png").unlink()
    write(folder / "images/b.png", picture(0, (4, 6)))
    refused(folder, "holds uint16", "uint8", "--option channels=3")
    write(folder / "images/b.npy", picture(0, (4, 6, 5)))
    (folder / "images/b.png").unlink()
    refused(folder, "a has 1", "b has 5", "--option channels=N")


def test_images_of_another_type_than_those_looked_at(tmp_path):
    path = write(tmp_path / "a.png", picture(0, (4, 6)))
    with pytest.raises(BadInput, match=r"a.png holds uint8, others hold uint16"):
        read_bands(path, 1, "uint16", None)
    with pytest.raises(BadInput, match=r"a.png has 1 bands, others have 5"):
        read_bands(path, 5, "uint8", None)
    with pytest.raises(BadInput, match=r"a.png is 6x4 but its label is 5x4"):
        read_bands(path, 1, "uint8", (4, 5))


def test_classes_that_share_a_pixel(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()
    for name in "ab":
        write(folder / f"masks/road/{name}.png", (LABEL == 1).astype(np.uint8))
        write(folder / f"masks/car/{name}.png", (LABEL > 0).astype(np.uint8))
    refused(folder, f"{folder}/masks/road/a.png: 8 pixels are of another class too", "--option classes=A,B,C")
    write(folder / "masks/road/a.png", LABEL)
    refused(folder, f"{folder}/masks/road/a.png is the mask of one class or object but holds 0..2")


TABLES = {
    "name,r,g,b\nsky,0,0,0\nroad,0,0\n": "'road,0,0' has no colour",
    "name,id\nsky,0\nroad,0\n": "two rows have the number 0",
    "name,id\nsky,0\nsky,1\n": "two rows have the name 'sky'",
    "name,id\nsky,zero\n": "'zero' of row 'sky,zero' is not a whole number",
    "r,g,b\n0,0,0\n": "has no column of names",
    "name,id\n": "names no class",
    "sky,1,2,3,4,5\n": "is neither NAME,R,G,B nor NAME,NUMBER nor NAME",
    "name,id\nsky,0\nroad,\n": "'road' has no number, though others have",
}


@pytest.mark.parametrize("text", TABLES)
def test_a_table_that_cannot_be_understood(folder, text):
    (folder / "classes.csv").write_text(text)
    refused(folder, f"{folder}/classes.csv", TABLES[text])


def test_json_tables_that_cannot_be_understood(folder):
    for text, words in (("{", "is not JSON"), ("[3]", "3} is no class"), ('{"sky": [0, 0]}', "is no class")):
        (folder / "classes.json").write_text(text)
        refused(folder, f"{folder}/classes.json", words)


def test_a_list_that_names_what_is_not_there(folder):
    (folder / "train.txt").write_text("a\nc\n")
    refused(folder, f"{folder}/train.txt line 2 names 'c'")
    (folder / "train.txt").write_text("a\na\n")
    refused(folder, f"{folder}/train.txt line 2 names images/a.png again")
    (folder / "train.txt").write_text("a.png masks/a.png\nb.png masks/c.png\n")
    everything(folder)  # b has a mask of its own name
    (folder / "masks/b.png").unlink()
    refused(folder, f"{folder}/train.txt line 2 names the mask 'masks/c.png'")
    (folder / "train.txt").write_text("\n")
    refused(folder, f"{folder}/train.txt lists no image")


OPTIONS = {
    ("clases", "a"): "folders have no option 'clases'; did you mean 'classes'",
    ("group", "("): "is not a regular expression",
    ("group", "film"): "matches no name, such as 'a'",
    ("split", 1.5): "option split is 1.5",
    ("void", 1.5): "option void is 1.5",
    ("void", "#ff0000"): "hold numbers without a table",
    ("masks", "labels"): "has no folder 'labels'",
    ("channels", 5): "option channels is 5, but images have 3 bands",
    ("classes", 3): "option classes is 3",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_cannot_be(folder, option):
    refused(folder, OPTIONS[option], options=(*NONE, option) if option[0] != "split" else (option,))


def test_splits_and_sources_that_are_not_there(folder):
    name = f"folder:{folder}"
    with pytest.raises(BadInput, match=r"has no split 'test'; there are: train 2"):
        sets.open_split(name, "test", options=NONE)
    with pytest.raises(BadInput, match=r"'train\[:x\]' is not a split"):
        sets.open_split(name, "train[:x]", options=NONE)
    with pytest.raises(BadInput, match="a folder of your own is folder:PATH"):
        sets.find(str(folder))
    with pytest.raises(BadInput, match="leave --source out"):
        sets.prepare(name, source=folder, options=NONE)


def test_problems_are_gathered_when_they_are_asked_for(folder):
    pair(folder, "images/c.png", "masks/c.png")
    (folder / "masks/b.png").unlink()
    (folder / "masks/c.png").write_bytes(b"")
    with problems.gather() as found:
        scan(folder)
    assert len(found) == 2
    assert any("images/b.png has no mask" in line for line in found)
    assert any("masks/c.png is empty" in line for line in found)


def test_damage_behind_the_header_is_found_by_preparation(folder):
    image = Image.fromarray(picture(0, (64, 64, 3)))
    image.save(folder / "images/a.jpg", quality=95)
    (folder / "images/a.png").unlink()
    write(folder / "masks/a.png", np.zeros((64, 64), np.uint8))
    data = (folder / "images/a.jpg").read_bytes()
    (folder / "images/a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match=r"images/a.jpg is not an image that can be read \(.*truncated"):
        sets.prepare(f"folder:{folder}", data_dir=folder.parent / "prepared", options=NONE)


@pytest.fixture(params=["a folder for each image", "a folder for each image's masks"])
def objects(request, tmp_path):
    """Two images with two objects each, and the folders of their masks."""
    published = request.param == "a folder for each image"
    places = [("{0}/images/{0}.png", "{0}/masks"), ("images/{0}.png", "masks/{0}")][not published]
    for seed, name in enumerate("ab"):
        write(tmp_path / places[0].format(name), picture(seed))
        for number in (1, 2):
            write(tmp_path / places[1].format(name) / f"{number}.png", (number == LABEL).astype(np.uint8) * 255)
    everything(tmp_path)
    return tmp_path, places[1].format("b")


def test_masks_of_objects_that_cannot_be_read_so(objects):
    root, masks = objects
    write(root / masks / "2.png", LABEL)
    refused(root, f"{root / masks}/2.png is the mask of one class or object but holds 0..2")
    write(root / masks / "2.png", (LABEL[:3] == 2).astype(np.uint8))
    refused(root, f"{root / masks}/2.png is 6x3, other masks of that image are 6x4")
    for number in (1, 2):
        write(root / masks / f"{number}.png", (LABEL[:3] == number).astype(np.uint8))
    refused(root, "b.png is 6x4 but its label is 6x3", f"{root / masks}/1.png")
    (root / masks / "1.png").write_bytes(b"")
    refused(root, f"{root / masks}/1.png is empty")


def test_an_image_without_masks_of_objects(objects):
    root, masks = objects
    for number in (1, 2):
        (root / masks / f"{number}.png").unlink()
    refused(root, f"b.png has no mask (there is no mask in {masks}; one of zeros says", "--option skip_missing=True")
    everything(root, (*NONE, ("skip_missing", True)))
    write(root / masks / "1.png", np.zeros((4, 6), np.uint8))
    everything(root)


def test_options_that_masks_of_objects_do_not_take(objects):
    root, _ = objects
    refused(root, "has 2 (cell, dirt)", "--option classes=cell", options=(*NONE, ("classes", "cell,dirt")))
    refused(root, "option void is 3", options=(*NONE, ("void", 3)))
    refused(root, "option objects is 'yes'; it is True or False", options=(*NONE, ("objects", "yes")))
