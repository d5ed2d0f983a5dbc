"""Anchors against torchvision's generator, detectron2's arithmetic written out, and the values that papers print."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import anchors as ops
from tests.torchvision_cpu import torchvision_or_skip

RATIOS = (0.5, 1.0, 2.0)
FPN = tuple((size,) for size in (32, 64, 128, 256, 512))
RETINANET = tuple(tuple(int(x * 2 ** (i / 3)) for i in range(3)) for x in (32, 64, 128, 256, 512))


def pyramid(height, width, strides=(4, 8, 16, 32, 64)):
    return [(-(-height // s), -(-width // s)) for s in strides]


@pytest.mark.parametrize("sizes", [FPN, RETINANET], ids=["FPN", "RetinaNet"])
@pytest.mark.parametrize(("height", "width"), [(96, 160), (75, 50)])
def test_anchors_equal_torchvision(height, width, sizes):
    torch = pytest.importorskip("torch")
    torchvision_or_skip()
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    grids = pyramid(height, width)  # 75 x 50: strides that are no powers of two
    image = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
    (want,) = AnchorGenerator(sizes, (RATIOS,) * 5)(image, [torch.zeros(1, 1, *grid) for grid in grids])
    anchors, counts = ops.torchvision_anchors((height, width), grids, sizes, (RATIOS,) * 5)
    np.testing.assert_array_equal(anchors, want.numpy())
    assert anchors.dtype == jnp.float32
    assert counts == tuple(y * x * 3 * len(s) for (y, x), s in zip(grids, sizes, strict=True))
    jitted = jax.jit(lambda: ops.torchvision_anchors((height, width), grids, sizes, (RATIOS,) * 5)[0])()
    np.testing.assert_array_equal(jitted, anchors)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_anchors_equal_detectron2s_loops(offset):
    sizes, strides = ((32.0, 64.0), (128.0,)), (8, 16)
    grids = [(3, 2), (2, 1)]
    want = []
    for (rows, cols), stride, level in zip(grids, strides, sizes, strict=True):
        for y in range(rows):
            for x in range(cols):
                for size in level:
                    for ratio in RATIOS:
                        w = math.sqrt(size**2 / ratio)
                        h = ratio * w
                        cx, cy = (x + offset) * stride, (y + offset) * stride
                        want.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    anchors, counts = ops.detectron2_anchors(grids, strides, sizes, (RATIOS, RATIOS), offset=offset)
    np.testing.assert_allclose(anchors, want, rtol=1e-6)
    assert counts == (36, 6)
    areas = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    np.testing.assert_allclose(jnp.unique(jnp.round(areas)), [32**2, 64**2, 128**2])


def test_the_published_base_anchors():
    """detectron2's are exact, torchvision's rounded half to even: 32 at 1:2 is 45.25 wide."""
    np.testing.assert_array_equal(
        ops.rounded_base_anchors((32,), RATIOS), [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    )
    np.testing.assert_allclose(ops.exact_base_anchors((32,), (0.5,)), [[-22.627417, -11.313708, 22.627417, 11.313708]])
    # torchvision turns the ratios outside and the sizes inside, detectron2 the other way.
    np.testing.assert_array_equal(ops.rounded_base_anchors((2, 4), (1.0, 4.0))[:, 2:], [[1, 1], [2, 2], [0, 2], [1, 4]])
    np.testing.assert_array_equal(ops.exact_base_anchors((2, 4), (1.0, 4.0))[:, 2:], [[1, 1], [0.5, 2], [2, 2], [1, 4]])


def test_the_pyramid_of_coco_has_217413_anchors():
    grids = pyramid(800, 1088)
    anchors, counts = jax.eval_shape(lambda: ops.torchvision_anchors((800, 1088), grids, FPN, (RATIOS,) * 5))
    del counts
    assert anchors.shape == (sum(y * x * 3 for y, x in grids), 4) == (217_413, 4)


def test_levels_that_do_not_correspond_are_named():
    with pytest.raises(BadInput, match="2 of grids, 1 of sizes, 2 of ratios"):
        ops.torchvision_anchors((64, 64), [(2, 2), (1, 1)], [(32,)], [(1.0,), (1.0,)])
    with pytest.raises(BadInput, match="0 of grids"):
        ops.detectron2_anchors([], [], [], [])


def test_the_nine_anchors_of_faster_rcnn():
    """As its authors' code prints them, first and last pixels, x0 y0 x1 y1; ours are half-open."""
    printed = [
        (-84, -40, 99, 55),
        (-176, -88, 191, 103),
        (-360, -184, 375, 199),
        (-56, -56, 71, 71),
        (-120, -120, 135, 135),
        (-248, -248, 263, 263),
        (-36, -80, 51, 95),
        (-80, -168, 95, 183),
        (-168, -344, 183, 359),
    ]
    found, counts = ops.py_faster_rcnn_anchors([(2, 2)], [16], [(128, 256, 512)], [RATIOS])
    found = np.asarray(found)
    np.testing.assert_array_equal(found[:9] - np.asarray([0, 0, 1, 1]), printed)
    np.testing.assert_array_equal(found[9:18], found[:9] + np.asarray([16, 0, 16, 0]))
    np.testing.assert_array_equal(found[18:27], found[:9] + np.asarray([0, 16, 0, 16]))
    assert counts == (36,)
