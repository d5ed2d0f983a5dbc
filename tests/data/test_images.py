"""Image files of every kind: read rightly, or refused by name."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxseg.data.images import orientation_of, palette_of, read_image, read_label
from jaxseg.errors import BadInput

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RGB[..., 0]


def grey3(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, -1)


def png(path, depth, colour, rows):
    """Write a PNG by hand, big-endian samples of ``depth`` bits: Pillow writes neither 2 bits nor 16 in colour."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = rows.shape[:2]
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
        lines = [np.packbits(line.ravel()).tobytes() for line in bits.astype(np.uint8)]
    else:
        lines = [line.astype(f">u{depth // 8}").tobytes() for line in rows]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b""),
    )
    return path


def tiff(path, values, **options):
    tifffile.imwrite(path, values, **options)
    return path


def refused(path, rule, reader=read_image, **options):
    with pytest.raises(BadInput) as caught:
        reader(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert rule in message, message
    assert "\n" not in message


# ---- values of more than 8 bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_that_fill_their_range_keep_their_upper_eight(tmp_path, suffix):
    wide = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    wide[0, 0] = 65535
    Image.fromarray(wide).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), grey3(wide >> 8))


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint16), (10, np.uint16), (12, np.int32), (14, np.uint16)])
def test_camera_data_in_a_wide_container_would_be_nearly_black_and_is_refused(tmp_path, bits, kind):
    values = RNG.integers(0, 2**bits, (5, 7)).astype(kind)
    values[0, :2] = 0, 2**bits - 1
    path = tiff(tmp_path / "a.tif", values)
    refused(path, f"nearly black under 0..65535; say --range 0 {2**bits - 1} ")
    expected = grey3(values >> (bits - 8))
    np.testing.assert_array_equal(read_image(path, value_range=(0, 2**bits - 1)), expected)
    refused(path, "not from 5 to 5", value_range=(5, 5))


def test_twelve_bit_tiffs_say_so_themselves(tmp_path):
    """Two samples in three bytes, which Pillow reads and tifffile alone does not."""
    values = np.asarray([[0, 4095, 256, 2048]], np.uint16)
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    entries = [(256, 3, 4), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 1)]
    entries.append((279, 4, packed.size))
    data = packed.astype(np.uint8).tobytes().ljust(8, b"\0")
    file = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries))
    file += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    (tmp_path / "a.tif").write_bytes(file)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), grey3(values >> 4))


def test_a_tiffs_own_range_is_used_and_held_to(tmp_path):
    values = RNG.integers(100, 1100, (5, 7)).astype(np.uint16)
    values[0, :2] = 100, 1099
    tags = [(340, "H", 1, 100, False), (341, "H", 1, 1099, False)]
    path = tiff(tmp_path / "a.tif", values, extratags=tags)
    expected = np.clip((values.astype(int) - 100) * 256 // 1000, 0, 255)
    np.testing.assert_array_equal(read_image(path), grey3(expected))
    refused(
        tiff(tmp_path / "b.tif", values + np.uint16(1), extratags=tags), "outside the 100..1099 that its tags state"
    )


@pytest.mark.parametrize(("factor", "hint"), [(255.0, "0 255"), (4095.0, "0 4095"), (1e6, "0 1e+06")])
def test_floats_count_from_0_to_1_and_others_are_refused(tmp_path, factor, hint):
    values = RNG.uniform(0, 1, (5, 7)).astype(np.float32)
    values[0, :2] = 0, 1
    np.testing.assert_array_equal(read_image(tiff(tmp_path / "a.tif", values)), grey3(np.rint(values * 255)))
    wide = tiff(tmp_path / "b.tif", (values * factor).astype(np.float32))
    refused(wide, f"lie outside 0..1; say --range {hint}")
    near = read_image(wide, value_range=(0, factor)).astype(int) - np.rint(values * 255)[..., None]
    assert np.abs(near).max() <= 1
    refused(tiff(tmp_path / "c.tif", np.where(values > 0.9, np.nan, values)), "no finite numbers")
    refused(tiff(tmp_path / "d.tif", values * np.float32(0.1)), "nearly black")


def test_signed_and_very_large_integers_need_a_range(tmp_path):
    path = tiff(tmp_path / "a.tif", np.asarray([[-1024, 3071]], np.int16))
    refused(path, "int16 values -1024..3071 lie outside 0..65535; say --range -1024 3071")
    np.testing.assert_array_equal(read_image(path, value_range=(-1024, 3071)), grey3([[0, 255]]))
    refused(tiff(tmp_path / "b.tif", np.asarray([[0, 70000]], np.uint32)), "outside 0..65535")


def test_a_black_image_is_black(tmp_path):
    np.testing.assert_array_equal(
        read_image(tiff(tmp_path / "a.tif", np.zeros((3, 4), np.uint16))), grey3([[0] * 4] * 3)
    )


def test_colour_of_16_bits(tmp_path):
    wide = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    np.testing.assert_array_equal(read_image(tiff(tmp_path / "a.tif", wide, photometric="rgb")), wide >> 8)
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", 16, 2, wide)), wide >> 8)
    dark = png(tmp_path / "dark.png", 16, 2, wide >> 4)
    refused(dark, "nearly black under 0..65535; save it as TIFF or npy")
    refused(dark, "to which no range can be applied", value_range=(0, 4095))
    np.testing.assert_array_equal(
        read_image(tiff(tmp_path / "b.tif", wide >> 4, photometric="rgb"), value_range=(0, 4095)), wide >> 8
    )


def test_a_range_stretches_eight_bits_too(tmp_path):
    Image.fromarray(GREY // 8).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", value_range=(0, 31)), grey3(GREY // 8 * 8))


# ---- colours


def test_cmyk_is_what_its_inks_leave(tmp_path):
    inks = np.dstack([255 - RGB, np.zeros_like(GREY)])
    for suffix in ("tif", "jpg"):
        image = Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(x)) for x in np.moveaxis(inks, -1, 0)])
        flat = Image.merge("CMYK", [Image.new("L", (16, 16), v) for v in (255, 0, 0, 0)])  # cyan
        (image if suffix == "tif" else flat).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - (0, 255, 255)).max() <= 3


def test_a_palette_with_alpha_lies_over_white(tmp_path):
    indexed = Image.fromarray((GREY % 3).astype(np.uint8))
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / "a.png", transparency=bytes([255, 0, 127]))
    half = np.rint(np.asarray([70, 80, 90]) * 127 / 255 + 255 * 128 / 255)
    table = np.asarray([[10, 20, 30], [255, 255, 255], half], np.uint8)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - table[GREY % 3]).max() <= 1
    assert (read_image(tmp_path / "a.png")[GREY % 3 == 1] == 255).all()


def test_grey_with_alpha_lies_over_white(tmp_path):
    alpha = np.where(GREY > 100, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([GREY, alpha])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), grey3(np.where(alpha > 0, GREY, 255)))


# ---- geometry, size, damage


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "deep png", "tif", "deep tif"])
def test_an_exif_turn_is_heeded_in_every_format(tmp_path, orientation, kind):
    """Against Pillow's own table of what each orientation means."""
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
    values = GREY.astype(np.uint16) * 257 if "deep" in kind else GREY
    upright = Image.fromarray(GREY)
    if orientation > 1:
        upright = upright.transpose(Image.Transpose(turned[orientation]))
    path = tmp_path / f"a.{kind[-3:]}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    if "tif" in kind:
        tiff(path, values, extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(values).save(path, exif=exif)
    np.testing.assert_array_equal(read_image(path), grey3(np.asarray(upright)))
    assert orientation_of(path) == orientation


def test_a_single_pixel(tmp_path):
    for name, array in {"a.png": RGB[:1, :1], "b.tif": GREY[:1, :1], "c.jpg": GREY[:1, :1]}.items():
        Image.fromarray(np.ascontiguousarray(array)).save(tmp_path / name)
        assert read_image(tmp_path / name).shape == (1, 1, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB[:1, :1])
    np.testing.assert_array_equal(read_label(tmp_path / "b.tif"), GREY[:1, :1])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_animations_and_stacks_are_refused(tmp_path, suffix):
    frames = [Image.fromarray(np.roll(RGB, i, 0)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    refused(tmp_path / f"a.{suffix}", "3 frames; give each as an image of its own")


def test_thumbnails_and_second_pictures_are_not_stacks(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb")
        file.write(np.ascontiguousarray(RGB[::2, ::2]), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)
    flat = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    flat[0].save(tmp_path / "a.mpo", save_all=True, append_images=flat[1:])
    assert np.abs(read_image(tmp_path / "a.mpo").astype(int) - (255, 0, 0)).max() < 8


def test_the_first_picture_of_a_telephone_is_turned_upright(tmp_path):
    """A Multi-Picture JPEG under the usual suffix, whose second picture is smaller, with an EXIF turn."""
    flat, turn = [Image.new("RGB", size, colour) for size, colour in (((16, 8), "red"), ((4, 4), "blue"))], Image.Exif()
    turn[0x0112] = 6
    flat[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=flat[1:], exif=turn)
    found = read_image(tmp_path / "a.jpg")
    assert found.shape == (16, 8, 3)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() < 8


def test_empty_damaged_and_foreign_files_are_named(tmp_path):
    for suffix in ("png", "jpg", "tif", "npy"):
        (tmp_path / f"empty.{suffix}").touch()
        refused(tmp_path / f"empty.{suffix}", "is empty (0 bytes)")
        refused(tmp_path / f"empty.{suffix}", "is empty (0 bytes)", read_label)
    large = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in ("png", "jpg", "tif"):
        Image.fromarray(large).save(tmp_path / f"cut.{suffix}")
    tiff(tmp_path / "deep.tif", large.astype(np.uint16))
    np.save(tmp_path / "cut.npy", large)
    for path in [*tmp_path.glob("cut.*"), tmp_path / "deep.tif"]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        refused(path, "is not an image that can be read")
    (tmp_path / "words.png").write_text("this is not an image")
    refused(tmp_path / "words.png", "is not an image that can be read")
    refused(tmp_path / "absent.png", "there is no file")


def test_a_decompression_bomb_is_refused_by_its_size_and_the_way_around_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSEG_MAX_PIXELS", "30")
    Image.fromarray(RGB).save(tmp_path / "a.png")
    tiff(tmp_path / "a.tif", GREY.astype(np.uint16))
    np.save(tmp_path / "a.npy", GREY)
    for path in tmp_path.iterdir():
        refused(
            path, "is 7x5: above the limit of 30 pixels, a guard against decompression bombs; set JAXSEG_MAX_PIXELS=35"
        )
    monkeypatch.setenv("JAXSEG_MAX_PIXELS", "35")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
    monkeypatch.setenv("JAXSEG_MAX_PIXELS", "many")
    with pytest.raises(BadInput, match="JAXSEG_MAX_PIXELS is 'many', not a number"):
        read_image(tmp_path / "a.png")


def test_the_usual_limit_stands_in_front_of_the_decoder(tmp_path):
    """A header that promises 50000 x 50000 pixels, and nothing behind it."""
    png(tmp_path / "a.png", 8, 2, RGB)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">II", 50000, 50000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    (tmp_path / "a.png").write_bytes(bytes(data))
    refused(tmp_path / "a.png", "is 50000x50000: above the limit of 178956970 pixels")
    assert Image.MAX_IMAGE_PIXELS == 89478485, "Pillow's own guard is as it was"


# ---- bands as they are stored


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_bands_come_as_they_are_stored(tmp_path, bands, kind, planar):
    values = RNG.integers(0, 200, (5, 7, bands)).astype(kind)
    stored = np.moveaxis(values, -1, 0) if planar == "separate" else values
    if bands == 1:
        stored = values[..., 0]
    options = {"planarconfig": planar} if bands > 1 else {}
    tiff(tmp_path / "a.tif", np.ascontiguousarray(stored), photometric="minisblack", **options)
    np.save(tmp_path / "a.npy", values if bands > 1 else values[..., 0])
    for path in (tmp_path / "a.tif", tmp_path / "a.npy"):
        for channels in (None, *({bands} - {3})):
            found = read_image(path, channels=channels)
            assert found.dtype == kind
            np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_near_infrared_beside_rgb_is_a_band_and_no_transparency(tmp_path, kind):
    """A fourth sample that the file does not explain is kept where bands are read, and left out of a picture."""
    top = np.iinfo(kind).max
    values = np.random.default_rng(0).integers(0, top, (6, 8, 4), endpoint=True).astype(kind)
    values[0, :2] = ((0,) * 4, (top,) * 4)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channels=None), values)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channels=4), values)
    shown = values[..., :3] if kind == np.uint8 else np.rint(values[..., :3] / 257)
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - shown).max() <= 1


def test_a_wrong_number_of_bands_is_refused(tmp_path):
    path = tiff(tmp_path / "a.tif", np.zeros((4, 6, 13), np.uint16), photometric="minisblack", planarconfig="contig")
    refused(path, "has 13 bands, not 4", channels=4)
    refused(path, "has 13 bands; a picture of 1 or 3 is needed here")
    refused(path, "a range of values is for RGB", channels=13, value_range=(0, 10))
    Image.fromarray(RGB).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", "has 3 bands, not 4", channels=4)


def test_other_types_become_the_three_that_a_batch_knows(tmp_path):
    for kind, expected in {"int16": "uint16", "int64": "uint16", "float64": "float32", "bool": "uint8"}.items():
        np.save(tmp_path / "a.npy", np.ones((2, 3, 4), kind))
        found = read_image(tmp_path / "a.npy", channels=None)
        assert (found.dtype, found.min(), found.max()) == (expected, 1, 1)
    np.save(tmp_path / "a.npy", np.full((2, 3, 4), -5, np.int16))
    assert read_image(tmp_path / "a.npy", channels=None).dtype == np.float32
    np.save(tmp_path / "a.npy", np.full((2, 3, 4), 2**40 + 1, np.int64))
    refused(tmp_path / "a.npy", "do not fit float32", channels=None)


def test_pictures_have_one_three_or_four_bands(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    Image.fromarray(GREY).save(tmp_path / "grey.png")
    rgba = np.dstack([RGB, GREY])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", channels=1), GREY[..., None])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png", channels=None), GREY[..., None])
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", channels=None), RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", channels=4), rgba)
    luma = np.asarray(Image.fromarray(RGB).convert("L"))
    np.testing.assert_array_equal(read_image(tmp_path / "rgb.png", channels=1), luma[..., None])
    wide = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    refused(png(tmp_path / "deep.png", 16, 2, wide), "a colour PNG of 16 bits", channels=None)


# ---- labels


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_grey_labels_of_few_bits_are_the_stored_numbers(tmp_path, depth):
    numbers = RNG.integers(0, 2**depth, (5, 7))
    numbers[0, :2] = 0, 2**depth - 1
    found = read_label(png(tmp_path / "a.png", depth, 0, numbers))
    np.testing.assert_array_equal(found, numbers)
    assert found.dtype == (np.uint16 if depth == 16 else np.uint8)


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_palette_labels_are_the_stored_numbers_whatever_their_bits(tmp_path, colours):
    numbers = RNG.integers(0, colours, (5, 7)).astype(np.uint8)
    numbers[0, :2] = 0, colours - 1
    image = Image.fromarray(numbers)
    palette = RNG.integers(0, 256, (colours, 3), np.uint8)
    image.putpalette(palette.ravel().tolist())
    for suffix in ("png", "tif"):
        image.save(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal(read_label(tmp_path / f"a.{suffix}"), numbers, err_msg=suffix)
    assert palette_of(tmp_path / "a.png")[:colours] == [tuple(colour) for colour in palette.tolist()]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_labels_are_the_stored_numbers_even_where_zero_is_white(tmp_path, photometric):
    np.testing.assert_array_equal(read_label(tiff(tmp_path / "8.tif", GREY, photometric=photometric)), GREY)
    bits = GREY > 128
    np.testing.assert_array_equal(read_label(tiff(tmp_path / "1.tif", bits, photometric=photometric)), bits)
    wide = RNG.integers(0, 60000, (5, 7)).astype(np.uint16)
    np.testing.assert_array_equal(read_label(tiff(tmp_path / "16.tif", wide, photometric=photometric)), wide)


def test_labels_may_be_arrays_and_never_colours(tmp_path):
    np.save(tmp_path / "a.npy", GREY.astype(np.int64))
    np.testing.assert_array_equal(read_label(tmp_path / "a.npy"), GREY)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    refused(tmp_path / "a.png", "is not a map of one 8-bit class number per pixel", read_label)
    np.save(tmp_path / "b.npy", GREY.astype(np.float32))
    refused(tmp_path / "b.npy", "is not a map of one class number per pixel: float32[5 7 1]", read_label)
