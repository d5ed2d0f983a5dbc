"""Panels, objects, depth and normals: what must be visible where."""

import numpy as np
import pytest

from jaxseg.types import VOID
from jaxseg.viz import colorize_depth, colorize_normal, distinct_palette, draw_boxes, draw_instances, panel
from jaxseg.viz.geometry import depth_range, with_depth_scale

PALETTE = distinct_palette(3)
CLASSES = ("sky", "road", "car")


def colors(picture):
    return {tuple(c) for c in picture.reshape(-1, 3).tolist()}


def example(rows=2, size=(40, 60)):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (rows, *size, 3)).astype(np.uint8)
    truth = np.zeros((rows, *size), np.int32)
    truth[:, 20:] = 1
    truth[:, :5] = VOID
    return image, truth


def test_panel_shows_each_example_in_a_row_and_void_in_black():
    image, truth = example()
    one = panel(image[0], truth[0], truth[0], PALETTE)
    two = panel(image, truth, truth, PALETTE)
    assert one.dtype == np.uint8
    assert two.shape[0] > one.shape[0]
    assert two.shape[1] == one.shape[1]
    assert (0, 0, 0) in colors(one)
    assert (0, 0, 0) not in colors(panel(image[0], np.zeros_like(truth[0]), truth[0] * 0, PALETTE))


def test_panel_without_truth_has_two_columns():
    image, truth = example()
    assert panel(image, None, truth, PALETTE).shape[1] < 0.6 * panel(image, truth, truth, PALETTE).shape[1]


def test_errors_are_painted_in_the_predicted_colour_but_never_on_void():
    image, truth = example(rows=1)
    right = panel(image, truth, np.where(truth == VOID, 1, truth), PALETTE, cell=60)
    errors = slice(8 + 3 * (60 + 8), None)
    assert PALETTE[1] not in colors(right[:, errors])  # predicted on void
    wrong = np.where(truth == VOID, 1, truth)
    wrong[:, 30, 10] = 2
    shown = panel(image, truth, wrong, PALETTE, cell=60)
    changed = (shown != right).any(-1)
    assert changed.sum() == 2  # the pixel in the prediction and in the errors
    assert {tuple(c) for c in shown[changed].tolist()} == {PALETTE[2]}


def test_a_smaller_prediction_sits_in_the_middle():
    image, _ = example(rows=1)
    inner = np.full((1, 20, 30), 2, np.int32)
    shown = panel(image, None, inner, PALETTE, cell=60)
    ys, xs = np.nonzero((shown == PALETTE[2]).all(-1))
    assert (len(ys), np.ptp(ys), np.ptp(xs)) == (600, 19, 29)
    assert xs.min() - 60 - 2 * 8 == 15


def test_legend_names_only_what_occurs():
    image, truth = example(rows=1)
    bare = panel(image, truth, truth % VOID, PALETTE, cell=60)
    with_names = panel(image, truth, truth % VOID, PALETTE, classes=CLASSES, cell=60)
    legend = with_names[bare.shape[0] :]
    assert legend.shape[0] > 0
    assert {PALETTE[0], PALETTE[1], (0, 0, 0)} <= colors(legend)
    assert PALETTE[2] not in colors(legend)


def test_instances_get_their_own_colours_and_the_rest_stays():
    image = np.full((12, 12, 3), 80, np.uint8)
    ids = np.zeros((12, 12), np.uint16)
    ids[2:6, 2:6], ids[8:11, 8:11] = 1, 2
    out = draw_instances(image, ids, alpha=1.0)
    assert tuple(out[3, 3]) == distinct_palette(2)[0]
    assert tuple(out[9, 9]) == distinct_palette(2)[1]
    assert tuple(out[0, 0]) == (80, 80, 80)


def test_boxes_frame_their_half_open_pixels_and_empty_slots_nothing():
    image = np.zeros((20, 20, 3), np.uint8)
    boxes = np.asarray([[3, 4, 10, 12], [0, 0, 20, 20]], np.float32)
    out = draw_boxes(image, boxes, valid=[True, False])
    ys, xs = np.nonzero(out.any(-1))
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (4, 11, 3, 9)
    zoomed = draw_boxes(image, boxes, classes=[1, 0], names=CLASSES, scores=[0.5, 0.1], valid=[True, False], zoom=4)
    assert zoomed.shape == (80, 80, 3)
    assert (255, 255, 255) in colors(zoomed) or len(colors(zoomed)) > 2


def test_visible_keypoints_are_filled_and_absent_ones_not_drawn():
    image = np.zeros((30, 30, 3), np.uint8)
    points = np.asarray([[[8, 8, 2], [20, 20, 0], [8, 20, 1]]], np.float32)
    out = draw_boxes(image, [[0, 0, 30, 30]], keypoints=points)
    assert tuple(out[8, 8]) == distinct_palette(1)[0]
    assert not out[18:23, 18:23].any()
    assert not out[20, 8].any()
    assert out[17:24, 5:12].any()


def test_depth_warms_towards_the_viewer_and_leaves_the_unknown_black():
    depth = np.asarray([[1.0, 2.0, 4.0, 8.0, np.inf, 0.0]])
    out = colorize_depth(depth, near=1.0, far=8.0).astype(int)
    assert out[0, 0, 0] > out[0, 0, 2]  # near: more red than blue
    assert out[0, 2, 2] > out[0, 2, 0]  # far: more blue than red
    assert not out[0, 4:].any()
    assert not colorize_depth(depth, np.zeros(depth.shape, bool)).any()


@pytest.mark.parametrize(
    ("normal", "color"),
    [((1, 0, 0), (255, 128, 128)), ((0, -1, 0), (128, 255, 128)), ((0, 0, -1), (128, 128, 255)), ((0, 0, 0), (0,) * 3)],
)
def test_normals_follow_the_usual_colours(normal, color):
    assert tuple(colorize_normal(np.asarray([[normal]], np.float32))[0, 0]) == color


def test_a_bar_of_metres_has_the_colours_of_the_depths_that_it_names():
    picture = np.zeros((60, 320, 3), np.uint8)
    out = with_depth_scale(picture, 1.0, 4.0)
    np.testing.assert_array_equal(out[:60], picture)
    bar = out[60 + 8, :].astype(int)
    colours = colorize_depth([[1.0, 4.0, 1.6]], near=1.0, far=4.0)[0].astype(int)
    inside = np.flatnonzero((bar != 255).any(-1))
    ends = bar[inside[[0, -1, len(inside) // 2]]]
    assert np.abs(ends - colours).max() <= 6, "1.6 m is half way between 1 m and 4 m in disparity"
    assert (out[60:] == 30).all(-1).any(), "metres are written"
    assert depth_range([[0.0, np.nan]]) is None
