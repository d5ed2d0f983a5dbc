"""Contrast-limited equalisation against its definition, pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.errors import BadInput
from jaxseg.ops.clahe import clahe


def curve(pixels, clip):
    """OpenCV's way of clipping: the rest that does not spread evenly goes to every step-th level."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    limit = max(int(clip * pixels.size / 256), 1)
    cut = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + cut // 256
    rest, step = cut % 256, max(256 // max(cut % 256, 1), 1)
    for level in range(0, 256, step):
        if rest > 0:
            counts[level] += 1
            rest -= 1
    return np.rint(np.cumsum(counts) * 255 / pixels.size)


def reference(image, tiles, clip):
    h, w = image.shape
    more = [0, 0] if h % tiles == 0 == w % tiles else [tiles - h % tiles, tiles - w % tiles]
    padded = np.pad(image, ((0, more[0]), (0, more[1])), mode="reflect")
    th, tw = padded.shape[0] // tiles, padded.shape[1] // tiles
    parts = {(i, j): padded[i * th :, j * tw :][:th, :tw] for i in range(tiles) for j in range(tiles)}
    curves = {place: curve(part, clip) for place, part in parts.items()}
    out = np.zeros(image.shape)
    for y, x in np.ndindex(h, w):
        fy, fx = y / th - 0.5, x / tw - 0.5
        for i, share in ((int(np.floor(fy)), 1 - fy % 1), (int(np.floor(fy)) + 1, fy % 1)):
            for j, part in ((int(np.floor(fx)), 1 - fx % 1), (int(np.floor(fx)) + 1, fx % 1)):
                place = (min(max(i, 0), tiles - 1), min(max(j, 0), tiles - 1))
                out[y, x] += share * part * curves[place][image[y, x]]
    return out


@pytest.mark.parametrize(("size", "tiles", "clip"), [((32, 48), 8, 2.0), ((37, 41), 4, 3.0), ((40, 42), 8, 1.0)])
def test_it_follows_its_definition(size, tiles, clip):
    image = np.random.default_rng(0).normal(120, 30, size).clip(0, 255).astype(np.uint8)
    ours = jax.jit(lambda x: clahe(x, tiles=tiles, clip=clip))(jnp.asarray(image, jnp.float32)[None])[0]
    assert np.abs(np.asarray(ours) - reference(image, tiles, clip)).max() < 0.51  # what rounding may do, and no more


def test_a_small_image_is_refused():
    with pytest.raises(BadInput, match="5x40 is too small for 8 tiles"):
        clahe(jnp.zeros((1, 5, 40)))
