"""Images are read as they are meant to be seen, whatever their mode."""

import numpy as np
import pytest
from PIL import Image

from jaxseg.cli.images import find_images
from jaxseg.data.images import read_image
from jaxseg.errors import BadInput

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]


def grey3(values):
    return np.repeat(values[..., None], 3, -1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_rgb_is_left_alone(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path), RGB)


def test_grey_in_8_16_and_32_bits(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "8.png")
    Image.fromarray(GREY.astype(np.uint16) * 256 + 17).save(tmp_path / "16.png")
    Image.fromarray(GREY.astype(np.uint16) * 256 + 17).save(tmp_path / "16.tif")
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "f.tif")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_image(path), grey3(GREY), err_msg=path.name)


def test_one_bit_and_palette(tmp_path):
    Image.fromarray(GREY > 128).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), grey3((GREY > 128).astype(np.uint8) * 255))
    indexed = Image.fromarray((GREY % 3).astype(np.uint8))
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "p.png")
    table = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), table[GREY % 3])


def test_transparency_lies_over_white(tmp_path):
    alpha = np.where(GREY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "a.png")
    expected = np.where(alpha[..., None] > 0, RGB, 255)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), grey3(np.where(alpha > 0, GREY, 255)))


def test_cmyk(tmp_path):
    inks = np.dstack([255 - RGB, np.zeros_like(GREY)])
    Image.merge("CMYK", [Image.fromarray(x) for x in np.moveaxis(inks, -1, 0)]).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize(("orientation", "undo"), [(3, 2), (6, 1), (8, 3)])
def test_the_cameras_orientation(tmp_path, orientation, undo):
    """EXIF 6 says that the picture was stored turned: it must be turned clockwise to be seen upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(np.rot90(RGB, undo))).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_several_frames_are_refused(tmp_path):
    stack = [Image.fromarray(GREY) for _ in range(3)]
    stack[0].save(tmp_path / "a.tif", save_all=True, append_images=stack[1:])
    with pytest.raises(BadInput, match="3 frames"):
        read_image(tmp_path / "a.tif")


def test_each_image_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "strange").write_bytes((tmp_path / "b.png").read_bytes())
    found = find_images(["*.png", str(tmp_path / "b.png").replace(str(tmp_path) + "/", ""), "**/c.png", "strange"])
    assert [str(path) for path in found] == ["b.png", "deep/c.png", "strange"]
    assert [path.name for path in find_images([str(tmp_path)])] == ["a.JPG", "b.png"]


def test_subfolders_of_a_pattern_are_kept(tmp_path):
    for name in ("a/x.png", "b/x.png", "b/c/y.png", "b/.hidden.png", "._x.png", "z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    found = find_images([str(tmp_path / "**" / "*.png"), str(tmp_path / "z.png")])
    assert list(found.values()) == ["a/x", "b/c/y", "b/x", "z"]
    assert list(find_images([str(tmp_path)]).values()) == ["z"]
    assert list(find_images([str(tmp_path / "._x.png")]).values()) == ["._x"]  # named outright
    with pytest.raises(BadInput, match="would both be written as x_label"):
        find_images([str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png")])


def test_what_an_earlier_run_wrote_is_no_image(tmp_path):
    for name in ("x.png", "x_label.png", "y_label.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    (tmp_path / "x.json").write_text('{"model": {}, "pictures": ["x_label.png", "x_overlay.png"]}')
    (tmp_path / "y.json").write_text('{"pictures": ["y_label.png"]}')  # another program's
    (tmp_path / "broken.json").write_text("{")
    left_out = []
    found = find_images([str(tmp_path)], left_out)
    assert [path.name for path in found] == ["x.png", "y_label.png"]
    assert [path.name for path in left_out] == ["x_label.png"]
