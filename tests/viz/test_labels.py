import io

import numpy as np
import pytest
from PIL import Image

from jaxseg.types import VOID
from jaxseg.viz import colorize, distinct_palette, label_png, overlay, voc_palette
from jaxseg.viz.labels import edges

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))
LABEL = np.asarray([[0, 1, 2], [VOID, 2, 1]], np.int32)


def test_voc_palette_starts_as_published():
    # background, aeroplane, bicycle, bird, boat, bottle ... tv/monitor: the colours of the VOC devkit
    known = {1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0),
             15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    palette = voc_palette(256)
    assert palette[0] == (0, 0, 0)
    assert {k: palette[k] for k in known} == known


def test_distinct_colours_are_distinct_and_the_same_for_any_number():
    palette = np.asarray(distinct_palette(24), int)
    apart = np.abs(palette[:, None] - palette[None]).sum(-1) + 1000 * np.eye(24, dtype=int)
    assert apart.min() > 15
    assert palette.max(1).min() > 100  # none is near black, which means void
    assert distinct_palette(5) == distinct_palette(24)[:5]


def test_colorize_looks_colours_up_and_paints_the_unknown_black():
    table = {**dict(enumerate(PALETTE)), VOID: (0, 0, 0)}
    for y, x in np.ndindex(LABEL.shape):
        assert tuple(colorize(LABEL, PALETTE)[y, x]) == table[int(LABEL[y, x])]
    assert not colorize(np.asarray([[-1, 3, 300]]), PALETTE).any()


def test_overlay_mixes_inside_and_keeps_borders_strong():
    image = np.full((4, 6, 3), 100, np.uint8)
    label = np.zeros((4, 6), np.int32)
    label[:, 3:] = 1
    out = overlay(image, label, PALETTE, alpha=0.5).astype(int)
    np.testing.assert_array_equal(out[:, 0], np.broadcast_to([55, 60, 65], (4, 3)))
    assert np.abs(out[:, 2] - PALETTE[0]).max() <= 10
    np.testing.assert_array_equal(overlay(image, label, PALETTE, alpha=0.0)[:, 0], image[:, 0])
    np.testing.assert_array_equal(edges(label), np.arange(6)[None].repeat(4, 0) == 2)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_label_png_keeps_labels_as_pixels_and_colours_as_palette(dtype):
    picture = Image.open(io.BytesIO(label_png(LABEL.astype(dtype), PALETTE)))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), LABEL)
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colorize(LABEL, PALETTE))


def test_an_overlay_is_mixed_in_blocks_of_rows_without_seams(monkeypatch):
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (20, 7, 3), np.uint8), rng.integers(0, 3, (20, 7))
    whole = overlay(image, label, PALETTE)
    monkeypatch.setattr("jaxseg.viz.labels.ROWS", 3)
    np.testing.assert_array_equal(overlay(image, label, PALETTE), whole)
