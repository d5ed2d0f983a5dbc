"""RoI warping: a box of a map resampled, with a gradient for the box (Dai et al. 2016, arXiv:1512.04412).

Each cell of the result is one bilinear sample; the hats of equation 7 are the same along rows and along columns. The
gradient with respect to the box is exact: the slope of the interpolated map at every sample.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from jaxseg.ops import roi_forms
from jaxseg.ops.backend import choose, current
from jaxseg.ops.roi_samples import FARTHEST, Axis, divide, sample_axis
from jaxseg.ops.window import Size, pair


def roi_warp(
    x: Float[Array, "b h w c"],
    boxes: Float[Array, "b p 4"],
    valid: Bool[Array, "b p"] | None = None,
    *,
    size: Size,
    stride: float | int,
) -> Float[Array, "b p y x c"]:
    """Return ``size`` samples of every box, the first on its corner: cell i of n lies at ``x0 + i / n * (x1 - x0)``.

    Differentiable in the maps and in the boxes. Corners are not rounded. Samples more than one cell outside the map are
    zero; those less outside are its edge.

    >>> x = jnp.arange(4.0)[None, None, :, None] + jnp.zeros((1, 4, 4, 1))
    >>> box = jnp.asarray([[[0.5, 0.0, 2.5, 2.0]]])
    >>> roi_warp(x, box, size=2, stride=1)[0, 0, 0, :, 0].tolist()
    [0.5, 1.5]
    >>> jax.grad(lambda box: roi_warp(x, box, size=2, stride=1)[0, 0, 0, 1, 0])(box)[0, 0].tolist()
    [0.5, 0.0, 0.5, 0.0]

    Args:
      x: maps.
      boxes: ``x0 y0 x1 y1``, pixels of the image.
      valid: which slots hold a box; the others give zeros, and so do boxes with a coordinate that is not finite.
      size: rows and columns of samples.
      stride: pixels to a cell.

    Reference: section 3.2, equations 5 to 8; the authors' layer rounds the corners and therefore has no exact gradient.
    """
    finite = jnp.isfinite(boxes).all(-1)
    counts = finite if valid is None else finite & valid
    boxes = jnp.where(counts[..., None], boxes.astype(jnp.float32), 0)
    how = _How(pair(size, "size"), float(stride), x.shape, x.dtype, current())
    out: Array = _warp(how, x, boxes, jnp.where(counts, 0, 1))
    return out.reshape(*boxes.shape[:2], *how.size, x.shape[3])


class _How(NamedTuple):
    """Static arguments."""

    size: tuple[int, int]
    stride: float
    shape: tuple[Any, ...]
    dtype: np.dtype
    backend: str


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _warp(how: _How, x: Array, boxes: Array, level: Array) -> Array:
    return _read(how, x, _axis(how, boxes, 0), _axis(how, boxes, 1), level)


def _warp_forward(how: _How, x: Array, boxes: Array, level: Array) -> tuple[Array, tuple[Array, ...]]:
    return _warp(how, x, boxes, level), (x, boxes, level)


def _warp_backward(how: _How, kept: tuple[Array, ...], dy: Array) -> tuple[Array, Array, None]:
    x, boxes, level = kept
    rows, columns = (_axis(how, boxes, axis) for axis in (0, 1))
    cpu, default = roi_forms.samples_gradient_by_loop, roi_forms.samples_gradient_at_once
    cpu, default = partial(cpu, (how.shape,)), partial(default, (how.shape,))
    (dx,) = choose(dy, rows, columns, level, cpu=cpu, default=default, backend=how.backend)
    sides = []
    for axis in (0, 1):
        read = (_slope(how, boxes, 0), columns) if axis == 0 else (rows, _slope(how, boxes, 1))
        slope = _read(how, x, *read, level).astype(jnp.float32)
        moved = (slope * dy.astype(jnp.float32)).sum(-1).reshape(*level.shape, *how.size).sum(3 - axis)
        share = np.arange(how.size[axis], dtype=np.float32)[None, None] / how.size[axis]
        sides.append([(moved * part).sum(-1) / how.stride for part in (1 - share, share)])
    (y0, y1), (x0, x1) = sides
    return dx.astype(how.dtype), jnp.stack([x0, y0, x1, y1], -1), None


_warp.defvjp(_warp_forward, _warp_backward)


def _read(how: _How, x: Array, rows: Axis, columns: Axis, level: Array) -> Array:
    forms = {"cpu": roi_forms.samples_by_loop, "default": roi_forms.samples_at_once}
    return choose((x,), rows, columns, level, **forms, backend=how.backend)


def _axis(how: _How, boxes: Array, axis: int) -> Axis:
    """Both cells of each sample along rows (0) or columns (1), and their weights."""
    lo, hi = (jnp.clip(boxes[..., side] / how.stride, -FARTHEST, FARTHEST) for side in (1 - axis, 3 - axis))
    step = divide(hi - lo, how.size[axis])
    length = jnp.full(lo.shape, how.shape[1 + axis], jnp.int32)
    return sample_axis(lo - 0.5 * step, step, length, how.size[axis], 1)  # samples are in the middle of their bins


def _slope(how: _How, boxes: Array, axis: int) -> Axis:
    """The same cells with the derivatives of the weights: difference of both, nothing where a sample is on the edge."""
    found = _axis(how, boxes, axis)
    apart = found.cells[..., 1:] > found.cells[..., :1]
    between = (found.weights[..., 1:] > 0) | (found.cells[..., :1] > 0)
    inside = found.weights.sum(-1, keepdims=True) > 0
    return found._replace(
        weights=jnp.where(apart & between & inside, np.asarray([-1, 1], np.float32)[None, None, None], 0)
    )
