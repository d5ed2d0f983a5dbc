"""Masks pasted on the host are those pasted on the device, and windows of masks have the runs of the whole."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxseg.errors import BadInput
from jaxseg.ops import rle
from jaxseg.ops.masks import paste_masks, paste_masks_aligned
from jaxseg.ops.paste import paste_rle, paste_window

ON_DEVICE = {"torchvision": paste_masks, "detectron2": paste_masks_aligned}


def boxes(rng, height, width):
    """Inside, across each edge, the whole image, without area, upside down, far away, not finite."""
    corners = rng.uniform(-15, 60, (20, 4))
    some = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    some[0] = [0, 0, width, height]
    some[1, 2:] = some[1, :2]
    some[2] = [30, 30, 10, 12]
    some[3] = [1e5, 1e5, 2e5, 2e5]
    some[4, 1] = np.nan
    return some.astype(np.float32)


@pytest.mark.parametrize("rule", ON_DEVICE)
@pytest.mark.parametrize("side", [1, 2, 14])
def test_host_and_device_paste_alike(rule, side):
    rng = np.random.default_rng(side)
    drawn = 0
    for height, width in ((37, 61), (64, 20)):
        where, masks = boxes(rng, height, width), rng.uniform(0.3, 1, (20, side, side)).astype(np.float32)
        expected = np.asarray(ON_DEVICE[rule](jnp.asarray(masks), jnp.asarray(where), height=height, width=width))
        for mask, box, whole in zip(masks, where, expected, strict=True):
            found = paste_rle(mask, box, height, width, rule=rule)
            assert found == rle.encode(whole)
            drawn += whole.any()
    assert drawn > 10


def test_an_unknown_rule_is_told():
    with pytest.raises((BadInput, TypeCheckError), match="opencv"):
        paste_window(np.ones((2, 2)), [0, 0, 4, 4], 8, 8, rule="opencv")


def test_a_window_has_the_runs_of_the_whole_mask():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 7, 2)
        top, left = rng.integers(0, height + 1), rng.integers(0, width + 1)
        rows, columns = rng.integers(0, height - top + 1), rng.integers(0, width - left + 1)
        window = rng.random((rows, columns)) < rng.choice([0.3, 0.8, 1])
        whole = np.zeros((height, width), bool)
        whole[top : top + rows, left : left + columns] = window
        assert rle.encode_window(window, int(top), int(left), int(height), int(width)) == rle.encode(whole)


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_window_outside_the_mask_is_told(top, left):
    with pytest.raises(BadInput, match="a window of 2x2 at row"):
        rle.encode_window(np.ones((2, 2)), top, left, 3, 4)
