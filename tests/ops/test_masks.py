"""Masks between image and box against RoIAlign and PyTorch's resizing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.ops import masks, roi

F = np.float32
H, W = 60, 80


def blobs(count=5):
    g = np.random.default_rng(0)
    return np.kron(g.random((count, 12, 16)) < 0.5, np.ones((1, 5, 5), bool))


def boxes(count=14):
    g = np.random.default_rng(1)
    corners = g.random((count, 2, 2)) * [W, H]
    result = np.concatenate([corners.min(1), corners.max(1)], -1).astype(F)
    result[:4] = [[0, 0, W, H], [-30.5, -20.5, 100, 90], [3, 3, 3, 3], [70, 50, 90, 70]]
    return result


def probabilities(count=14):
    """Smooth masks of 28 cells a side."""
    g = np.random.default_rng(2)
    coarse = g.standard_normal((count, 5, 5))
    ramp = np.clip(1 - np.abs(np.linspace(0, 4, 28)[:, None] - np.arange(5)[None]), 0, None)
    return (1 / (1 + np.exp(-3 * np.einsum("ak,nkl,bl->nab", ramp, coarse, ramp)))).astype(F)


@pytest.mark.parametrize(("ratio", "aligned"), [(0, False), (0, True), (2, False)])
def test_cropping_is_roi_align_of_the_mask(ratio, aligned):
    truth, at = blobs(), boxes()
    index = np.random.default_rng(3).integers(0, 5, len(at)).astype(np.int32)
    options = {"sampling_ratio": ratio, "aligned": aligned}
    crop = jax.jit(partial(masks.crop_masks, size=14, **options))
    targets = crop(jnp.asarray(truth), jnp.asarray(at), jnp.asarray(index))
    maps = jnp.asarray(truth[index][..., None], jnp.float32)
    align = jax.jit(partial(roi.roi_align, size=14, strides=[1], **options))
    np.testing.assert_allclose(targets, align([maps], jnp.asarray(at)[:, None])[:, 0, :, :, 0], atol=5e-5)
    assert 0.2 < float(targets.mean()) < 0.8


def test_masks_that_do_not_overlap_travel_as_one_map():
    truth = blobs(3)
    truth[1] &= ~truth[0]
    truth[2] &= ~(truth[0] | truth[1])
    ids = (truth * np.arange(1, 4)[:, None, None]).sum(0).astype(np.uint16)
    at = jnp.asarray(boxes())
    index = jnp.asarray(np.arange(len(at)) % 3, jnp.int32)
    ours, separate = (jax.jit(partial(crop, size=7)) for crop in (masks.crop_instances, masks.crop_masks))
    want = separate(jnp.asarray(truth), at, index)
    np.testing.assert_allclose(ours(jnp.asarray(ids), at, index), want, atol=1e-5)


def torchvisions_paste(torch, mask, box, side):
    """The steps of ``paste_masks_in_image`` for one mask; pixels outside the image are dropped one by one."""
    padded = torch.nn.functional.pad(torch.tensor(mask)[None, None], (1, 1, 1, 1))
    x0, y0, x1, y1 = torch.tensor(box)
    grow = (side + 2) / side
    half_w, half_h, x, y = (x1 - x0) * 0.5 * grow, (y1 - y0) * 0.5 * grow, (x1 + x0) * 0.5, (y1 + y0) * 0.5
    left, top, right, bottom = (int(v) for v in (x - half_w, y - half_h, x + half_w, y + half_h))
    size = (max(bottom - top + 1, 1), max(right - left + 1, 1))
    resized = torch.nn.functional.interpolate(padded, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
    canvas = np.zeros((H, W), F)
    rows, columns = np.arange(top, top + size[0]), np.arange(left, left + size[1])
    inside = np.ix_((rows >= 0) & (rows < H), (columns >= 0) & (columns < W))
    canvas[np.ix_(rows[(rows >= 0) & (rows < H)], columns[(columns >= 0) & (columns < W)])] = resized[inside]
    return canvas > 0.5


def test_pasting_equals_torchvisions():
    torch = pytest.importorskip("torch")
    at, soft = boxes(), probabilities()
    paste = jax.jit(partial(masks.paste_masks, height=H, width=W))
    pasted = np.asarray(paste(jnp.asarray(soft), jnp.asarray(at)))
    want = np.stack([torchvisions_paste(torch, mask, box, 28) for mask, box in zip(soft, at, strict=True)])
    assert (pasted != want).sum() <= 2
    assert 0.1 < want.mean() < 0.5
    assert pasted.dtype == bool


def test_aligned_pasting_equals_grid_sample():
    torch = pytest.importorskip("torch")
    at, soft = boxes(), probabilities()
    at[2] = [3, 3, 4, 3.5]  # a box without area is undefined there
    paste = jax.jit(partial(masks.paste_masks_aligned, height=H, width=W))
    pasted = np.asarray(paste(jnp.asarray(soft), jnp.asarray(at)))
    x0, y0, x1, y1 = torch.split(torch.tensor(at), 1, dim=1)
    y = (torch.arange(H) + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(W) + 0.5 - x0) / (x1 - x0) * 2 - 1
    places = torch.stack([x[:, None, :].expand(-1, H, -1), y[:, :, None].expand(-1, -1, W)], 3)
    sampled = torch.nn.functional.grid_sample(torch.tensor(soft)[:, None], places, align_corners=False)[:, 0]
    want = (sampled >= 0.5).numpy()
    assert (pasted != want).sum() <= 2
    assert 0.1 < want.mean() < 0.5


@pytest.mark.parametrize("paste", [masks.paste_masks, masks.paste_masks_aligned])
def test_what_is_no_detection_stays_empty(paste):
    at = np.array([[5, 5, 40, 40], [5, 5, 40, 40], [np.nan, 5, 40, 40], [5, 5, np.inf, 40], [200, 200, 220, 220]], F)
    ones = jnp.ones((5, 14, 14))
    valid = jnp.asarray([True, False, True, True, True])
    paste = jax.jit(partial(paste, height=H, width=W))
    pasted = np.asarray(paste(ones, jnp.asarray(at), valid))
    assert pasted.any((1, 2)).tolist() == [True, False, False, False, False]
    assert abs(int(pasted[0].sum()) - 35 * 35) <= 71
    before = np.asarray(paste(ones, jnp.asarray(np.array([[-40, -40, -20, -20], *[[9, 9, 9, 30]] * 4], F)), valid))
    assert not before[0].any()
    assert before[2].sum() <= 3 * 24
    both = jax.jit(jax.vmap(paste))(jnp.stack([ones, ones]), jnp.stack([jnp.asarray(at)] * 2), jnp.stack([valid] * 2))
    np.testing.assert_array_equal(both, np.stack([pasted, pasted]))


def test_boxes_that_are_not_finite_crop_nothing():
    at = jnp.asarray([[np.nan, 0, 9, 9], [0, 0, np.inf, 9], [0, 0, 80, 60]], jnp.float32)
    crop = jax.jit(partial(masks.crop_masks, size=4))
    targets = crop(jnp.ones((1, H, W), bool), at, jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(targets[:2], 0)
    np.testing.assert_allclose(targets[2], 1, atol=1e-6)
