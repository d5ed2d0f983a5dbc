"""Position-sensitive RoI pooling: each part of a box reads channels of its own (Dai et al. 2016, arXiv:1605.06409).

The maps come in groups of channels, one for each of ``groups`` by ``groups`` parts of a box; the bins of a part are
means of cells of its group alone. Bins are as Caffe's and MXNet's operators have them: corners rounded to whole pixels,
all cells that a bin touches counted whole.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

from jaxseg.errors import BadInput
from jaxseg.ops import roi_forms
from jaxseg.ops.backend import choose, current
from jaxseg.ops.roi_samples import Axis, divide

FARTHEST = 2.0**20
"""Corners of boxes are clipped to so many pixels."""


def ps_roi_pool(
    x: Float[Array, "b h w c"],
    boxes: Float[Array, "b p 4"],
    valid: Bool[Array, "b p"] | None = None,
    *,
    size: int,
    groups: int,
    stride: float | int,
) -> Float[Array, "b p y x k"]:
    """Return the mean of the cells in each of ``size`` by ``size`` bins of every box, each part's from its own group.

    There is no gradient for the boxes.

    >>> x = jnp.tile(jnp.asarray([10.0, 20.0, 30.0, 40.0]), (1, 4, 4, 1))
    >>> ps_roi_pool(x, jnp.asarray([[[0.0, 0.0, 4.0, 4.0]]]), size=2, groups=2, stride=1)[0, 0, :, :, 0].tolist()
    [[10.0, 20.0], [30.0, 40.0]]

    Args:
      x: maps of ``groups * groups * k`` channels: the first k are of the part at the top left, the next of its right
        neighbour.
      boxes: ``x0 y0 x1 y1``, pixels of the image, half-open.
      valid: which slots hold a box; the others give zeros, and so do boxes with a coordinate that is not finite.
      size: rows and columns of bins, a multiple of ``groups``. A bin that lies outside the map gives zero.
      groups: rows and columns of parts.
      stride: pixels to a cell.

    Raises:
      BadInput: channels or bins do not divide into the groups.

    Reference: MXNet's ``PSROIPooling``; section 3.1 of FCIS (Li et al. 2017, arXiv:1611.07709).
    """
    b, h, w, c = x.shape
    if c % groups**2 or size % groups:
        raise BadInput(f"{c} channels and {size} bins do not divide into {groups} by {groups} groups")
    finite = jnp.isfinite(boxes).all(-1)
    boxes = lax.stop_gradient(jnp.where(finite[..., None], boxes.astype(jnp.float32), 0))
    counts = finite if valid is None else finite & valid
    scale, each = np.float32(1 / stride), size // groups
    rows = _runs(boxes[..., 1], boxes[..., 3], scale, size, h)
    columns = _runs(boxes[..., 0], boxes[..., 2], scale, size, w)
    parts = x.reshape(b, h, w, groups, groups, c // groups**2).transpose(0, 3, 4, 1, 2, 5)
    parts = parts.reshape(b * groups**2, h, w, -1)
    level = jnp.repeat(jnp.where(counts, 0, 1), groups**2, axis=0)
    how = _How(parts.shape, parts.dtype, 2 * each, current())
    out: Array = _mean(how, parts, _by_part(rows, groups, 1), _by_part(columns, groups, 2), level)
    out = out.reshape(b, groups, groups, -1, each, each, out.shape[-1])
    return out.transpose(0, 3, 1, 4, 2, 5, 6).reshape(b, -1, size, size, out.shape[-1])


def _runs(lo: Array, hi: Array, scale: np.float32, bins: int, length: Any) -> Axis:
    """Cells of each bin along an axis, each of which weighs the same."""
    away = lax.RoundingMethod.AWAY_FROM_ZERO
    lo, hi = (lax.round(jnp.clip(side, -FARTHEST, FARTHEST), away) * scale for side in (lo, hi))
    size = divide(jnp.maximum(hi - lo, np.float32(0.1)), bins)[..., None]
    at = np.arange(bins, dtype=np.float32)[None, None]
    edges = (jnp.floor(at * size + lo[..., None]), jnp.ceil((at + 1) * size + lo[..., None]))
    first, end = (jnp.clip(edge.astype(jnp.int32), 0, length) for edge in edges)
    end = jnp.maximum(first, end)
    cell = jnp.arange(length, dtype=jnp.int32)[None, None, None]
    inside = (cell >= first[..., None]) & (cell < end[..., None])
    weights = jnp.where(inside, 1 / jnp.maximum(end - first, 1).astype(jnp.float32)[..., None], 0)
    return Axis(jnp.stack([first, end], -1), weights, jnp.full(lo.shape, length, jnp.int32))


def _by_part(axis: Axis, groups: int, place: int) -> Axis:
    """Bins of each part for themselves, the parts of an image one after another; ``place`` 1 is down and 2 across."""

    def apart(a: Array) -> Array:
        b, p, bins, n = a.shape
        a = a.reshape(b, p, groups, bins // groups, n).swapaxes(1, 2)
        a = jnp.broadcast_to(jnp.expand_dims(a, 3 - place), (b, groups, groups, p, bins // groups, n))
        return a.reshape(b * groups**2, p, bins // groups, n)

    return Axis(apart(axis.cells), apart(axis.weights), jnp.repeat(axis.length, groups**2, axis=0))


class _How(NamedTuple):
    """Static arguments."""

    shape: tuple[Any, ...]
    dtype: np.dtype
    most: int
    backend: str


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean(how: _How, parts: Array, rows: Axis, columns: Axis, level: Array) -> Array:
    cpu = partial(roi_forms.spans_by_loop, most=how.most)
    return choose((parts,), rows, columns, level, cpu=cpu, default=roi_forms.spans_at_once, backend=how.backend)


def _mean_forward(how: _How, parts: Array, *read: Any) -> tuple[Array, Any]:
    return _mean(how, parts, *read), read


def _mean_backward(how: _How, read: Any, dy: Array) -> tuple[Array, None, None, None]:
    cpu, default = roi_forms.spans_gradient_by_loop, roi_forms.spans_gradient_at_once
    cpu, default = partial(cpu, (how.shape,)), partial(default, (how.shape,))
    (dx,) = choose(dy, *read, cpu=cpu, default=default, backend=how.backend)
    return dx.astype(how.dtype), None, None, None


_mean.defvjp(_mean_forward, _mean_backward)
