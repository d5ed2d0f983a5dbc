"""Preparing again, EXIF turns beside masks, palettes of other data sets: once done wrongly without a word."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import sets
from jaxseg.data.label_files import example, label_map
from jaxseg.data.notes import gather, report
from jaxseg.data.origin import look
from jaxseg.data.records import decode_image, encode_png
from jaxseg.data.sets import camvid
from jaxseg.errors import BadInput

RNG = np.random.default_rng(0)


@pytest.fixture
def source(tmp_path):
    """CamVid's layout, two images of 6 x 8 in each split."""
    folder = tmp_path / "source"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        (folder / f"{split}annot").mkdir()
        (folder / f"{split}.txt").write_text("a\nb\n")
        for name in "ab":
            Image.fromarray(RNG.integers(0, 256, (6, 8, 3), np.uint8)).save(folder / split / f"{name}.png")
            (folder / f"{split}annot" / f"{name}.png").write_bytes(encode_png(np.full((6, 8), 3, np.uint8)))
    return folder


def labels(data_dir, split="train"):
    return [int(record["label"][0, 0]) for record in sets.open_split("camvid", split, data_dir=data_dir)]


def correct(source, value=5):
    """Mend a mask, in a file of the same size but another time."""
    path = source / "trainannot" / "a.png"
    path.write_bytes(encode_png(np.full((6, 8), value, np.uint8)))
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 5_000_000_000))


def test_corrected_masks_are_noticed_and_prepared_again(source, tmp_path):
    where = tmp_path / "prepared"
    sets.prepare("camvid", source=source, data_dir=where)
    sets.prepare("camvid", source=source, data_dir=where)  # nothing has changed
    correct(source)
    for given in (source, None):  # where it was prepared from is remembered
        with pytest.raises(BadInput, match=r"was prepared on 20.*from .*10 files.*but now there is .*--again"):
            sets.prepare("camvid", source=given, data_dir=where)
    assert labels(where) == [3, 3], "the prepared files stay as they were"
    sets.prepare("camvid", data_dir=where, again=True)
    assert labels(where) == [5, 3]
    sets.prepare("camvid", source=source, data_dir=where)
    assert [path.name for path in where.iterdir()] == ["camvid"], "nothing is left behind"


def test_a_split_that_was_added_is_noticed(source, tmp_path):
    where = tmp_path / "prepared"
    for part in ("val", "valannot", "val.txt"):
        (source / part).rename(tmp_path / part)
    sets.prepare("camvid", source=source, data_dir=where)
    for part in ("val", "valannot", "val.txt"):
        (tmp_path / part).rename(source / part)
    with pytest.raises(BadInput, match=r"5 files.*10 files.*--again"):
        sets.prepare("camvid", source=source, data_dir=where)
    sets.prepare("camvid", source=source, data_dir=where, again=True)
    assert labels(where, "val") == [3, 3]


def test_another_folder_is_noticed_and_a_moved_one_is_not(source, tmp_path):
    where = tmp_path / "prepared"
    sets.prepare("camvid", source=source, data_dir=where)
    moved = tmp_path / "moved"
    source.rename(moved)
    sets.prepare("camvid", source=moved, data_dir=where)
    sets.prepare("camvid", data_dir=where)  # the folder that is remembered is no longer there
    other = tmp_path / "other"
    shutil.copytree(moved, other, copy_function=shutil.copy)
    correct(other, 7)
    with pytest.raises(BadInput, match="--again"):
        sets.prepare("camvid", source=other, data_dir=where)


def test_a_preparation_that_fails_again_leaves_the_old_one(source, tmp_path):
    where = tmp_path / "prepared"
    sets.prepare("camvid", source=source, data_dir=where)
    correct(source, 99)
    with pytest.raises(BadInput, match="label value 99"):
        sets.prepare("camvid", source=source, data_dir=where, again=True)
    assert labels(where) == [3, 3]
    assert [path.name for path in where.iterdir()] == ["camvid"]


def test_prepared_files_inside_the_source_are_no_part_of_it(source):
    sets.prepare("camvid", source=source, data_dir=source)
    sets.prepare("scenes", data_dir=source, options=(("size", 8), ("train", 1), ("val", 1)))
    sets.prepare("camvid", source=source, data_dir=source)
    assert sets.prepared_from("camvid", data_dir=source).files == 10


def test_sets_that_make_themselves_can_be_made_again(tmp_path):
    options = (("size", 8), ("train", 1), ("val", 1))
    for again in (False, True):
        sets.prepare("scenes", data_dir=tmp_path, options=options, again=again)
        assert len(sets.open_split("scenes", "val", data_dir=tmp_path, options=options)) == 1
    assert sets.prepared_from("scenes", data_dir=tmp_path, options=options) is None


def test_the_command_line_says_from_what_and_when(source, tmp_path, jaxseg):
    def say(*words):
        return jaxseg("data", *words, "--data-dir", tmp_path / "prepared")

    done = say("prepare", "camvid", "--source", source)
    assert "prepared on 20" in done.out
    assert f"from {source} (10 files, 0.0 MB, last changed 20" in done.out
    assert f"prepared from: {source} (10 files" in say("show", "camvid").out
    correct(source)
    assert say("prepare", "camvid").status == 2
    assert "is ready" in say("prepare", "camvid", "--again").out


def test_a_link_in_a_circle_ends(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_text("x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert look(tmp_path).files in (1, 2)


# ---- EXIF


def photograph(path, orientation, height=6, width=8):
    """A file whose stored pixels are ``height x width``, to be turned as EXIF says."""
    pixels = RNG.integers(0, 256, (height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


def read(path, label_size):
    with gather() as notes:
        made = example(path, np.zeros(label_size, np.uint8), "x")
    return decode_image(made["image"].getvalue()), report(notes)


def test_a_photo_is_turned_where_only_so_it_fits_its_mask(tmp_path):
    pixels = photograph(tmp_path / "a.png", 6)
    image, notes = read(tmp_path / "a.png", (8, 6))
    np.testing.assert_array_equal(image, np.rot90(pixels, -1))
    assert not notes


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_photo_stays_as_it_is_stored_where_only_so_it_fits_and_the_report_says_so(tmp_path, orientation):
    pixels = photograph(tmp_path / "a.png", orientation)
    image, notes = read(tmp_path / "a.png", (6, 8))
    np.testing.assert_array_equal(image, pixels)
    assert notes == ["not turned as their EXIF entries say, since their labels only fit without: a.png"]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.dstack([pixels, np.full((6, 8), 255, np.uint8)])).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "b.png", (6, 8))[0], pixels)


@pytest.mark.parametrize(("orientation", "size", "turns"), [(6, (6, 6), -1), (8, (6, 6), 1), (3, (6, 8), 2)])
def test_where_both_fit_the_photo_is_turned_as_in_predict_and_the_report_says_so(tmp_path, orientation, size, turns):
    pixels = photograph(tmp_path / "a.png", orientation, *size)
    image, notes = read(tmp_path / "a.png", size)
    np.testing.assert_array_equal(image, np.rot90(pixels, turns))
    assert notes == ["turned as their EXIF entries say, though their labels fit without the turn too: a.png"]


def test_the_refusal_of_an_oblong_pair_names_exif(tmp_path):
    photograph(tmp_path / "a.jpg", 6)
    with pytest.raises(BadInput, match=r"a.jpg is 6x8 \(8x6 without the turn of its EXIF entry\) but its label is 9x9"):
        read(tmp_path / "a.jpg", (9, 9))


def test_notes_reach_the_command_line(source, tmp_path, jaxseg):
    photograph(source / "train" / "a.png", 3)
    done = jaxseg("data", "prepare", "camvid", "--source", source, "--data-dir", tmp_path / "p")
    assert "note: turned as their EXIF entries say, though their labels fit without the turn too: a.png" in done.out


# ---- palettes and bits


def mask(path, numbers, palette):
    image = Image.fromarray(np.asarray(numbers, np.uint8))
    image.putpalette([value for colour in palette for value in colour])
    image.save(path)
    return path


def test_a_mask_in_the_data_sets_own_palette_is_fine(tmp_path):
    palette = camvid.FACTS.palette
    path = mask(tmp_path / "a.png", [[0, 1], [10, 5]], palette)
    with gather() as notes:
        assert label_map(path, dict(enumerate(palette))).tolist() == [[0, 1], [10, 5]]
    assert not notes


def test_a_quantised_mask_is_refused_with_its_numbers(tmp_path):
    """Drawn in the data set's colours, then made a palette image by Pillow, which orders colours by itself."""
    palette = camvid.FACTS.palette
    colours = np.asarray(palette, np.uint8)[[[7, 7, 2], [7, 0, 2]]]
    Image.fromarray(colours).quantize(3).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"its palette gives number . the colour of .*another order.*without a palette"):
        label_map(tmp_path / "a.png", dict(enumerate(palette)))


def test_another_data_sets_palette_is_noted_and_colours_nobody_knows_change_nothing(tmp_path):
    path = mask(tmp_path / "a.png", [[0, 1]], [(1, 2, 3), (4, 5, 6)])
    with gather() as notes:
        assert label_map(path, dict(enumerate(camvid.FACTS.palette))).tolist() == [[0, 1]]
    assert report(notes) == [
        "labels with another palette than the data set's; their numbers are taken as they are: a.png"
    ]
    swapped = [camvid.FACTS.palette[1], camvid.FACTS.palette[0]]
    with pytest.raises(BadInput, match="number 0 the colour of 1"):
        label_map(mask(tmp_path / "b.png", [[0, 1]], swapped), dict(enumerate(camvid.FACTS.palette)))


def test_sixteen_bit_masks_of_small_numbers_are_read_and_others_refused(tmp_path):
    Image.fromarray(np.asarray([[0, 7]], np.uint16)).save(tmp_path / "a.png")
    assert label_map(tmp_path / "a.png").tolist() == [[0, 7]]
    assert label_map(tmp_path / "a.png").dtype == np.uint8
    Image.fromarray(np.asarray([[0, 300]], np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match=r"label values 0\.\.300 are not within 0\.\.255"):
        label_map(tmp_path / "a.png")
