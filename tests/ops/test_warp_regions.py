"""Warped regions against the authors' ``rcnn_im_crop``, written out pixel by pixel."""

import jax.numpy as jnp
import numpy as np

from jaxseg.ops.warp_regions import warp_regions


def half_up(value):
    return int(np.floor(value + 0.5))


def im_crop(image, box, size, context):
    """``rcnn_im_crop`` in the mode "warp"; boxes half-open, the image's mean is zero."""
    height, width = image.shape[:2]
    grow = size / (size - 2 * context)
    spans, shares = [], []
    for low, high, length in ((box[1], box[3], height), (box[0], box[2], width)):
        centre, half = (low + high) / 2, (high - low) / 2 * grow
        first, end = half_up(centre - half), half_up(centre + half)
        inner = (max(first, 0), min(end, length))
        scale = size / (end - first)
        before = half_up((inner[0] - first) * scale)
        shares.append((before, min(half_up((inner[1] - inner[0]) * scale), size - before)))
        spans.append(inner)
    out = np.zeros((size, size, image.shape[2]))
    (top, rows), (left, columns) = shares
    for i in range(rows):
        for j in range(columns):
            at = []
            for k, count, (low, high) in ((i, rows, spans[0]), (j, columns, spans[1])):
                source = np.clip(low + (k + 0.5) * (high - low) / count - 0.5, low, high - 1)
                at.append((int(source), min(int(source) + 1, high - 1), source - int(source)))
            (y, y1, dy), (x, x1, dx) = at
            upper = image[y, x] * (1 - dx) + image[y, x1] * dx
            lower = image[y1, x] * (1 - dx) + image[y1, x1] * dx
            out[top + i, left + j] = upper * (1 - dy) + lower * dy
    return out


def test_regions_are_those_of_the_authors():
    """Inside, over the edges on all sides, small and large, with context and without."""
    image = np.random.default_rng(0).normal(size=(37, 53, 2))
    boxes = np.asarray([[10, 8, 30, 20], [0, 0, 9, 12], [40, 25, 53, 37], [0, 0, 53, 37], [20, 5, 23, 36]], np.float64)
    for context in (0, 3):
        found = warp_regions(jnp.asarray(image, jnp.float32), jnp.asarray(boxes, jnp.float32), size=23, context=context)
        for box, mine in zip(boxes, np.asarray(found), strict=True):
            np.testing.assert_allclose(mine, im_crop(image, box, 23, context), atol=1e-4)


def test_what_is_no_image_is_left_zero():
    image = jnp.ones((20, 30, 1))
    found = warp_regions(image, jnp.asarray([[0.0, 0.0, 20.0, 20.0]]), size=20, context=0, height=10, width=15)
    assert found[0, :10, :15].min() == 1
    assert found[0, 10:].max() == found[0, :, 15:].max() == 0
