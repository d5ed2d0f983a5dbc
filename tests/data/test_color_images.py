"""Images as the truth of colorization: folders of images alone, colours that must be there, hints of a user."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.data import Data, Source, sets
from jaxseg.data.transforms import ColorHints, RandomFlip, RequireColor
from jaxseg.errors import BadInput
from jaxseg.ops.lab import rgb_to_lab

IMAGES = (("masks", "none"),)


def photographs(folder, *, grey=()):
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "val/a"):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(np.repeat(pixels[..., :1], 3, -1) if name in grey else pixels).save(path)
    return f"folder:{folder}"


def test_a_folder_of_images_alone_is_a_data_set_by_option(tmp_path):
    name = photographs(tmp_path)
    with pytest.raises(BadInput, match=r"holds 3 images but no masks.*masks=DIR .none takes the images alone"):
        sets.open_split(name, "train")
    records = sets.open_split(name, "train", keys=("image",), options=IMAGES)
    assert [record["image"].shape for record in records] == [(6, 8, 3)] * 2
    assert [list(record) for record in records] == [["image"]] * 2
    data = Data(train=Source(name, "train", (), IMAGES), val=Source(name, "val", (), IMAGES), keys=("image",))
    assert data.facts().splits == {"train": 2, "val": 1}


def test_a_grey_image_given_as_colour_is_refused_by_name(tmp_path):
    name = photographs(tmp_path, grey=("train/b",))
    train = Source(name, "train", (RequireColor(),), IMAGES)
    data = Data(train=train, val=train, keys=("image",))
    with pytest.raises(BadInput, match=r"train.*1.*: the image is grey, but colours are to be learnt from it") as error:
        list(data.eval_batches(batch_size=1))
    assert "\n" not in str(error.value)


def test_hints_are_mean_colours_of_squares_and_move_with_the_image():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    record = ColorHints(stop=0.05)({"image": image}, np.random.default_rng(1))
    assert 0.01 < record["hint_valid"].mean() < 0.9
    assert not record["hints"][~record["hint_valid"]].any()
    one = ColorHints(stop=0.5, most=1, largest=1)
    rng = np.random.default_rng(0)
    found = next(r for r in (one({"image": image}, rng) for _ in range(50)) if r["hint_valid"].any())
    ((y, x),) = np.argwhere(found["hint_valid"])
    np.testing.assert_allclose(found["hints"][y, x], rgb_to_lab(image[y, x])[1:], rtol=1e-5)
    flipped = next(r for r in (RandomFlip()(found, rng) for _ in range(50)) if not np.array_equal(r["image"], image))
    np.testing.assert_array_equal(flipped["hints"], found["hints"][:, ::-1])
    np.testing.assert_array_equal(flipped["hint_valid"], found["hint_valid"][:, ::-1])


def test_the_number_of_hints_is_geometric():
    rng, image = np.random.default_rng(0), np.zeros((64, 64, 3), np.uint8)
    none = [not ColorHints()({"image": image}, rng)["hint_valid"].any() for _ in range(800)]
    assert 0.07 < np.mean(none) < 0.18  # one in eight has none
    assert not ColorHints(stop=1)({"image": image}, rng)["hint_valid"].any()
