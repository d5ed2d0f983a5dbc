"""Contrast-limited adaptive histogram equalisation (Zuiderveld 1994, Graphics Gems IV), with OpenCV's rounding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxseg.errors import BadInput

LEVELS = 256


def clahe(x: Float[Array, "b h w"], *, tiles: int = 8, clip: float = 2.0) -> Float[Array, "b h w"]:
    """Equalise the contrast of grey images tile by tile.

    Each of ``tiles`` x ``tiles`` parts gets a curve from the clipped histogram of its pixels; a pixel is mapped by the
    bilinear mean of the four nearest curves.

    >>> low_contrast = jnp.tile(jnp.arange(100.0, 116.0), (1, 16, 1))
    >>> clahe(low_contrast, tiles=2).max() > low_contrast.max()
    Array(True, dtype=bool)

    Args:
      x: integers from 0 to 255.
      tiles: number of parts along each side; the image is mirrored until they divide it.
      clip: counts above ``clip`` times a histogram's mean are cut and redistributed.

    Returns:
      Integers from 0 to 255.

    Raises:
      BadInput: the image is too small to be mirrored that far.
    """
    h, w = x.shape[1:]
    missing = (-h % tiles, -w % tiles) if h % tiles or w % tiles else (0, 0)
    if missing != (0, 0):  # OpenCV: where one side needs it the other grows by a whole row of tiles too
        missing = (tiles - h % tiles, tiles - w % tiles)
    if min(h, w) <= max(missing):
        raise BadInput(f"an image of {h}x{w} is too small for {tiles} tiles along each side")
    padded = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1])), mode="reflect")
    rows, columns = padded.shape[1] // tiles, padded.shape[2] // tiles
    parts = padded.reshape(-1, tiles, rows, tiles, columns).transpose(0, 1, 3, 2, 4)
    curves = jax.vmap(lambda part: _curve(part, clip))(parts.reshape(-1, rows * columns).astype(jnp.int32))
    curves = curves.reshape(-1, tiles, tiles, LEVELS)
    (top, bottom, down), (left, right, across) = _around(h, rows, tiles), _around(w, columns, tiles)
    down, across = down[None, :, None], across[None, None]
    level = x.astype(jnp.int32)

    def at(tile_rows: jax.Array, tile_columns: jax.Array) -> jax.Array:
        return jax.vmap(lambda curve, v: curve[tile_rows[:, None], tile_columns[None], v])(curves, level)

    above = at(top, left) * (1 - across) + at(top, right) * across
    below = at(bottom, left) * (1 - across) + at(bottom, right) * across
    return jnp.clip(jnp.round(above * (1 - down) + below * down), 0, LEVELS - 1)


def _curve(pixels: jax.Array, clip: float) -> jax.Array:
    """Return the 256 output levels of one tile."""
    counts = jnp.zeros(LEVELS, jnp.int32).at[pixels].add(1)
    limit = max(int(clip * pixels.size / LEVELS), 1)
    cut = jnp.sum(jnp.maximum(counts - limit, 0))
    counts = jnp.minimum(counts, limit) + cut // LEVELS
    rest = cut % LEVELS
    step = jnp.maximum(LEVELS // jnp.maximum(rest, 1), 1)
    place = jnp.arange(LEVELS)
    counts += ((place % step == 0) & (place // step < rest)).astype(jnp.int32)
    return jnp.clip(jnp.round(jnp.cumsum(counts).astype(jnp.float32) * ((LEVELS - 1) / pixels.size)), 0, LEVELS - 1)


def _around(size: int, tile: int, tiles: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return, per pixel along an axis, the tiles before and after it and the weight of the second."""
    place = jnp.arange(size, dtype=jnp.float32) * (1 / tile) - 0.5
    first = jnp.floor(place)
    near = place - first
    first = first.astype(jnp.int32)
    return jnp.clip(first, 0, tiles - 1), jnp.clip(first + 1, 0, tiles - 1), near
