"""Codings of boxes against the authors' arithmetic, written out on corners that are first and last pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops import codings

LAST = np.asarray([0.0, 0.0, 1.0, 1.0])


def pixels(count=6):
    """Boxes by their first and last pixels."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 40, (count, 2))
    return np.concatenate([first, first + rng.integers(2, 60, (count, 2))], 1).astype(np.float64)


def transform(rois, truth, more):
    """``bbox_transform`` of py-faster-rcnn with ``more`` 1, of fast-rcnn with its EPS."""
    w, h = rois[:, 2] - rois[:, 0] + more, rois[:, 3] - rois[:, 1] + more
    x, y = rois[:, 0] + 0.5 * w, rois[:, 1] + 0.5 * h
    gw, gh = truth[:, 2] - truth[:, 0] + more, truth[:, 3] - truth[:, 1] + more
    gx, gy = truth[:, 0] + 0.5 * gw, truth[:, 1] + 0.5 * gh
    return np.stack([(gx - x) / w, (gy - y) / h, np.log(gw / w), np.log(gh / h)], 1)


def inverse(rois, deltas, more):
    w, h = rois[:, 2] - rois[:, 0] + more, rois[:, 3] - rois[:, 1] + more
    x, y = rois[:, 0] + 0.5 * w + deltas[:, 0] * w, rois[:, 1] + 0.5 * h + deltas[:, 1] * h
    w, h = w * np.exp(deltas[:, 2]), h * np.exp(deltas[:, 3])
    return np.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], 1)


@pytest.mark.parametrize(("coding", "more"), [(codings.INCLUSIVE, 1.0), (codings.CORNERS, 1e-14)])
def test_codes_are_the_authors(coding, more):
    rois, truth = pixels(), pixels()[::-1]
    half_open = [jnp.asarray(boxes + LAST, jnp.float32) for boxes in (truth, rois)]
    codes = codings.encode(*half_open, coding=coding)
    np.testing.assert_allclose(codes, transform(rois, truth, more), rtol=1e-4, atol=1e-5)
    deltas = np.random.default_rng(1).normal(0, 0.3, (len(rois), 4))
    found = codings.decode(jnp.asarray(deltas, jnp.float32), half_open[1], coding=coding)
    np.testing.assert_allclose(found, inverse(rois, deltas, more) + LAST, rtol=1e-4, atol=1e-3)


def test_a_region_of_one_pixel_has_finite_codes():
    box, one = jnp.asarray([[0.0, 0.0, 9.0, 9.0]]), jnp.asarray([[3.0, 3.0, 4.0, 4.0]])
    assert np.isfinite(codings.encode(box, one, coding=codings.CORNERS)).all()


def test_an_unknown_coding_is_refused():
    box = jnp.asarray([[0.0, 0.0, 9.0, 9.0]])
    for call in (codings.encode, codings.decode):
        with pytest.raises(BadInput, match=r"'caffe'.*'half_open', 'inclusive', 'corners'"):
            call(box, box, coding="caffe")
