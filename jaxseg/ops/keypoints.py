"""Keypoints as cells of a heatmap over a box, there and back (He et al. 2017, arXiv:1703.06870, section 5)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from jaxseg.ops.backend import choose

TILE = 64
"""Rows and columns of the enlarged heatmap that are looked at in one step."""

LARGEST = 2.0**14
"""Boxes are taken to be no longer, in pixels, so that a pixel of a heatmap has a 32-bit number."""


def keypoint_targets(
    keypoints: Float[Array, "p j 3"], boxes: Float[Array, "p 4"], *, size: int
) -> tuple[Int[Array, "p j"], Bool[Array, "p j"]]:
    """Return the cell of each keypoint in its box, ``row * size + column``, and True where there is one.

    Keypoints that are absent (visibility 0) or outside the box have no cell; those on its far sides lie in the last.

    >>> targets, valid = keypoint_targets(
    ...     jnp.asarray([[[3.0, 4.0, 2.0], [9.0, 9.0, 2.0]]]), jnp.asarray([[0.0, 0.0, 4.0, 8.0]]), size=4
    ... )
    >>> targets.tolist(), valid.tolist()
    ([[11, 0]], [[True, False]])

    Args:
      keypoints: x, y in pixels, and visibility.
      boxes: ``x0 y0 x1 y1``, pixels, one for each row of keypoints.
      size: rows and columns of the heatmap.
    """
    cells = []
    for axis in range(2):
        lo, hi, at = boxes[:, axis, None], boxes[:, axis + 2, None], keypoints[..., axis]
        cell = jnp.floor((at - lo) * (size / (hi - lo)))
        cells.append(jnp.where(at == hi, size - 1, cell))
    inside = (cells[0] >= 0) & (cells[0] < size) & (cells[1] >= 0) & (cells[1] < size)
    valid = inside & (keypoints[..., 2] > 0)
    column, row = (jnp.where(valid, cell, 0).astype(jnp.int32) for cell in cells)
    return row * size + column, valid


def keypoints_from_heatmaps(
    heatmaps: Float[Array, "d m m j"], boxes: Float[Array, "d 4"], valid: Bool[Array, "d"] | None = None
) -> Float[Array, "d j 3"]:
    """Return x and y of the peak of each heatmap, pixels, and its value.

    Each heatmap is enlarged to its box, rounded up to whole pixels, by cubic convolution, without a canvas that would
    hold it: what is looked at is one tile after another. Equal to torchvision's ``heatmaps_to_keypoints``, whose score
    is this value, and to detectron2's, whose score is :func:`peak_probability`.

    >>> heatmap = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(1.0)
    >>> keypoints_from_heatmaps(heatmap, jnp.asarray([[10.0, 20.0, 14.0, 24.0]])).tolist()
    [[[12.5, 21.5, 1.0]]]

    Args:
      heatmaps: scores of each keypoint over the box, before the softmax.
      boxes: ``x0 y0 x1 y1``, pixels; below one pixel they count as one.
      valid: which slots hold a detection; the others give zeros, and so do boxes that are not finite.
    """
    finite = jnp.isfinite(boxes).all(-1)
    counts = finite if valid is None else finite & valid
    boxes = jnp.where(finite[:, None], boxes.astype(jnp.float32), 0)
    extent = jnp.clip(boxes[:, 2:] - boxes[:, :2], 1, LARGEST)
    pixels = jnp.ceil(extent)
    maps = jnp.moveaxis(heatmaps.astype(jnp.float32), -1, 1)
    arguments = (maps, jnp.where(counts[:, None], pixels, 0).astype(jnp.int32))
    one = lambda pair: _peak(*pair)  # noqa: E731
    value, row, column = choose(*arguments, cpu=lambda *a: lax.map(one, a), default=lambda *a: jax.vmap(_peak)(*a))
    step, corner = extent / pixels, boxes[:, :2]
    x = (column.astype(jnp.float32) + 0.5) * step[:, :1] + corner[:, :1]
    y = (row.astype(jnp.float32) + 0.5) * step[:, 1:] + corner[:, 1:]
    return jnp.where(counts[:, None, None], jnp.stack([x, y, value], -1), 0)


def peak_probability(heatmaps: Float[Array, "d m m j"], peaks: Float[Array, "d j"]) -> Float[Array, "d j"]:
    """Return the softmax of each heatmap at its enlarged peak: detectron2's score, which may exceed 1.

    >>> peak_probability(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 1))).tolist()
    [[0.25]]

    Args:
      heatmaps: as of ``keypoints_from_heatmaps``.
      peaks: its third column.
    """
    return jnp.exp(peaks - jax.nn.logsumexp(heatmaps, axis=(1, 2)))


def _peak(maps: Array, pixels: Array) -> tuple[Array, Array, Array]:
    """Largest value of each map ``[j m m]`` on so many columns and rows, and where it is: the first of equals."""
    width, height = pixels[0], pixels[1]
    joints, side = maps.shape[:2]
    local = np.arange(TILE, dtype=np.int32)

    def over_rows(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        y = i * TILE + local
        strip = jnp.einsum("yk,jkl->jyl", _cubic(y, height, side), maps, precision=lax.Precision.HIGHEST)

        def over_columns(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            x = k * TILE + local
            tile = jnp.einsum("jyl,xl->jyx", strip, _cubic(x, width, side), precision=lax.Precision.HIGHEST)
            inside = (y < height)[:, None] & (x < width)[None, :]
            tile = jnp.where(inside[None], tile, -jnp.inf)
            place = jnp.broadcast_to((y[:, None] * width + x[None, :])[None], tile.shape)
            value = tile.max((1, 2))
            first = jnp.where(tile == value[:, None, None], place, _NOWHERE).min((1, 2))
            better = (value > best[0]) | ((value == best[0]) & (first < best[1]))
            return jnp.where(better, value, best[0]), jnp.where(better, first, best[1])

        return lax.fori_loop(0, -(-width // TILE), over_columns, best)

    nothing = (jnp.full(joints, -jnp.inf, jnp.float32), jnp.full(joints, _NOWHERE, jnp.int32))
    value, place = lax.fori_loop(0, -(-height // TILE), over_rows, nothing)
    divisor = jnp.maximum(width, 1)
    return value, place // divisor, place % divisor


_NOWHERE = np.int32(np.iinfo(np.int32).max)


def _cubic(pixel: Array, count: Array, side: int) -> Array:
    """Weights ``[pixel side]`` of cubic convolution from ``side`` cells, edges repeated, to ``count`` pixels."""
    scale = side / jnp.maximum(count, 1).astype(jnp.float32)
    at = (pixel.astype(jnp.float32) + 0.5) * scale - 0.5
    low = jnp.floor(at)
    t = at - low
    cells = np.arange(side, dtype=np.int32)[None, :]
    weights = jnp.zeros((len(pixel), side), jnp.float32)
    for offset, weight in ((-1, _outer(t + 1)), (0, _inner(t)), (1, _inner(1 - t)), (2, _outer(2 - t))):
        cell = jnp.clip(low.astype(jnp.int32) + offset, 0, side - 1)
        weights = weights + jnp.where(cells == cell[:, None], weight[:, None], 0)
    return weights


def _inner(t: Array) -> Array:
    """Of cells less than one away."""
    return ((_A + 2) * t - (_A + 3)) * t * t + 1


def _outer(t: Array) -> Array:
    """Of cells between one and two away."""
    return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A


_A = -0.75
"""The slope of cubic convolution that PyTorch and OpenCV take."""
