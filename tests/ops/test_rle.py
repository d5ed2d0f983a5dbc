"""Run-length encoding against the COCO tools (strings that pycocotools 2.0.11 wrote, and the tools themselves) and by
hand."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import rle

H, W = 37, 53
ROWS, COLUMNS = np.mgrid[:H, :W]
AWAY = np.hypot(ROWS - 18, COLUMNS - 30)
MASKS = {
    "disc": ((ROWS - 18) ** 2 + (COLUMNS - 20) ** 2 < 150, "h95m06K4M2N2N2O0O2O000O2O00000001N10001N101N2N2N3L5Jgf0"),
    "ring": (
        (AWAY < 15) & (AWAY > 8),
        "mb0;h04M2M4M2O0OED0:NL03N10N040K050KO70I070I070IO90G170I070I070I150K050L020O2M042F0<;101N3L3N3Lm8",
    ),
    "full": (np.ones((H, W), bool), "0Ym1"),
    "empty": (np.zeros((H, W), bool), "Ym1"),
}
POLYGONS = {
    "triangle": (
        [[3.2, 4.1, 40.7, 9.9, 20.5, 33.3]],
        "c31T1101N2N1O2N2N1O2O1N1O2N2N1O2O1N1O2NO1O1O1O2N1N2O1O1O1O2N1O1N2O1O1O1O2N1Ni>",
    ),
    "crossing itself": (
        [[5, 5, 45, 30, 45, 5, 5, 30]],
        "n5i0=N2N101N101N2N101N2N101N101N2N101N2N100000O2N2O0O2N2O0O2O0O2N2O0O2N2O0O2O0O2N2R9",
    ),
    "beyond the image": ([[-20.5, -10, 30, -10, 30, 50, -20.5, 20]], "0P151O1O001O001O_i0bj0"),
    "two parts that overlap": (
        [[2, 2, 10, 2, 10, 10, 2, 10], [8.5, 8.5, 30.25, 12, 25, 36.9]],
        "\\28m000000000000007KN2N1O2O1N1O2N2N2N1O2O1N2N1O2NN2L5J5K5K\\j0",
    ),
    "a sliver": ([[1, 1, 50, 1.3, 50, 1.4]], "Ym1"),
    "outside": ([[100, 100, 120, 100, 120, 120]], "Ym1"),
    "a point twice": ([[4, 4, 4, 4, 20, 6, 12, 30]], "h42S13M3M3N3L3M3M3M00M3M3M4L3M3M3MRV1"),
}


def random_mask(g, h, w):
    mask = g.random((h, w)) < g.choice([0, 0.05, 0.3, 0.5, 0.9, 1])
    return np.kron(mask, np.ones((3, 3)))[:h, :w] > 0 if g.random() < 0.3 else mask


def random_polygon(g, h, w):
    """On the image or beyond, on whole and half pixels, with a point twice."""
    count, kind = int(g.integers(3, 9)), g.integers(4)
    points = [
        lambda: g.random((count, 2)) * [w, h],
        lambda: g.integers(-3, max(h, w) + 4, (count, 2)).astype(float),
        lambda: (g.random((count, 2)) - 0.5) * 3 * [w, h],
        lambda: np.round(g.random((count, 2)) * [w, h] * 2) / 2,
    ][kind]()
    if g.random() < 0.3:
        points[1] = points[0]
    return points.ravel().tolist()


@pytest.mark.parametrize(("mask", "text"), MASKS.values(), ids=MASKS)
def test_masks_become_the_strings_of_the_coco_tools_and_come_back(mask, text):
    encoded = rle.encode(mask)
    runs = [(bool(value), len(list(group))) for value, group in itertools.groupby(mask.ravel(order="F"))]
    assert encoded.counts.tolist() == [0] * runs[0][0] + [length for _, length in runs]
    assert rle.to_coco(encoded) == {"size": [H, W], "counts": text}
    for source in (text, text.encode(), encoded.counts.tolist()):
        assert rle.from_coco({"size": [H, W], "counts": source}, H, W) == encoded
    np.testing.assert_array_equal(rle.decode(encoded), mask)
    assert rle.area(encoded) == mask.sum()


@pytest.mark.parametrize(("polygons", "text"), POLYGONS.values(), ids=POLYGONS)
def test_polygons_become_the_strings_of_the_coco_tools(polygons, text):
    assert rle.to_string(rle.from_coco(polygons, H, W)) == text


def test_long_runs_and_steps_back_survive_the_string():
    counts = np.array([0, 1, 2**31, 5, 3, 2**20, 0, 7])
    size = int(counts.sum())
    assert rle.from_string(rle.to_string(rle.Rle(size, 1, counts)), size, 1).counts.tolist() == counts.tolist()


def test_boxes_overlaps_and_unions_are_those_of_the_masks():
    g = np.random.default_rng(0)
    for _ in range(30):
        h, w = (int(n) for n in g.integers(1, 12, 2))
        masks = np.stack([random_mask(g, h, w) for _ in range(5)])
        encoded = [rle.encode(mask) for mask in masks]
        rows, columns = np.nonzero(masks[0])
        empty = (0, 0, 0, 0)
        sides = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1) if len(rows) else empty
        # COCO: an object over the edge of a column counts as of full height; equal when it is
        box = rle.bounding_box(encoded[0])
        assert box[0::2] == sides[0::2]
        assert box[1] <= sides[1]
        assert box[1] + box[3] >= sides[1] + sides[3]
        assert rle.merge(encoded) == rle.encode(masks.any(0))
        assert rle.merge(encoded, intersect=True) == rle.encode(masks.all(0))
        crowd = g.random(3) < 0.5
        common = np.einsum("ahw,bhw->ab", masks[:2].astype(int), masks[2:].astype(int))
        own, other = masks[:2].sum((1, 2))[:, None], masks[2:].sum((1, 2))[None]
        whole = np.where(crowd[None], own + 0 * other, own + other - common)
        want = np.where(common > 0, common / np.maximum(whole, 1), 0)
        np.testing.assert_array_equal(rle.iou(encoded[:2], encoded[2:], crowd), want)
    assert rle.iou([], encoded[:2]).shape == (0, 2)
    assert rle.iou(encoded[:2], []).shape == (2, 0)


def test_runs_of_no_length_are_no_pixels():
    zigzag = rle.Rle(4, 2, np.array([2, 0, 1, 2, 0, 1, 2, 0]))
    plain = rle.encode(rle.decode(zigzag))
    assert plain.counts.tolist() == [3, 3, 2]
    assert rle.area(zigzag) == 3
    assert rle.bounding_box(zigzag) == rle.bounding_box(plain)
    assert rle.merge([zigzag, zigzag]) == plain
    np.testing.assert_array_equal(rle.iou([zigzag], [plain]), [[1.0]])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
def test_everything_equals_pycocotools():
    tools = pytest.importorskip("pycocotools.mask", reason="the oracle: pip install pycocotools")
    g = np.random.default_rng(0)
    theirs = lambda mask: tools.encode(np.asfortranarray(mask.astype(np.uint8)))  # noqa: E731
    for _ in range(150):
        h, w = (int(n) for n in g.integers(1, 40, 2))
        masks = [random_mask(g, h, w) for _ in range(5)]
        ours, coco = [rle.encode(mask) for mask in masks], [theirs(mask) for mask in masks]
        assert [rle.to_string(one) for one in ours] == [one["counts"].decode() for one in coco]
        assert [rle.from_string(one["counts"], h, w) for one in coco] == ours
        np.testing.assert_array_equal(rle.decode(ours[0]), tools.decode(coco[0]))
        assert [rle.area(one) for one in ours] == tools.area(coco).tolist()
        assert [list(map(float, rle.bounding_box(one))) for one in ours] == tools.toBbox(coco).tolist()
        for intersect in (False, True):
            merged = tools.merge(coco, intersect=int(intersect))
            assert rle.to_string(rle.merge(ours, intersect=intersect)) == merged["counts"].decode()
        crowd = g.random(3) < 0.4
        want = tools.iou(coco[:2], coco[2:], crowd.astype(np.uint8))
        np.testing.assert_array_equal(rle.iou(ours[:2], ours[2:], crowd), want)
        polygons = [random_polygon(g, h, w) for _ in range(int(g.integers(1, 3)))]
        want = tools.merge(tools.frPyObjects(polygons, h, w))["counts"].decode()
        assert rle.to_string(rle.from_polygons(polygons, h, w)) == want, polygons


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rle.encode(np.zeros(4)), r"shape \(4,\)"),
        (lambda: rle.from_coco({"counts": [4]}, 2, 2), "without size"),
        (lambda: rle.from_coco({"size": [2, 3], "counts": [6]}, 3, 2), r"\[2, 3\].*\[3, 2\]"),
        (lambda: rle.from_coco({"size": 4, "counts": [4]}, 2, 2), "size 4"),
        (lambda: rle.from_coco({"size": [2, 2], "counts": [1.5, 2.5]}, 2, 2), "neither integers"),
        (lambda: rle.from_coco({"size": [2, 2], "counts": 4}, 2, 2), "neither integers"),
        (lambda: rle.from_coco({"size": [2, 2], "counts": [5, -1]}, 2, 2), "run of -1"),
        (lambda: rle.from_coco({"size": [2, 2], "counts": [1, 2]}, 2, 2), "of 3 pixels for a mask of 2x2"),
        (lambda: rle.from_string("", 2, 2), "of 0 pixels"),
        (lambda: rle.from_string("X13i", 10, 10), "cut short"),
        (lambda: rle.from_string("X1 3", 10, 10), "' '"),
        (lambda: rle.from_string("Xé", 10, 10), "not ASCII"),
        (lambda: rle.from_string("o" * 20 + "0", 10, 10), "50 bits"),
        (lambda: rle.from_string("1O", 10, 10), "run of -1"),
        (lambda: rle.from_polygons([], 9, 9), "without polygons"),
        (lambda: rle.from_coco([[]], 9, 9), "polygon 0 has 0 points"),
        (lambda: rle.from_polygons([[0, 0, 4, 0, 4, 4], [0, 0, 5, 5]], 9, 9), "polygon 1 has 2 points"),
        (lambda: rle.from_polygons([[0, 0, 4, 0, 4, 4, 1]], 9, 9), "flat list"),
        (lambda: rle.from_polygons([1, 2, 3, 4, 5, 6], 9, 9), "flat list"),
        (lambda: rle.from_polygons([["a", 0, 4, 0, 4, 4]], 9, 9), "numbers"),
        (lambda: rle.from_polygons([[0, 0, 4, 0, float("nan"), 4]], 9, 9), "coordinate of nan"),
        (lambda: rle.from_polygons([[0, 0, 4, 0, 1e9, 4]], 9, 9), "100000 pixels"),
        (lambda: rle.merge([]), "no masks"),
        (lambda: rle.merge([rle.encode(np.zeros((2, 3))), rle.encode(np.zeros((3, 2)))]), "2x3, 3x2"),
        (lambda: rle.iou([rle.encode(np.zeros((2, 2)))], [rle.encode(np.zeros((2, 3)))]), "2x2, 2x3"),
        (lambda: rle.iou([], [rle.encode(np.zeros((2, 3)))], [True, False]), r"shape \(2,\) for 1"),
    ],
)
def test_mistakes_are_named(call, words):
    with pytest.raises(BadInput, match=words):
        call()


def test_data_workers_get_it_without_jax():
    program = (
        "import sys, jaxseg.ops.rle; print([m for m in ('jax', 'jaxlib', 'flax', 'jaxtyping') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
